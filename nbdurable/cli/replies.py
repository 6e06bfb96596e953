"""A person's answer to what a run waits for: `approve`, `reject`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from nbdurable.cli.exits import FAILED, USAGE, Refusal
from nbdurable.cli.owner import Reached, ask
from nbdurable.cli.words import common, given, write_json
from nbdurable.client import answers
from nbdurable.client.answers import APPROVED, REJECTED_MESSAGE, Awaited, typed_value
from nbdurable.client.engine import EngineClient
from nbdurable.client.picture import TERMINAL
from nbdurable.core.values import Answered
from nbdurable.errors import AnswerError, ConflictError
from nbdurable.wiring import this_person

# For whoever asks for somebody else, such as a server whose user has clicked.
by_option = click.option("--by", metavar="NAME", help="Who answers; the user of this system.")

comment_option = click.option(
    "--comment",
    default="",
    envvar=answers.COMMENT_VARIABLE,
    help="To be kept beside the answer.",
)

Reply = Callable[[EngineClient, Awaited], Awaitable[None]]


@click.command
@click.argument("run", required=False)
@click.argument("promise", required=False)
@click.option(
    "--value", metavar="JSON", help="What the await returns; true. @FILE, or - for standard input."
)
@comment_option
@by_option
@common
def approve(
    run: str | None,
    promise: str | None,
    value: str | None,
    comment: str,
    by: str | None,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Answer what a run waits for with yes, or with a value.

    Without RUN, the one run that waits for somebody. RUN may be the id of an awakeable. It works
    with no kernel alive: the run goes on when its code is next there.
    """
    answer = APPROVED if value is None else typed_value(given(value).decode(errors="replace"))
    who = _who(by, comment)

    async def reply(client: EngineClient, awaited: Awaited) -> None:
        try:
            await answers.answer(client, awaited, answer, who)
        except AnswerError as error:
            schema = "" if awaited.question is None else awaited.question.schema
            raise Refusal(f"{error}. Say --value JSON, of this type: {schema}", USAGE) from None

    _reply(journal, run, promise, "approved", reply, as_json=as_json)


@click.command
@click.argument("run", required=False)
@click.argument("promise", required=False)
@click.option(
    "--message", default=REJECTED_MESSAGE, help="What the run is told; - for standard input."
)
@comment_option
@by_option
@common
def reject(
    run: str | None,
    promise: str | None,
    message: str,
    comment: str,
    by: str | None,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Answer what a run waits for with no: its await raises TerminalError."""
    if message == "-":
        message = given(message).decode(errors="replace")
    who = _who(by, comment)

    def reply(client: EngineClient, awaited: Awaited) -> Awaitable[None]:
        return answers.reject(client, awaited, message, who)

    _reply(journal, run, promise, "rejected", reply, as_json=as_json)


def _who(by: str | None, comment: str) -> Answered:
    try:
        return answers.said_by(by or answers.at(this_person(), "terminal"), comment)
    except AnswerError as error:
        raise Refusal(str(error), USAGE) from None


def _reply(
    journal: Path | None,
    run: str | None,
    promise: str | None,
    done: str,
    reply: Reply,
    *,
    as_json: bool,
) -> None:
    async def work(at_hand: Reached) -> Awaited:
        awaited = await answers.find_awaited(at_hand.client, run, promise, TERMINAL)
        try:
            await reply(at_hand.client, awaited)
        except ConflictError as error:
            raise Refusal(f"{error}; it is answered once, and that answer stands", FAILED) from None
        return awaited

    awaited = ask(journal, work)
    if as_json:
        write_json({"answered": awaited.name, "of": awaited.of, "as": done})
    else:
        click.echo(f"{done} '{awaited.name}' of {awaited.of}")
