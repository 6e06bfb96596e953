"""Handlers that start by the clock: `schedule add | ls | show | pause | resume | …`."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

import click
import msgspec

from nbdurable.cli.asking import destructive, is_meant
from nbdurable.cli.calls import Called, TargetType, check_input, handler_at, payload_of
from nbdurable.cli.iris import leave_out_iris
from nbdurable.cli.owner import Reached, ask
from nbdurable.cli.registered import known_service
from nbdurable.cli.words import DurationType, common, write_json, write_table
from nbdurable.client.picture import duration
from nbdurable.core.builtin import NOTEBOOK_SERVICE
from nbdurable.runs.request import HANDLER, request_of
from nbdurable.runs.sending import offer_notebooks
from nbdurable.schedules.keeping import Schedules, ms_of, spec_of
from nbdurable.schedules.service import Kept
from nbdurable.schedules.service import view as view_of
from nbdurable.schedules.standing import EVENTS
from nbdurable.schedules.times import check
from nbdurable.sharing.starting import start_owner

_NOBODY: Final = "nothing is running that could; start `nbdurable up`"
_KINDS: Final[dict[str, Literal["service", "object", "workflow"]]] = {
    "service": "service",
    "virtual_object": "object",
    "workflow": "workflow",
}
_name = click.argument("name")


class _TargetOrNotebook(TargetType):
    """What is called; or a notebook, as the key of the one workflow that all of them are."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Called:
        if isinstance(value, str) and value.endswith(".ipynb"):
            return Called(NOTEBOOK_SERVICE, value, HANDLER)
        return super().convert(value, param, ctx)


@click.group
def schedule() -> None:
    """Start handlers by the clock, and look at what will start."""


@schedule.command
@_name
@click.argument("target", type=_TargetOrNotebook())
@click.argument("when")
@click.argument("value", metavar="[INPUT]", required=False)
@click.option("--tz", default="UTC", show_default=True, help="Whose clock, e.g. Europe/Berlin.")
@click.option(
    "--catch-up",
    type=click.Choice(["none", "latest", "all"]),
    default="latest",
    show_default=True,
    help="What is made up for that was missed.",
)
@click.option("--max-staleness", type=DurationType(), help="What is later is not made up for.")
@click.option(
    "--overlap",
    type=click.Choice(["skip", "queue", "cancel-previous"]),
    default="skip",
    show_default=True,
    help="When the run before goes on; what `all` makes up for waits for it.",
)
@click.option("--jitter", type=DurationType(), help="Begin up to so much later.")
@click.option(
    "--notify",
    metavar="WHO",
    help="Told as JSON how runs end: a URL, a command, or handler:Ops/told.",
)
@click.option(
    "--notify-on",
    type=click.Choice(EVENTS),
    multiple=True,
    default=("failed",),
    show_default=True,
)
@click.option("--no-start", is_flag=True, help="Start no process that keeps it.")
@common
def add(
    name: str,
    target: Called,
    when: str,
    value: str | None,
    tz: str,
    catch_up: str,
    max_staleness: timedelta | None,
    overlap: str,
    jitter: timedelta | None,
    notify: str | None,
    notify_on: tuple[str, ...],
    no_start: bool,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Start TARGET by the clock, under NAME; a NAME that is there already is changed.

    WHEN is cron as '0 7 * * 1-5', an alias as @daily, or 'every 10m'. TARGET and INPUT are those of
    `nbdurable call`; or a notebook, and its parameters. Each run of a workflow or of a notebook has
    the key NAME@TIME; in a text of INPUT, {fire_date} and {fire_time} stand for those of the fire.
    If nobody has the journal, `nbdurable up` is started to keep it.
    """
    # Before a journal is looked for.
    check(when, tz)
    payload, notebook = payload_of(value), None
    if target.service == NOTEBOOK_SERVICE and target.key is not None:
        leave_out_iris()
        from nbdurable.batch.command import check_many

        notebook = Path.cwd() / target.key
        check_many(notebook, [request_of(notebook, notebook.parent, payload).parameters])

    async def work(at_hand: Reached) -> tuple[dict[str, Any], bool]:
        client = at_hand.client
        called = target
        if notebook is not None:
            called, argument = await _notebook(at_hand, notebook, payload)
        else:
            argument = payload
        kind = _KINDS[(await known_service(client, called.service)).type]
        if kind != "workflow":
            check_input(called, await handler_at(client, called), argument)
        spec = spec_of(
            (kind, called.service, called.key, called.handler),
            when,
            argument,
            tz=tz,
            catch_up=catch_up,
            max_staleness_ms=ms_of(max_staleness),
            overlap=overlap,
            jitter_ms=ms_of(jitter) or 0,
            notify=notify,
            notify_on=notify_on,
        )
        kept = await Schedules(client).put(name, spec)
        return _view(at_hand, name, kept), at_hand.owner is None

    view, is_alone = ask(journal, work, begins=notebook is not None)
    if is_alone and not no_start:
        view["kept_by"] = f"`nbdurable up` (pid {start_owner(journal)})"
    _show(view, as_json=as_json)


@schedule.command
@common
def ls(journal: Path | None, as_json: bool) -> None:
    """List schedules: when each fires next, when it last did, and what is overdue."""

    async def look(at_hand: Reached) -> list[dict[str, Any]]:
        kept = await Schedules(at_hand.client).all()
        return [_view(at_hand, name, one) for name, one in kept.items()]

    views = ask(journal, look)
    if as_json:
        write_json(views)
        return
    rows = [
        (
            one["name"],
            one["when"],
            one["called"],
            _next(one),
            one["last"] or "never",
            one["kept_by"],
        )
        for one in views
    ]
    write_table(("NAME", "WHEN", "TARGET", "NEXT", "LAST", "BY"), rows)


@schedule.command
@_name
@common
def show(name: str, journal: Path | None, as_json: bool) -> None:
    """Show a schedule: what it is, what runs, and how the last runs ended."""
    _show(_ask(journal, name, Schedules.show), as_json=as_json)


@schedule.command
@_name
@common
def pause(name: str, journal: Path | None, as_json: bool) -> None:
    """Fire no more until it is resumed; what runs goes on."""
    _show(_ask(journal, name, Schedules.pause), as_json=as_json)


@schedule.command
@_name
@common
def resume(name: str, journal: Path | None, as_json: bool) -> None:
    """Fire again; what was missed is made up for as the schedule says."""
    _show(_ask(journal, name, Schedules.resume), as_json=as_json)


@schedule.command
@_name
@common
def trigger(name: str, journal: Path | None, as_json: bool) -> None:
    """Start a run now, whatever the clock says, and print its id."""
    run = ask(journal, lambda at_hand: Schedules(at_hand.client).trigger(name))
    if as_json:
        write_json({"name": name, "run": run})
    else:
        click.echo(run)


@schedule.command
@_name
@click.option("--days", type=click.IntRange(min=1), required=True, help="How many days back.")
@common
def backfill(name: str, days: int, journal: Path | None, as_json: bool) -> None:
    """Start the runs of the past days; those that have run do not run again."""
    runs = ask(journal, lambda at_hand: Schedules(at_hand.client).backfill(name, days))
    if as_json:
        write_json({"name": name, "runs": runs})
    else:
        click.echo("\n".join(runs))


@schedule.command
@_name
@destructive
@common
def rm(name: str, dry_run: bool, yes: bool, journal: Path | None, as_json: bool) -> None:
    """Forget a schedule; what runs goes on."""
    if dry_run or not yes:
        view = _ask(journal, name, Schedules.show)
        deed = f"forget {name} ({view['when']} {view['tz']}, {view['called']})"
        if not is_meant([deed], dry_run=dry_run, as_json=as_json):
            return
    ask(journal, lambda at_hand: Schedules(at_hand.client).remove(name))
    if as_json:
        write_json({"name": name})


async def _notebook(at_hand: Reached, path: Path, payload: bytes) -> tuple[Called, bytes]:
    """The workflow that runs it, and what that is sent; the path is as seen from here."""
    await offer_notebooks(at_hand.client)
    request = request_of(path, at_hand.path.parent, payload)
    return Called(NOTEBOOK_SERVICE, None, HANDLER), msgspec.json.encode(request)


def _ask(
    journal: Path | None, name: str, deed: Callable[[Schedules, str], Awaitable[Kept]]
) -> dict[str, Any]:
    async def work(at_hand: Reached) -> dict[str, Any]:
        return _view(at_hand, name, await deed(Schedules(at_hand.client), name))

    return ask(journal, work)


def _view(at_hand: Reached, name: str, kept: Kept) -> dict[str, Any]:
    view = view_of(name, kept, at_hand.client.now_ms())
    owner = at_hand.owner
    view["kept_by"] = _NOBODY if owner is None else f"{owner.program} (pid {owner.pid})"
    return view


def _show(view: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json(view)
        return
    click.echo(f"{view['name']}  {view['when']} {view['tz']}  {view['called']}")
    if view["input"] not in (None, {}):
        click.echo(f"input    {msgspec.json.encode(view['input']).decode()}")
    by = "; " if view["kept_by"] == _NOBODY else ", by "
    click.echo(f"next     {_next(view)}{by}{view['kept_by']}")
    click.echo(f"last     {view['last'] or 'never'}")
    click.echo(f"policy   {_policy(view)}")
    if view["notify"]:
        click.echo(f"tells    {view['notify']} of {', '.join(view['notify_on'])}")
    if view["missed"] or view["skipped"]:
        click.echo(f"left out {view['missed']} missed, {view['skipped']} while another ran")
    for run in view["running"]:
        click.echo(f"running  {run}")
    for run in view["stalled"]:
        click.echo(f"stalled  {run}; it has failed: {_resume(view, run)}")
    for run in view["queued"]:
        click.echo(f"queued   {run}")
    for run in view["ended"]:
        click.echo(f"ended    {run['id']}  {run['failure'] or 'done'}")


def _policy(view: dict[str, Any]) -> str:
    """In the words of its options."""
    parts = [f"catch up {view['catch_up']}", f"overlap {view['overlap']}"]
    if view["max_staleness_ms"] is not None:
        parts.append(f"max staleness {duration(view['max_staleness_ms'])}")
    if view["jitter_ms"]:
        parts.append(f"jitter {duration(view['jitter_ms'])}")
    return ", ".join(parts)


def _resume(view: dict[str, Any], run: str) -> str:
    if view["target"].startswith(f"{NOTEBOOK_SERVICE}/"):
        return f"correct the notebook, then nbdurable runs resume {shlex.quote(run)}"
    return "nbdurable ls --status paused says what to do"


def _next(view: dict[str, Any]) -> str:
    if view["paused"]:
        return "paused"
    return f"{view['next'] or 'never'}{' (overdue)' if view['overdue'] else ''}"
