"""Where commits are made: on the writer's thread, or inline where there is only one thread.

No batch window: what queued while the last commit ran is the next batch.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence

from nbdurable.core.records import Row
from nbdurable.engine.ports import Store

# A journal that nobody writes to is tidied up this often: it takes some milliseconds, and whoever
# opens it after a kill has less to do. Files that nobody names any more go by that, too.
IDLE_S = 300.0


class WriteSide:
    """What is done to the store, whatever thread does it. Mutable: whether absorbing failed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._failed: Exception | None = None

    def append(self, rows: Sequence[Row]) -> None:
        """Raises also what the last `absorb_if_wanted` met: nobody waited for that one."""
        if self._failed is not None:
            raise self._failed
        self._store.append(rows)

    def absorb_if_wanted(self) -> None:
        """Once the commit was answered, so that no caller waits for it."""
        self._absorb(only_if_wanted=True)

    def tidy(self) -> None:
        """While nobody wants anything. After a failure, nothing more."""
        if self._failed is None:
            self._absorb(only_if_wanted=False)

    def _absorb(self, *, only_if_wanted: bool) -> None:
        try:
            if not only_if_wanted or self._store.wants_absorb():
                self._store.absorb()
        except Exception as error:  # noqa: BLE001 - border: told to the next commit.
            self._failed = error


class WriterThread:
    """Owns the store's write side for as long as its thread lives."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._side = WriteSide(store)
        self._loop = loop
        self._orders: queue.SimpleQueue[tuple[Sequence[Row], asyncio.Future[None]] | None]
        self._orders = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="nbdurable-writer", daemon=True)
        self._thread.start()

    async def append(self, rows: Sequence[Row]) -> None:
        done: asyncio.Future[None] = self._loop.create_future()
        self._orders.put((rows, done))
        await done

    def close(self) -> None:
        """Wait for the commit that is under way, then end the thread. From any other thread."""
        self._orders.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (order := self._next()) is not None:
            rows, done = order
            try:
                self._side.append(rows)
            except Exception as error:  # noqa: BLE001 - border: the loop decides what it means.
                self._answer(done, error)
                continue
            self._answer(done, None)
            self._side.absorb_if_wanted()

    def _next(self) -> tuple[Sequence[Row], asyncio.Future[None]] | None:
        while True:
            try:
                return self._orders.get(timeout=IDLE_S)
            except queue.Empty:
                self._side.tidy()

    def _answer(self, done: asyncio.Future[None], error: Exception | None) -> None:
        def settle() -> None:
            if done.cancelled():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        # The loop is closed when the engine was abandoned: nobody waits for the answer then.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(settle)
