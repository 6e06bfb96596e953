"""Results of steps in cells as bytes: JSON where that says all, a pickle where it does not.

JSON is what people read in the journal. A pickle begins with a byte that no JSON begins with, so
each says itself which it is.
"""

from __future__ import annotations

import json
import pickle

PICKLE_PROTOCOL = 5
_PICKLE_BEGIN = b"\x80"


def write_value(value: object) -> bytes:
    if _is_plain(value):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )
    # What a cell defined is known by value only.
    import cloudpickle

    written = cloudpickle.dumps(value, protocol=PICKLE_PROTOCOL)
    assert isinstance(written, bytes)
    return written


def read_value(payload: bytes) -> object:
    """Pickles are code; these come from the journal, which only its owner can write."""
    if payload.startswith(_PICKLE_BEGIN):
        return pickle.loads(payload)  # noqa: S301 - as said.
    return json.loads(payload.decode("utf-8", "surrogatepass"))


def _is_plain(value: object) -> bool:
    """Whether JSON gives back the same: no tuples, no subclasses, no keys but texts."""
    kind = type(value)
    if kind is list:
        return all(map(_is_plain, value))  # type: ignore[call-overload]  # A list, exactly.
    if kind is dict:
        pairs = value.items()  # type: ignore[attr-defined]  # A dict, exactly.
        return all(type(name) is str and _is_plain(each) for name, each in pairs)
    return value is None or kind in (bool, int, float, str)
