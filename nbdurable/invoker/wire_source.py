"""The one wire of a link, made when the first handler or client needs it.

Its codec may have to be fetched, and is fetched once.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

from nbdurable.invoker.seal import Seal
from nbdurable.invoker.wire import Wire
from nbdurable.sdk.codec import JournalValueCodec, JournalValueCodecProvider


class WireSource:
    """Mutable: `_made`, under the lock. Asked on the handlers' loop and on those of clients."""

    def __init__(
        self, seal: Seal, codec: JournalValueCodec | JournalValueCodecProvider | None = None
    ) -> None:
        self._seal = seal
        self._lock = threading.Lock()
        self._made: Future[Wire | None] | None = None
        self._provider: JournalValueCodecProvider | None = None
        if codec is None or isinstance(codec, JournalValueCodec):
            self._made = Future()
            self._made.set_result(Wire(seal, codec))
        else:
            self._provider = codec

    async def get(self) -> Wire:
        """Raises whatever the provider raises; then the next one asks it again."""
        while True:
            if self._made is not None and self._made.done():
                wire = self._made.result()
                if wire is not None:
                    return wire
            mine: Future[Wire | None] = Future()
            with self._lock:
                made = self._made
                if made is None:
                    self._made = mine
            if made is None:
                return await self._make(mine)
            wire = made.result() if made.done() else await _unharmed(made)
            if wire is not None:
                return wire

    def without_codec(self) -> WireSource:
        """For bytes that went through the codec already."""
        return WireSource(self._seal)

    async def _make(self, mine: Future[Wire | None]) -> Wire:
        assert self._provider is not None
        try:
            wire = Wire(self._seal, await self._provider())
        except BaseException:
            # Whoever waits for us makes it instead: we may have been cancelled, and they not.
            with self._lock:
                self._made = None
            mine.set_result(None)
            raise
        mine.set_result(wire)
        return wire


async def _unharmed(made: Future[Wire | None]) -> Wire | None:
    """Giving up the wait for a future must not cancel it for the others."""
    return await asyncio.shield(asyncio.wrap_future(made))
