"""A person's answer to what a run waits for: `approve`, `reject`."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from nbdurable.cli.exits import FAILED, NOT_FOUND, Refusal
from nbdurable.cli.owner import Reached, ask
from nbdurable.cli.words import common, write_json
from nbdurable.client.answers import APPROVED, REJECTED_CODE, REJECTED_MESSAGE
from nbdurable.client.engine import EngineClient
from nbdurable.client.picture import handy_name, status_of
from nbdurable.client.views import InvocationView
from nbdurable.core.ids import AWAKEABLE_PREFIX
from nbdurable.errors import ConflictError

_NAMED_MAX: Final = 10


class Awaited(NamedTuple):
    """What can be answered: a promise of a workflow, or an awakeable."""

    name: str
    of: str
    resolve: Callable[[Any], Coroutine[Any, Any, None]]
    reject: Callable[[str], Coroutine[Any, Any, None]]


@click.command
@click.argument("run", required=False)
@click.argument("promise", required=False)
@click.option("--value", metavar="JSON", help="What the await returns; true.")
@common
def approve(
    run: str | None, promise: str | None, value: str | None, journal: Path | None, as_json: bool
) -> None:
    """Answer what a run waits for with yes, or with a value.

    Without RUN, the one run that waits for somebody. RUN may be the id of an awakeable. It works
    with no kernel alive: the run goes on when its code is next there.
    """
    answer = APPROVED if value is None else _json(value)
    _answer(journal, run, promise, "approved", lambda it: it.resolve(answer), as_json=as_json)


@click.command
@click.argument("run", required=False)
@click.argument("promise", required=False)
@click.option("--message", default=REJECTED_MESSAGE, help="What the run is told.")
@common
def reject(
    run: str | None, promise: str | None, message: str, journal: Path | None, as_json: bool
) -> None:
    """Answer what a run waits for with no: its await raises TerminalError."""
    _answer(journal, run, promise, "rejected", lambda it: it.reject(message), as_json=as_json)


def _answer(
    journal: Path | None,
    run: str | None,
    promise: str | None,
    done: str,
    answer: Callable[[Awaited], Coroutine[Any, Any, None]],
    *,
    as_json: bool,
) -> None:
    async def work(at_hand: Reached) -> Awaited:
        awaited = await _awaited(at_hand.client, run, promise)
        try:
            await answer(awaited)
        except ConflictError as error:
            raise Refusal(f"{error}; it is answered once, and that answer stands", FAILED) from None
        return awaited

    awaited = ask(journal, work)
    if as_json:
        write_json({"answered": awaited.name, "of": awaited.of, "as": done})
    else:
        click.echo(f"{done} '{awaited.name}' of {awaited.of}")


async def _awaited(client: EngineClient, run: str | None, promise: str | None) -> Awaited:
    """The one thing that is meant.

    Raises:
        Refusal: It is not the only one, or there is none.
    """
    if run is not None and run.startswith(AWAKEABLE_PREFIX):
        return _awakeable(client, run, "its run")
    view = await _only_one_waiting(client) if run is None else await client.find(run)
    name = f"{view.service}/{view.key}" if view.key is not None else view.target
    open_ = [
        *(_promise(client, view, one) for one in view.open_promises),
        *(_awakeable(client, one, name) for one in view.open_awakeables),
    ]
    if promise is not None:
        named = next((one for one in open_ if one.name == promise), None)
        if named is not None:
            return named
        if open_ or view.key is None:
            raise Refusal(f"{name} waits for {_names(open_) or 'nobody'}, not for '{promise}'")
        # In advance: a promise may be answered before anybody waits for it.
        return _promise(client, view, promise)
    match open_:
        case [only]:
            return only
        case []:
            raise Refusal(
                f"{name} waits for nobody: {status_of(view)}. To answer in advance, name the"
                f" promise: nbdurable approve {handy_name(view)} PROMISE"
            )
        case _:
            raise Refusal(f"{name} waits for several, so name one: {_names(open_)}")


def _promise(client: EngineClient, view: InvocationView, promise: str) -> Awaited:
    key = view.key
    assert key is not None, "only workflows have promises, and they have keys"
    return Awaited(
        promise,
        f"{view.service}/{key}",
        partial(client.resolve_promise, view.service, key, promise),
        lambda message: client.reject_promise(view.service, key, promise, message, REJECTED_CODE),
    )


def _awakeable(client: EngineClient, awakeable_id: str, of: str) -> Awaited:
    return Awaited(
        awakeable_id,
        of,
        partial(client.resolve_awakeable, awakeable_id),
        lambda message: client.reject_awakeable(awakeable_id, message, REJECTED_CODE),
    )


async def _only_one_waiting(client: EngineClient) -> InvocationView:
    listed = await client.newest_invocations(_NAMED_MAX, asks=True)
    if listed.found_count == 1:
        return listed.views[0]
    if not listed.found_count:
        raise Refusal("no run waits for anybody", NOT_FOUND)
    named = ", ".join(handy_name(view) for view in listed.views)
    raise Refusal(f"{listed.found_count} runs wait for somebody, so name one: {named}")


def _names(awaited: list[Awaited]) -> str:
    return ", ".join(f"'{one.name}'" for one in awaited)


def _json(text: str) -> Any:  # noqa: ANN401 - any value.
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(
            f"--value {text!r} is no JSON ({error}); a text is written '\"so\"'"
        ) from None
