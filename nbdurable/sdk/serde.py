"""Values to bytes and back: the only rules for what a step, an argument or a state may be.

`None` is the empty payload. The serdes named like the official SDK's read what those write, and
the other way round. How JSON is written is `canonical_json`'s affair.
"""

from __future__ import annotations

import abc
import typing
from typing import Any, Generic, Optional, TypeVar

from nbdurable.errors import SerializationError
from nbdurable.sdk import canonical_json

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - the official SDK's name for an input type.


class Serde(abc.ABC, Generic[T]):
    """Two functions that undo each other. Implement both; empty bytes stand for None."""

    @property
    def canonical(self) -> bool:
        """Whether equal values always give equal bytes, so that replay may compare the bytes.

        False is safe: replay then compares the kinds and names of entries only.
        """
        return False

    @abc.abstractmethod
    def deserialize(self, buf: bytes) -> Optional[T]:
        """Read what `serialize` wrote, perhaps by an earlier version of the code."""

    @abc.abstractmethod
    def serialize(self, obj: Optional[T]) -> bytes:
        """Write a value; `SerializationError` if it cannot be written."""


class BytesSerde(Serde[bytes]):
    """Bytes as they are. None is written as empty and read back as `b""`."""

    @property
    def canonical(self) -> bool:
        """True: the bytes are the value."""
        return True

    def deserialize(self, buf: bytes) -> Optional[bytes]:
        """Return the payload itself."""
        return buf

    def serialize(self, obj: Optional[bytes]) -> bytes:
        """Return the value itself, copied if it could change later."""
        if obj is None:
            return b""
        if not isinstance(obj, (bytes, bytearray, memoryview)):
            raise SerializationError(
                f"is of type {canonical_json.type_name(obj)}, and BytesSerde takes bytes only",
                fix="Return bytes, or use another serde.",
            )
        return bytes(obj)


class _CanonicalJsonSerde(Serde[I]):
    @property
    def canonical(self) -> bool:
        """True: keys are sorted, spaces left out."""
        return True

    def serialize(self, obj: Optional[I]) -> bytes:
        """Write canonical JSON; models (dataclass, Struct, pydantic) may stand anywhere in it."""
        return b"" if obj is None else canonical_json.write(obj)


class JsonSerde(_CanonicalJsonSerde[I]):
    """JSON in the narrow sense: models are refused when written, dicts and lists when read."""

    def deserialize(self, buf: bytes) -> Optional[I]:
        """Return dicts, lists and scalars."""
        return typing.cast("Optional[I]", canonical_json.read(buf, None))

    def serialize(self, obj: Optional[I]) -> bytes:
        """Write dicts, lists, tuples and scalars."""
        return b"" if obj is None else canonical_json.write(obj, models=False)


class DefaultSerde(_CanonicalJsonSerde[I]):
    """JSON, and models where the type hint names one.

    A hint that contains a dataclass, a msgspec Struct or a pydantic model (`Row`, `list[Row]`,
    `Row | None`) is used to read; any other hint (`str`, `dict[str, int]`, a TypedDict) says
    nothing that JSON does not, and is ignored as the official SDK ignores it.
    """

    def __init__(self, type_hint: Optional[type[I]] = None) -> None:
        super().__init__()
        self.type_hint = type_hint
        self._hint = type_hint if canonical_json.mentions_model(type_hint) else None

    def with_maybe_type(self, type_hint: type[I] | None = None) -> DefaultSerde[I]:
        """Return another serde for this hint; this one does not change."""
        return DefaultSerde(type_hint)

    def deserialize(self, buf: bytes) -> Optional[I]:
        """Return a value of the hinted type, or plain JSON."""
        return typing.cast("Optional[I]", canonical_json.read(buf, self._hint))


class PydanticJsonSerde(_CanonicalJsonSerde[I]):
    """JSON of one pydantic model."""

    def __init__(self, model: type[I]) -> None:
        self.model = model

    def deserialize(self, buf: bytes) -> Optional[I]:
        """Return a validated model."""
        return typing.cast("Optional[I]", canonical_json.read(buf, self.model))


class MsgspecJsonSerde(_CanonicalJsonSerde[I]):
    """JSON of one msgspec Struct, or of any type msgspec can convert to."""

    def __init__(self, model: type[I]) -> None:
        self.model = model

    def deserialize(self, buf: bytes) -> Optional[I]:
        """Return a validated Struct."""
        return typing.cast("Optional[I]", canonical_json.read(buf, self.model))


DEFAULT_SERDE: DefaultSerde[Any] = DefaultSerde()
"""The one default of every `serde` parameter; it has no state, so it can be shared."""
