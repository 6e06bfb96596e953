"""Where commits are made: on the writer's thread, or inline where there is only one thread.

No batch window: what queued while the last commit ran is the next batch. What can wait is done when
nothing was committed for a while.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final

from nbdurable.core.records import Row
from nbdurable.engine.ports import Store

_CALM_S: Final = 1.0
# Between two pieces of what can wait: the thread shares its process with the user's code.
_BREATH_S: Final = 0.05
# A journal that nobody writes to is tidied up this often: it takes some milliseconds, and whoever
# opens it after a kill has less to do. Files that nobody names any more go by that, too.
IDLE_S: Final = 300.0


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

    def absorb_if_wanted(self) -> bool:
        """Once the commit was answered, so that no caller waits for it. Whether it was wanted."""
        if self._failed is not None or not self._store.wants_absorb():
            return False
        self._do(self._store.absorb_some)
        return True

    def tidy(self) -> None:
        """While nobody wants anything. After a failure, nothing more."""
        if self._failed is None:
            self._do(self._store.absorb)

    def has_leisure_work(self) -> bool:
        return self._failed is None and self._store.wants_snapshot()

    def do_leisure_work(self) -> None:
        """Some 10 ms of it, or a helping to absorb, as after a commit; never a wait."""
        self._do(self._store.extend_snapshot)

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
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
        while (order := self._next_order()) is not None:
            rows, done = order
            try:
                self._side.append(rows)
            except Exception as error:  # noqa: BLE001 - border: the loop decides what it means.
                self._answer(done, error)
                continue
            self._answer(done, None)
            while self._side.absorb_if_wanted() and self._orders.empty():
                pass

    def _next_order(self) -> tuple[Sequence[Row], asyncio.Future[None]] | None:
        patience_s = _CALM_S
        while True:
            has_work = self._side.has_leisure_work()
            try:
                return self._orders.get(timeout=patience_s if has_work else IDLE_S)
            except queue.Empty:
                if has_work:
                    self._side.do_leisure_work()
                    patience_s = _BREATH_S
                else:
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
