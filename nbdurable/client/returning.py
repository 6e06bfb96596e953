"""Answers on their way from the engine's thread to the loop where they are waited for.

All that comes before that loop turns is one wake-up of it. A wake-up per answer, which is what
`asyncio.wrap_future` makes, is a system call each, at which the engine's thread gives the GIL away.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from nbdurable.invoker.pool import settle

T = TypeVar("T")


class Returning:
    """To one loop. `put` may be called by any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._answers: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._is_ringing = False

    def put(
        self, future: asyncio.Future[Any], result: Any, error: BaseException | None = None
    ) -> None:
        self._answers.append((future, result, error))
        if not self._is_ringing:
            self._is_ringing = True
            # The loop is closed once nobody waits any more.
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # Before it drains, so that what comes meanwhile rings again.
        self._is_ringing = False
        while self._answers:
            _settle(*self._answers.popleft())


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
    elif not future.done():
        settle(future, result, error)


# One for each thread, which runs one loop at a time: the last of them, until another runs there.
_here = threading.local()


def returning_here() -> Returning:
    """To the loop that runs now."""
    loop = asyncio.get_running_loop()
    found: Returning | None = getattr(_here, "returning", None)
    if found is None or found.loop is not loop:
        found = _here.returning = Returning(loop)
    return found


async def heard(asked: Future[T]) -> T:
    """What any thread answers; cancelling the wait cancels it."""
    returning = returning_here()
    future: asyncio.Future[T] = returning.loop.create_future()

    def answered(asked: Future[T]) -> None:
        if asked.cancelled():
            returning.put(future, None, asyncio.CancelledError())
            return
        error = asked.exception()
        returning.put(future, asked.result() if error is None else None, error)

    asked.add_done_callback(answered)
    try:
        return await future
    except asyncio.CancelledError:
        asked.cancel()
        raise
