"""A person's answer to what a run waits for: `approve`, `reject`."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from nbdurable.cli.exits import FAILED, NOT_FOUND, USAGE, Refusal
from nbdurable.cli.owner import Reached, ask
from nbdurable.cli.words import common, write_json
from nbdurable.client import answers
from nbdurable.client.answers import APPROVED, REJECTED_MESSAGE
from nbdurable.client.engine import EngineClient
from nbdurable.client.picture import handy_name, status_of
from nbdurable.client.views import InvocationView, open_questions
from nbdurable.core.ids import AWAKEABLE_PREFIX, parse_awakeable_id
from nbdurable.core.values import Question
from nbdurable.errors import AnswerError, ConflictError

_NAMED_MAX: Final = 10


class Awaited(NamedTuple):
    """What is answered: a promise's name or an awakeable's id, and what was asked.

    `name` is what a person calls it, which of an awakeable is not its id.
    """

    id: str
    name: str
    view: InvocationView
    question: Question | None = None

    @property
    def of(self) -> str:
        view = self.view
        return view.target if view.key is None else f"{view.service}/{view.key}"


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
    given = APPROVED if value is None else _json(value)

    async def answer(client: EngineClient, it: Awaited) -> None:
        try:
            await answers.answer(client, it.view, it.id, given, it.question)
        except AnswerError as error:
            schema = "" if it.question is None else it.question.schema
            raise Refusal(f"{error}. Say --value JSON, of this type: {schema}", USAGE) from None

    _answer(journal, run, promise, "approved", answer, as_json=as_json)


@click.command
@click.argument("run", required=False)
@click.argument("promise", required=False)
@click.option("--message", default=REJECTED_MESSAGE, help="What the run is told.")
@common
def reject(
    run: str | None, promise: str | None, message: str, journal: Path | None, as_json: bool
) -> None:
    """Answer what a run waits for with no: its await raises TerminalError."""

    async def answer(client: EngineClient, it: Awaited) -> None:
        await answers.reject(client, it.view, it.id, message)

    _answer(journal, run, promise, "rejected", answer, as_json=as_json)


def _answer(
    journal: Path | None,
    run: str | None,
    promise: str | None,
    done: str,
    answer: Callable[[EngineClient, Awaited], Coroutine[Any, Any, None]],
    *,
    as_json: bool,
) -> None:
    async def work(at_hand: Reached) -> Awaited:
        awaited = await _awaited(at_hand.client, run, promise)
        try:
            await answer(at_hand.client, awaited)
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
        try:
            view = await client.find(parse_awakeable_id(run).invocation_id)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        promise = run
    else:
        view = await _only_one_waiting(client) if run is None else await client.find(run)
    open_ = [
        Awaited(ask_id, entry.name or ask_id, view, entry.question)
        for ask_id, entry in open_questions(await client.journal(view.id)).items()
    ]
    named = Awaited(promise or "", promise or "", view)
    match [one for one in open_ if promise in (None, one.id, one.name)]:
        case [only]:
            return only
        case [] if promise is None:
            raise Refusal(
                f"{named.of} waits for nobody: {status_of(view)}. To answer in advance, name the"
                f" promise: nbdurable approve {handy_name(view)} PROMISE"
            )
        case [] if open_ or view.key is None:
            names = ", ".join(f"'{one.name}'" for one in open_) or "nobody"
            raise Refusal(f"{named.of} waits for {names}, not for '{promise}'")
        case []:
            # In advance: a promise may be answered before anybody waits for it.
            return named
        case _:
            names = ", ".join(f"'{one.name}'" for one in open_)
            raise Refusal(f"{named.of} waits for several, so name one: {names}")


async def _only_one_waiting(client: EngineClient) -> InvocationView:
    listed = await client.newest_invocations(_NAMED_MAX, asks=True)
    if listed.found_count == 1:
        return listed.views[0]
    if not listed.found_count:
        raise Refusal("no run waits for anybody", NOT_FOUND)
    named = ", ".join(handy_name(view) for view in listed.views)
    raise Refusal(f"{listed.found_count} runs wait for somebody, so name one: {named}")


def _json(text: str) -> Any:  # noqa: ANN401 - any value.
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(
            f"--value {text!r} is no JSON ({error}); a text is written '\"so\"'"
        ) from None
