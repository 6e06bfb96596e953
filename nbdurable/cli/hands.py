"""What a person does to runs: `cancel`, `kill`, `pause`, `resume`, `restart`, `purge`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, cast

import click

from nbdurable.cli.asking import destructive, dry_run_option, is_meant
from nbdurable.cli.exits import FAILED, refusal_of
from nbdurable.cli.owner import Reached, ask
from nbdurable.cli.words import common, write_json
from nbdurable.client.engine import EngineClient
from nbdurable.client.picture import short_id, status_of
from nbdurable.client.views import InvocationView
from nbdurable.errors import ConflictError, HttpError, InvocationNotFoundError

Revision = int | Literal["keep", "latest"]
Deed = Callable[[EngineClient, InvocationView], Awaitable[str | None]]


def _do(
    journal: Path | None,
    runs: tuple[str, ...],
    verb: str,
    deed: Deed,
    *,
    as_json: bool,
    dry_run: bool,
    yes: bool = True,
) -> None:
    """All are found before anything is done to the first, so that a typing error changes nothing.

    What a deed returns is the id that it came to, if that is another.
    """

    async def find(at_hand: Reached) -> list[InvocationView]:
        return [await at_hand.client.find(run) for run in runs]

    async def act(at_hand: Reached) -> list[dict[str, str]]:
        client = at_hand.client
        views = [await client.find(run) for run in meant]
        return [await _done(client, view, verb, deed) for view in views]

    meant = runs
    if dry_run or not yes:
        # The journal is not held while somebody thinks; then those are meant that were shown.
        views = ask(journal, find)
        deeds = [f"{verb} {view.target} ({short_id(view.id)}, {status_of(view)})" for view in views]
        if not is_meant(deeds, dry_run=dry_run, as_json=as_json):
            return
        meant = tuple(view.id for view in views)
    done = ask(journal, act)
    if as_json:
        write_json(done)
    for one in done:
        if "refused" in one:
            click.echo(f"{verb} {one['target']}: {one['refused']}", err=True)
        elif not as_json:
            click.echo(f"{verb} {one['target']}: {one['status']} ({short_id(one['id'])})")
    if any("refused" in one for one in done):
        raise SystemExit(FAILED)


async def _done(
    client: EngineClient, view: InvocationView, verb: str, deed: Deed
) -> dict[str, str]:
    """What became of one run; that it is refused keeps the others from nothing."""
    try:
        other = await deed(client, view)
        if verb == "purge":
            return {"id": view.id, "target": view.target, "status": "forgotten"}
        now = await client.invocation(other or view.id)
    except (ConflictError, HttpError, InvocationNotFoundError) as error:
        return {"id": view.id, "target": view.target, "refused": refusal_of(error).message}
    return {"id": now.id, "target": now.target, "status": status_of(now)}


@click.command
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@destructive
@common
def cancel(
    runs: tuple[str, ...], dry_run: bool, yes: bool, journal: Path | None, as_json: bool
) -> None:
    """End runs in order: the next await raises TerminalError, and the code may undo.

    RUN is an id, the beginning of one, SERVICE/KEY, or a workflow's key.
    """

    async def deed(client: EngineClient, view: InvocationView) -> None:
        await client.cancel(view.id)

    _do(journal, runs, "cancel", deed, as_json=as_json, dry_run=dry_run, yes=yes)


@click.command
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@destructive
@common
def kill(
    runs: tuple[str, ...], dry_run: bool, yes: bool, journal: Path | None, as_json: bool
) -> None:
    """End runs at once, without running any of their code; prefer `cancel`."""

    async def deed(client: EngineClient, view: InvocationView) -> None:
        await client.kill(view.id)

    _do(journal, runs, "kill", deed, as_json=as_json, dry_run=dry_run, yes=yes)


@click.command
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@dry_run_option
@common
def pause(runs: tuple[str, ...], dry_run: bool, journal: Path | None, as_json: bool) -> None:
    """Keep runs from going on until they are resumed."""

    async def deed(client: EngineClient, view: InvocationView) -> None:
        await client.pause(view.id)

    _do(journal, runs, "pause", deed, as_json=as_json, dry_run=dry_run)


class _RevisionType(click.ParamType[Revision]):
    """`keep`, `latest`, or the number of a revision."""

    name = "REVISION"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Revision:
        text = str(value)
        if text in ("keep", "latest"):
            return cast("Literal['keep', 'latest']", text)
        if not (text.isascii() and text.isdigit()):
            self.fail(f"{text!r} is none; write keep, latest, or a number", param, ctx)
        return int(text)


@click.command
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--revision", type=_RevisionType(), default="keep", help="Of its code; keep.")
@click.option("--accept", is_flag=True, help="Of a mismatch: let what is recorded stand.")
@dry_run_option
@common
def resume(
    runs: tuple[str, ...],
    revision: Revision,
    accept: bool,
    dry_run: bool,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Try again now what is paused or backs off, perhaps on another revision of its code."""

    async def deed(client: EngineClient, view: InvocationView) -> None:
        if accept:
            await client.accept_mismatch(view.id)
        else:
            await client.resume(view.id, revision)

    _do(journal, runs, "resume", deed, as_json=as_json, dry_run=dry_run)


@click.command
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--from-entry", type=click.IntRange(min=1), default=1, help="Take over those before.")
@click.option("--revision", type=_RevisionType(), default="latest", help="Of its code; latest.")
@dry_run_option
@common
def restart(
    runs: tuple[str, ...],
    from_entry: int,
    revision: Revision,
    dry_run: bool,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Start finished runs anew, with the same input, as new runs.

    With --from-entry 7 the new run takes over the journal's entries 1 to 6, and does not run those
    steps again.
    """

    async def deed(client: EngineClient, view: InvocationView) -> str:
        return await client.restart_as_new(view.id, from_entry, revision)

    _do(journal, runs, "restart", deed, as_json=as_json, dry_run=dry_run)


@click.command
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@destructive
@common
def purge(
    runs: tuple[str, ...], dry_run: bool, yes: bool, journal: Path | None, as_json: bool
) -> None:
    """Forget finished runs; with a workflow's run, its state and promises too."""

    async def deed(client: EngineClient, view: InvocationView) -> None:
        await client.purge(view.id)

    _do(journal, runs, "purge", deed, as_json=as_json, dry_run=dry_run, yes=yes)
