"""JSON Schemas of what handlers take and return: for readers, never enforced.

Source: restate-semantics.md, 1.1 (signature); the official SDK's discovery says as much of a type.
"""

from __future__ import annotations

import logging
import typing
from typing import Any, Final

import msgspec

from nbdurable.sdk.handler import TypeHint
from nbdurable.sdk.serde import DefaultSerde, JsonSerde, MsgspecJsonSerde, PydanticJsonSerde

logger = logging.getLogger("nbdurable")

JSON_SERDES: Final = (DefaultSerde, JsonSerde, MsgspecJsonSerde, PydanticJsonSerde)

_SIMPLE: Final[dict[Any, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    dict: "object",
}


def schema_text(hint: TypeHint[Any] | None) -> str | None:
    """As text, with sorted keys: two revisions are compared by it. None where there is nothing."""
    if hint is None or hint.is_void:
        return None
    return msgspec.json.encode(_schema(hint), order="sorted").decode()


def _schema(hint: TypeHint[Any]) -> Any:
    if hint.generate_json_schema is None:
        return _schema_of(hint.annotation)
    try:
        return hint.generate_json_schema()
    except Exception:  # border: a model may hold what JSON Schema has no word for.
        logger.debug("%r has no JSON Schema", hint.annotation, exc_info=True)
        return True


def _schema_of(annotation: Any) -> Any:
    """`True`, which is any value, for whatever JSON has no word of its own for."""
    origin = typing.get_origin(annotation) or annotation
    if origin is list:
        items = typing.get_args(annotation)
        return {"type": "array", "items": _schema_of(items[0]) if items else True}
    # A type may be unhashable, e.g. an Annotated one with a list in it.
    named = _SIMPLE.get(origin) if isinstance(origin, type) else None
    return True if named is None else {"type": named}
