"""What a person is asked who answers a promise or an awakeable: the type of the answer, as a form.

Recorded with the wait, so that whoever draws it needs no code of the handler's. Replay does not
compare it: a better title is no other question.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final

import msgspec

from nbdurable.core.values import Question

logger = logging.getLogger("nbdurable")

# A screenful for a person; what is longer belongs behind a link.
CONTEXT_CHARS_MAX: Final = 8_000


def question_of(type_hint: Any, title: str | None = None, context: Any = None) -> Question | None:
    """None where there is nothing to say: any value will do, and the name says what for.

    Args:
        context: What the answer depends on: a text as it is, anything else as JSON.
    """
    schema = None if type_hint is None or type_hint is Any else _schema_of(type_hint)
    if schema is None and title is None and context is None:
        return None
    return Question(schema=schema, title=title, context=_shown(context))


def _schema_of(hint: Any) -> str | None:
    """As text, fields in their own order; None for types that JSON Schema has no word for."""
    try:
        model_json_schema = getattr(hint, "model_json_schema", None)
        schema = msgspec.json.schema(hint) if model_json_schema is None else model_json_schema()
    except Exception:  # border: a type may be any object of the user's.
        logger.debug("%r has no JSON Schema", hint, exc_info=True)
        return None
    return msgspec.json.encode(schema).decode()


def _shown(context: Any) -> str | None:
    if context is None:
        return None
    text = context if isinstance(context, str) else _as_json(context)
    return text if len(text) <= CONTEXT_CHARS_MAX else f"{text[: CONTEXT_CHARS_MAX - 1]}…"


def _as_json(context: Any) -> str:
    try:
        return json.dumps(msgspec.to_builtins(context), indent=2, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return repr(context)
