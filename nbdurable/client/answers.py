"""A person's answer to what a run waits for, the same from a button, a form, a magic or a command.

What waits is found by what a person calls it. An answer that the question's type does not allow is
refused here, with the place in it: in the handler it would be a failure.
"""

from __future__ import annotations

import ast
import json
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol

from nbdurable.client.engine import EngineClient
from nbdurable.client.picture import Surface, handy_name, status_of
from nbdurable.client.views import EntryView, InvocationView, open_questions
from nbdurable.core.ids import AWAKEABLE_PREFIX, parse_awakeable_id
from nbdurable.core.values import Answered, Question
from nbdurable.errors import AmbiguousError, AnswerError, ConflictError, InvocationNotFoundError

APPROVED: Final = True
REJECTED_MESSAGE: Final = "rejected by a person"
# HTTP's word for "understood, and refused": not 409, which is a cancelled run's.
REJECTED_CODE: Final = 403
NAMED_MAX: Final = 10
# A screenful beside an answer.
COMMENT_CHARS_MAX: Final = 2_000
WHO_CHARS_MAX: Final = 200
# From where the command line takes a comment that is nobody else's to read.
COMMENT_VARIABLE: Final = "NBDURABLE_COMMENT"


class Awaited(NamedTuple):
    """One thing that somebody can answer: a promise's name or an awakeable's id, and its question.

    `name` is what a person calls it, which of an awakeable is not its id.
    """

    id: str
    name: str
    view: InvocationView
    question: Question | None = None

    @property
    def of(self) -> str:
        """What a person calls its run."""
        view = self.view
        return view.target if view.key is None else f"{view.service}/{view.key}"


async def answer(
    client: EngineClient, awaited: Awaited, value: Any = APPROVED, who: Answered | None = None
) -> None:
    """Complete it.

    Raises:
        AnswerError: The value is not what was asked for.
        ConflictError: It was answered before.
    """
    check_answer(awaited.question, value)
    if awaited.id.startswith(AWAKEABLE_PREFIX):
        await client.resolve_awakeable(awaited.id, value, answered=who)
    else:
        await client.resolve_promise(
            *_workflow(awaited), awaited.id, value, scope=awaited.view.scope, answered=who
        )


async def reject(
    client: EngineClient,
    awaited: Awaited,
    message: str = REJECTED_MESSAGE,
    who: Answered | None = None,
) -> None:
    """The handler's await raises TerminalError. Raises ConflictError when answered before."""
    if awaited.id.startswith(AWAKEABLE_PREFIX):
        await client.reject_awakeable(awaited.id, message, REJECTED_CODE, answered=who)
    else:
        await client.reject_promise(
            *_workflow(awaited),
            awaited.id,
            message,
            REJECTED_CODE,
            scope=awaited.view.scope,
            answered=who,
        )


def at(person: str, where: str) -> str:
    """Who answers, as a journal names them: "ada (notebook)"."""
    return f"{person} ({where})"


def said_by(who: str, comment: str = "") -> Answered:
    """Who answers, and what they have to say besides; empty for nothing.

    Raises:
        AnswerError: The comment is too long to be shown beside an answer.
    """
    if len(comment) > COMMENT_CHARS_MAX:
        raise AnswerError(
            f"the comment has {len(comment)} characters; {COMMENT_CHARS_MAX} are kept beside an"
            " answer, and more belongs into the answer itself"
        )
    return Answered(by=who[:WHO_CHARS_MAX], comment=comment.strip() or None)


def typed_value(text: str) -> Any:
    """What a person has typed as JSON.

    Raises:
        AnswerError: It is none; the text says how it would be written.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise AnswerError(f"{text!r} is no JSON ({error}); {_as_json(text)}") from None


def _as_json(text: str) -> str:
    """What may have been meant: a value of Python's, or a text without its quotation marks."""
    try:
        meant = json.dumps(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if text.startswith(("{", "[", '"')):
            return "close what it opens, as in '{\"amount\": 100}'"
        meant = json.dumps(text)
    return f"did you mean '{meant}'?"


def _workflow(awaited: Awaited) -> tuple[str, str]:
    """Whose promise it is: the workflow's name and key."""
    assert awaited.view.key is not None, "only workflows have promises, and they have keys"
    return awaited.view.service, awaited.view.key


def check_answer(question: Question | None, value: Any) -> None:
    """Raises AnswerError when the value is not of the type that the question asks for."""
    if question is None or question.schema is None:
        return
    from fastjsonschema import JsonSchemaValueException

    try:
        _validator(question.schema)(value)
    except JsonSchemaValueException as error:
        what = error.message.replace("data", "the answer", 1)
        raise AnswerError(
            f"{what}; it is {json.dumps(error.value, default=str)}{_form(question.schema, value)}"
        ) from None


def _form(schema: str, value: Any) -> str:
    """How an object is written, for whoever has typed something else: a plain yes is none."""
    read = json.loads(schema)
    if "$ref" in read:
        read = read["$defs"][read["$ref"].rpartition("/")[2]]
    names = read.get("properties", {})
    if isinstance(value, dict) or not names:
        return ""
    return ". Write JSON: {" + ", ".join(f'"{name}": …' for name in names) + "}"


# -- what is meant ------------------------------------------------------------------------------


async def find_awaited(
    client: EngineClient, run: str | None, name: str | None, surface: Surface
) -> Awaited:
    """The one thing that is meant.

    Args:
        run: An id, its beginning, a key, an awakeable's id; None is the only one that waits.
        name: Of the promise or approval; None is the only one that this run waits for.

    Raises:
        AnswerError: It is no id of an awakeable.
        InvocationNotFoundError: There is none.
        AmbiguousError: There are several.
        ConflictError: It does not wait.
    """
    if run is not None and run.startswith(AWAKEABLE_PREFIX):
        try:
            run, name = parse_awakeable_id(run).invocation_id, run
        except ValueError as error:
            raise AnswerError(str(error)) from None
    view = await _only_one_waiting(client) if run is None else await client.find(run)
    open_ = [
        awaited_at(view, entry) for entry in open_questions(await client.journal(view.id)).values()
    ]
    named = Awaited(name or "", name or "", view)
    match [one for one in open_ if name in (None, one.id, one.name)]:
        case [only]:
            return only
        case [] if name is None:
            in_advance = (
                f". To answer in advance, name the promise: {surface.command} approve"
                f" {surface.typed(handy_name(view))} PROMISE"
            )
            raise ConflictError(
                f"{named.of} waits for nobody: {status_of(view)}"
                f"{in_advance if view.is_run and not view.is_done else ''}"
            )
        case [] if open_ or not view.is_run:
            raise ConflictError(
                f"{named.of} waits for {_names(open_) or 'nobody'}, not for '{name}'"
            )
        case []:
            # In advance: a promise may be answered before anybody waits for it.
            return named
        case _:
            raise AmbiguousError(f"{named.of} waits for several, so name one: {_names(open_)}")


def awaited_at(view: InvocationView, entry: EntryView) -> Awaited:
    """What waits at this entry of the run's journal."""
    ask_id = entry.awakeable_id or entry.name
    assert ask_id is not None, f"nobody can answer {entry}"
    return Awaited(ask_id, entry.name or ask_id, view, entry.question)


async def _only_one_waiting(client: EngineClient) -> InvocationView:
    listed = await client.newest_invocations(NAMED_MAX, asks=True)
    if listed.found_count == 1:
        return listed.views[0]
    if not listed.found_count:
        raise InvocationNotFoundError("no run waits for anybody")
    named = ", ".join(handy_name(view) for view in listed.views)
    raise AmbiguousError(f"{listed.found_count} runs wait for somebody, so name one: {named}")


def _names(awaited: list[Awaited]) -> str:
    return ", ".join(f"'{one.name}'" for one in awaited)


class _Validator(Protocol):
    def __call__(self, value: object) -> object: ...


@lru_cache(maxsize=100)
def _validator(schema: str) -> _Validator:
    import fastjsonschema

    compiled: _Validator = fastjsonschema.compile(json.loads(schema), use_default=False)
    return compiled
