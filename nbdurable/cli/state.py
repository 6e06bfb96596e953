"""The state of a key, to look at and to change by hand: `state get | set | clear`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from nbdurable.cli.asking import destructive, is_meant
from nbdurable.cli.exits import NOT_FOUND, Refusal
from nbdurable.cli.owner import Reached, ask
from nbdurable.cli.registered import known_service
from nbdurable.cli.words import common, write_json, write_table
from nbdurable.client.answers import typed_value
from nbdurable.client.engine import EngineClient
from nbdurable.client.picture import readable
from nbdurable.client.questions import StateView
from nbdurable.core.values import ObjectId
from nbdurable.errors import ConflictError


class _KeyType(click.ParamType[ObjectId]):
    """`SERVICE/KEY`; the key may have slashes in it."""

    name = "SERVICE/KEY"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> ObjectId:
        if isinstance(value, ObjectId):
            return value
        service, _, key = str(value).partition("/")
        if not (service and key):
            self.fail(f"{value!r} is none; write e.g. Counter/ada", param, ctx)
        return ObjectId(service=service, key=key)


_force = click.option(
    "--force", is_flag=True, help="Also when the key is in use: as soon as its turn has come."
)
_key = click.argument("of", metavar="SERVICE/KEY", type=_KeyType())


@click.group
def state() -> None:
    """Look at the state of a key, or change it."""


@state.command
@_key
@click.argument("name", required=False)
@common
def get(of: ObjectId, name: str | None, journal: Path | None, as_json: bool) -> None:
    """Show what a key holds: everything, or the value under one name."""

    async def look(at_hand: Reached) -> StateView:
        return await _state(at_hand.client, of)

    values = ask(journal, look).values
    if name is not None:
        if name not in values:
            raise Refusal(f"{of} has nothing under '{name}'", NOT_FOUND)
        if as_json:
            write_json(readable(values[name]))
        else:
            click.echo(values[name])
    elif as_json:
        write_json({name: readable(value) for name, value in values.items()})
    else:
        rows = [(name, value.decode(errors="replace")) for name, value in values.items()]
        write_table(("NAME", "VALUE"), rows)


@state.command(name="set")
@_key
@click.argument("name")
@click.argument("value", metavar="JSON")
@_force
@destructive
@common
def set_(
    of: ObjectId,
    name: str,
    value: str,
    force: bool,
    dry_run: bool,
    yes: bool,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Put a value under a name. The next handler sees it."""
    typed_value(value)

    def changed(values: dict[str, bytes]) -> dict[str, bytes]:
        return {**values, name: value.encode()}

    _edit(journal, of, changed, as_json=as_json, force=force, dry_run=dry_run, yes=yes)


@state.command
@_key
@click.argument("name", required=False)
@_force
@destructive
@common
def clear(
    of: ObjectId,
    name: str | None,
    force: bool,
    dry_run: bool,
    yes: bool,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Forget what a key holds: everything, or the value under one name."""

    def changed(values: dict[str, bytes]) -> dict[str, bytes]:
        if name is None:
            return {}
        if name not in values:
            raise Refusal(f"{of} has nothing under '{name}'", NOT_FOUND)
        return {kept: value for kept, value in values.items() if kept != name}

    _edit(journal, of, changed, as_json=as_json, force=force, dry_run=dry_run, yes=yes)


def _edit(
    journal: Path | None,
    of: ObjectId,
    change: Callable[[dict[str, bytes]], dict[str, bytes]],
    *,
    as_json: bool,
    force: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """From the version that was looked at: what somebody else changed meanwhile is not undone."""

    async def look(at_hand: Reached) -> StateView:
        return await _state(at_hand.client, of)

    found = ask(journal, look)
    values = change(found.values)
    # The journal is not held while somebody thinks.
    if dry_run or not yes:
        deeds = _deeds(of, found.values, values)
        if not is_meant(deeds, dry_run=dry_run, as_json=as_json):
            return

    async def edit(at_hand: Reached) -> None:
        version = None if force else found.version
        try:
            await at_hand.client.operator().edit_state(of, values, version)
        except ConflictError:
            raise Refusal(
                f"{of} is in use, or was changed just now, so that nobody knows what this would"
                " undo. Look and try again; or say --force, and it is done when its turn has come"
            ) from None

    ask(journal, edit)
    if as_json:
        write_json({name: readable(value) for name, value in values.items()})
    else:
        click.echo(f"{of} holds {', '.join(values) or 'nothing'}")


def _deeds(of: ObjectId, before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Each change as a sentence."""
    deeds = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if new is None and old is not None:
            deeds.append(f"clear {name} of {of}, which is {_shown(old)}")
        elif new is not None and old != new:
            was = "" if old is None else f", which is {_shown(old)}"
            deeds.append(f"set {name} of {of}{was}, to {_shown(new)}")
    return deeds


async def _state(client: EngineClient, of: ObjectId) -> StateView:
    service = await known_service(client, of.service)
    if service.type == "service":
        raise click.UsageError(f"{of.service} is a service, which has no keys and no state")
    return await client.operator().state(of)


def _shown(value: bytes) -> str:
    text = value.decode(errors="replace")
    return text if len(text) <= 60 else f"{text[:59]}…"  # noqa: PLR2004 - of one line.
