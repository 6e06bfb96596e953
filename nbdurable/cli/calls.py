"""Handlers called by name from a terminal: `call`, `send`, `attach`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import click

from nbdurable.cli.exits import FAILED, OK, WAITING
from nbdurable.cli.looking import paused_note
from nbdurable.cli.owner import Reached, ask
from nbdurable.cli.registered import known_service
from nbdurable.cli.words import DurationType, common, given, write_json
from nbdurable.client.base import RestateClientSendHandle
from nbdurable.client.engine import EngineClient
from nbdurable.client.picture import readable, status_of
from nbdurable.client.views import InvocationView
from nbdurable.core.builtin import NOTEBOOK_SERVICE
from nbdurable.core.manifest import HandlerManifest
from nbdurable.errors import HttpError, TerminalError
from nbdurable.sdk.serde import BytesSerde

_DETACHED: Final = "stopped waiting; the run goes on"


class Called(NamedTuple):
    """Who is called. A key may have slashes in it: it is all that is between the two names."""

    service: str
    key: str | None
    handler: str


class TargetType(click.ParamType[Called]):
    name = "TARGET"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Called:
        if isinstance(value, Called):
            return value
        service, _, rest = str(value).partition("/")
        key, slash, handler = rest.rpartition("/")
        if not (service and handler) or (slash and not key):
            self.fail(
                f"{value!r} is none; write SERVICE/HANDLER or SERVICE/KEY/HANDLER", param, ctx
            )
        return Called(service, key if slash else None, handler)


_target = click.argument("target", type=TargetType())
_input = click.argument("value", metavar="[INPUT]", required=False)
_idempotency_key = click.option("--idempotency-key", help="A second call with it finds the first.")
_headers = click.option("--header", "headers", metavar="NAME=VALUE", multiple=True)
_timeout = click.option("--timeout", type=DurationType(), help="Wait no longer; exit with 3.")


@click.command
@_target
@_input
@_idempotency_key
@_headers
@_timeout
@common
def call(
    target: Called,
    value: str | None,
    idempotency_key: str | None,
    headers: tuple[str, ...],
    timeout: timedelta | None,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Call a handler and print what it returns.

    INPUT is JSON, `-` for standard input, or @FILE. A workflow's key that has a run already is
    attached to.
    """
    begin = partial(
        _send,
        target=target,
        payload=payload_of(value),
        headers=_named(headers),
        idempotency_key=idempotency_key,
    )

    async def work(at_hand: Reached) -> int:
        sent = await begin(at_hand.client)
        if sent.existing:
            click.echo(f"attached to {sent.invocation_id}, which was there already", err=True)
        view = await at_hand.client.invocation(sent.invocation_id)
        if not view.is_done and not view.is_code_loaded:
            why = f"{view.id} waits for its code: {view.how_to_load}"
            if not _comes_by_itself(view, at_hand):
                return _without_result(view, why, as_json=as_json)
            click.echo(why, err=True)
        return await _wait(at_hand.client, sent.invocation_id, timeout, as_json=as_json)

    _exit(journal, work)


@click.command
@_target
@_input
@click.option("--delay", type=DurationType(), help="Begin so much later, whatever happens.")
@_idempotency_key
@_headers
@common
def send(
    target: Called,
    value: str | None,
    delay: timedelta | None,
    idempotency_key: str | None,
    headers: tuple[str, ...],
    journal: Path | None,
    as_json: bool,
) -> None:
    """Start a handler, print the id of the run, and do not wait.

    INPUT is JSON, `-` for standard input, or @FILE.
    """
    begin = partial(
        _send,
        target=target,
        payload=payload_of(value),
        headers=_named(headers),
        idempotency_key=idempotency_key,
        delay=delay,
    )

    async def work(at_hand: Reached) -> tuple[RestateClientSendHandle, str]:
        sent = await begin(at_hand.client)
        view = await at_hand.client.invocation(sent.invocation_id)
        waits = not view.is_done and not view.is_code_loaded
        return sent, f"it waits for its code: {view.how_to_load}" if waits else ""

    sent, note = ask(journal, work)
    if as_json:
        write_json({"id": sent.invocation_id, "existing": sent.existing})
    else:
        click.echo(sent.invocation_id)
    if sent.existing:
        click.echo("it was there already", err=True)
    if note:
        click.echo(note, err=True)


@click.command
@click.argument("run")
@click.option("--now", is_flag=True, help="Do not wait; exit with 3 if there is no result yet.")
@_timeout
@common
def attach(
    run: str, now: bool, timeout: timedelta | None, journal: Path | None, as_json: bool
) -> None:
    """Wait for a run and print what it returned. Ctrl-C stops waiting; the run goes on.

    RUN is an id, the beginning of one, SERVICE/KEY, or a workflow's key.
    """

    async def work(at_hand: Reached) -> int:
        client = at_hand.client
        view = await client.find(run)
        if not view.is_done and (now or not view.is_code_loaded):
            why = status_of(view) if view.is_code_loaded else view.how_to_load
            said = f"{view.target} has no result yet: {why}"
            if now or not _comes_by_itself(view, at_hand):
                return _without_result(view, said, as_json=as_json)
            click.echo(said, err=True)
        return await _wait(client, view.id, timeout, as_json=as_json)

    _exit(journal, work)


def _exit(journal: Path | None, work: Callable[[Reached], Awaitable[int]]) -> None:
    try:
        code = ask(journal, work)
    except KeyboardInterrupt:
        click.echo(_DETACHED, err=True)
        code = WAITING
    raise SystemExit(code)


def _comes_by_itself(view: InvocationView, at_hand: Reached) -> bool:
    """Whether a process may yet be started that has its code: notebook runs each have their own."""
    return view.service == NOTEBOOK_SERVICE and at_hand.owner is not None


async def _wait(
    client: EngineClient, invocation_id: str, patience: timedelta | None, *, as_json: bool
) -> int:
    """Print the result, and return the exit code that says what it is."""
    try:
        async with asyncio.timeout(None if patience is None else patience.total_seconds()):
            result = await _result_or_pause(client, invocation_id)
    except TimeoutError:
        view = await client.invocation(invocation_id)
        return _without_result(view, f"{invocation_id} has no result yet", as_json=as_json)
    except TerminalError as error:
        if as_json:
            failure = {"code": error.status_code, "message": error.message}
            write_json({"id": invocation_id, "failure": failure})
        else:
            click.echo(f"[{error.status_code}] {error.message}", err=True)
        return FAILED
    if isinstance(result, InvocationView):
        return _without_result(result, paused_note(result), as_json=as_json)
    if as_json:
        write_json({"id": invocation_id, "result": readable(result)})
    elif result:
        click.echo(result)
    return OK


def _without_result(view: InvocationView, why: str, *, as_json: bool) -> int:
    """Say why there is none yet; a program is told how the run stands."""
    if as_json:
        write_json({"id": view.id, "status": view.status})
    click.echo(why, err=True)
    return WAITING


async def _result_or_pause(client: EngineClient, invocation_id: str) -> bytes | InvocationView:
    """What the run returned; or the run, once it is paused, and no result comes by itself."""
    loop = asyncio.get_running_loop()
    changes = asyncio.Queue[InvocationView]()

    def changed(view: InvocationView, _: object) -> None:
        """On a thread of the client's."""
        if view.status == "paused":
            loop.call_soon_threadsafe(changes.put_nowait, view)

    end = await asyncio.to_thread(client.watch, invocation_id, changed)
    attaching = asyncio.ensure_future(client.attach(invocation_id, BytesSerde()))
    pausing = asyncio.ensure_future(changes.get())
    try:
        await asyncio.wait({attaching, pausing}, return_when=asyncio.FIRST_COMPLETED)
        if attaching.done():
            return attaching.result() or b""
        return pausing.result()
    finally:
        attaching.cancel()
        pausing.cancel()
        await asyncio.to_thread(end)


async def _send(
    client: EngineClient,
    *,
    target: Called,
    payload: bytes,
    headers: dict[str, str],
    idempotency_key: str | None,
    delay: timedelta | None = None,
) -> RestateClientSendHandle:
    handler = await handler_at(client, target)
    check_input(target, handler, payload)
    return await client.generic_send(
        target.service, target.handler, payload, target.key, delay, idempotency_key, headers
    )


async def handler_at(client: EngineClient, target: Called) -> HandlerManifest:
    """Raises HttpError 404 for what is not there, with what is."""
    service = await known_service(client, target.service)
    handler = service.handler(target.handler)
    if handler is None:
        names = ", ".join(one.name for one in service.handlers)
        raise HttpError(404, f"{target.service} has no handler '{target.handler}'; it has: {names}")
    if (service.type == "service") != (target.key is None):
        has = "has no keys" if service.type == "service" else "is keyed"
        form = f"{target.service}/{target.handler}"
        if service.type != "service":
            form = f"{target.service}/KEY/{target.handler}"
        raise click.UsageError(f"{target.service} {has}; write {form}")
    return handler


def check_input(target: Called, handler: HandlerManifest, payload: bytes) -> None:
    """What cannot be read is refused before it is recorded, as over HTTP."""
    if not handler.has_input:
        if payload:
            raise click.UsageError(f"{target.handler} takes no input")
        return
    if not handler.reads_json:
        return
    try:
        json.loads(payload)
    except ValueError as error:
        shown = "no input" if not payload else repr(payload.decode(errors="replace")[:80])
        raise click.UsageError(
            f"{target.handler} takes JSON, and {shown} is none ({error}); a text is written"
            " '\"so\"'"
        ) from None


def payload_of(value: str | None) -> bytes:
    return b"" if value is None else given(value)


def _named(headers: tuple[str, ...]) -> dict[str, str]:
    named = {}
    for header in headers:
        name, equals, value = header.partition("=")
        if not (name and equals):
            raise click.UsageError(f"--header {header!r}: write NAME=VALUE")
        named[name.lower()] = value
    return named
