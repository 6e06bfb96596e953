"""`%durable approve` and `reject`: a person's answer, by words. Buttons give the same."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from IPython.core.error import UsageError

from nbdurable.client import answers
from nbdurable.client.answers import APPROVED, REJECTED_MESSAGE, Awaited, said_by, typed_value
from nbdurable.client.picture import NOTEBOOK
from nbdurable.errors import AnswerError, ConflictError, InvocationNotFoundError
from nbdurable.notebook.meant import no_run
from nbdurable.notebook.session import Session
from nbdurable.notebook.spelling import near
from nbdurable.notebook.widgets.views_html import Sentence
from nbdurable.notebook.words import with_comment, words_of


def approve(session: Session, text: str) -> Sentence:
    text, comment = with_comment("approve", text)
    words = words_of(text, before_value=2)
    run, name, *rest = [*words[:2], None, None][:2] + words[2:]
    awaited = _find(session, run, name)
    value = APPROVED if not rest else typed_value(" ".join(map(str, rest)))
    done = "approved" if value is APPROVED else "answered"
    answering = answers.answer(session.client, awaited, value, said_by(session.who, comment))
    return _replied(session, answering, done, awaited)


def reject(session: Session, text: str) -> Sentence:
    """The word after the run names what waits; where that has another name, all is reason."""
    text, comment = with_comment("reject", text)
    words = words_of(text)
    if not words:
        raise UsageError("write: %durable reject ID [PROMISE] [REASON]")
    run, *rest = words
    try:
        awaited = _find(session, run, rest[0] if rest else None)
        reason = rest[1:]
    except UsageError:
        awaited, reason = _find(session, run, None), rest
        if near(rest[0], [awaited.name]):
            # What is rejected stays so: a slip of the hand must not become the reason.
            raise UsageError(
                f"{awaited.of} waits for {awaited.name!r}; did you mean that by {rest[0]!r}? A"
                " reason stands in quotation marks"
            ) from None
    message = " ".join(reason) or REJECTED_MESSAGE
    rejecting = answers.reject(session.client, awaited, message, said_by(session.who, comment))
    return _replied(session, rejecting, "rejected", awaited, f": {message}")


def _find(session: Session, run: str | None, name: str | None) -> Awaited:
    try:
        return session.client.wait(answers.find_awaited(session.client, run, name, NOTEBOOK))
    except InvocationNotFoundError as error:
        none = UsageError(str(error)) if run is None else no_run(session, run)
        raise none from None
    except (AnswerError, ConflictError) as error:
        raise UsageError(str(error)) from None


def _replied(
    session: Session,
    replying: Coroutine[Any, Any, None],
    done: str,
    awaited: Awaited,
    more: str = "",
) -> Sentence:
    """Not an error when somebody was faster: a click and Run All may well meet."""
    try:
        session.client.wait(replying)
    except ConflictError as error:
        return Sentence(f"{error}; it is answered once, and that answer stands")
    return Sentence(f"{done} '{awaited.name}' of {awaited.of}{more}")
