"""A person's answer to what a run waits for, the same from a button, a form, a magic or a command.

An answer that the question's type does not allow is refused here, with the place in it: in the
handler it would be a failure.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final, Protocol

from nbdurable.client.engine import EngineClient
from nbdurable.client.views import InvocationView
from nbdurable.core.ids import AWAKEABLE_PREFIX
from nbdurable.core.values import Question
from nbdurable.errors import AnswerError

APPROVED: Final = True
REJECTED_MESSAGE: Final = "rejected by a person"
# HTTP's word for "understood, and refused": not 409, which is a cancelled run's.
REJECTED_CODE: Final = 403


async def approve(client: EngineClient, view: InvocationView, promise: str) -> None:
    """Raises ConflictError when the promise was answered before."""
    await answer(client, view, promise, APPROVED)


async def answer(
    client: EngineClient,
    view: InvocationView,
    name: str,
    value: Any,
    question: Question | None = None,
) -> None:
    """`name` is a promise's, or an awakeable's id.

    Raises:
        AnswerError: It is not what was asked for.
        ConflictError: It was answered before.
    """
    check_answer(question, value)
    if name.startswith(AWAKEABLE_PREFIX):
        await client.resolve_awakeable(name, value)
    else:
        assert view.key is not None, "only workflows have promises, and they have keys"
        await client.resolve_promise(view.service, view.key, name, value)


async def reject(
    client: EngineClient, view: InvocationView, name: str, message: str = REJECTED_MESSAGE
) -> None:
    """The handler's await raises TerminalError. Raises ConflictError when answered before."""
    if name.startswith(AWAKEABLE_PREFIX):
        await client.reject_awakeable(name, message, REJECTED_CODE)
    else:
        assert view.key is not None, "only workflows have promises, and they have keys"
        await client.reject_promise(view.service, view.key, name, message, REJECTED_CODE)


def check_answer(question: Question | None, value: Any) -> None:
    """Raises AnswerError when the value is not of the type that the question asks for."""
    if question is None or question.schema is None:
        return
    from fastjsonschema import JsonSchemaValueException

    try:
        _validator(question.schema)(value)
    except JsonSchemaValueException as error:
        what = error.message.replace("data", "the answer", 1)
        raise AnswerError(f"{what}; it is {json.dumps(error.value, default=str)}") from None


class _Validator(Protocol):
    def __call__(self, value: object) -> object: ...


@lru_cache(maxsize=100)
def _validator(schema: str) -> _Validator:
    import fastjsonschema

    compiled: _Validator = fastjsonschema.compile(json.loads(schema), use_default=False)
    return compiled
