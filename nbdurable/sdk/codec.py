"""Between serde and journal: transform every value that is recorded, e.g. to encrypt it."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable
from typing import TypeAlias


class JournalValueCodec(abc.ABC):
    """Two functions that undo each other, applied to the bytes that serdes write.

    Inputs, results of handlers and steps, state, promises, awakeables, signals and arguments go
    through it; failures, names and keys do not. Whoever reads the journal without it (SQL, the
    journal's view) sees its bytes. As in the official SDK this is a preview.
    """

    @abc.abstractmethod
    def encode(self, buf: bytes) -> bytes:
        """Return what is recorded for these bytes, which may be none at all."""

    @abc.abstractmethod
    async def decode(self, buf: bytes) -> bytes:
        """Return what `encode` was given."""


JournalValueCodecProvider: TypeAlias = Callable[[], Awaitable[JournalValueCodec]]
"""Makes the codec when the first handler or client needs it, once: e.g. to fetch a key."""
