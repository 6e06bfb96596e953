"""The threads that `def` steps run on. Daemons: a step that hangs does not keep a process alive.

`ThreadPoolExecutor` joins its threads when the interpreter ends, however long they take; and its
futures, which any thread may wait for, cost as much as a short step (DECISIONS 0170).
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

_Done = asyncio.Future[Any]


class StepPool(Protocol):
    """Where `def` steps run."""

    def run(self, call: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> _Done:
        """On the loop's thread. Cancelled before its turn, the call is not made."""

    def close(self) -> None:
        """Whatever waits for its turn is still run. Never waits. From any thread."""


class StepThreads:
    """Starts a thread when none is idle, up to `threads_max`; work waits in order beyond that."""

    def __init__(self, threads_max: int, name: str) -> None:
        self._threads_max = threads_max
        self._name = name
        self._work: queue.SimpleQueue[tuple[_Done, Callable[[], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle_count = 0
        self._thread_count = 0
        self._ended: deque[tuple[_Done, Any, BaseException | None]] = deque()
        self._is_ringing = False

    def run(self, call: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> _Done:
        with self._lock:
            if self._idle_count:
                self._idle_count -= 1
            elif self._thread_count < self._threads_max:
                self._thread_count += 1
                name = f"{self._name}-{self._thread_count}"
                threading.Thread(target=self._serve, name=name, daemon=True).start()
        done = loop.create_future()
        self._work.put((done, call))
        return done

    def close(self) -> None:
        with self._lock:
            for _ in range(self._thread_count):
                self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            done, call = work
            if not done.cancelled():
                try:
                    self._tell(done, call(), None)
                except BaseException as error:  # noqa: BLE001 - border: the awaiting side gets it.
                    self._tell(done, None, error)
            # Or the value would live until the next step.
            del work, done, call
            with self._lock:
                self._idle_count += 1

    def _tell(self, done: _Done, value: Any, error: BaseException | None) -> None:
        self._ended.append((done, value, error))
        # The loop is woken once for all that end meanwhile; none is missed, as in `Mailbox.put`.
        if not self._is_ringing:
            self._is_ringing = True
            # It is closed when the engine was abandoned: nobody waits for the value then.
            with suppress(RuntimeError):
                done.get_loop().call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        """On the loop's thread."""
        self._is_ringing = False
        for _ in range(len(self._ended)):
            settle(*self._ended.popleft())


def settle(done: _Done, value: Any, error: BaseException | None) -> None:
    if done.cancelled():
        return
    if isinstance(error, StopIteration):
        # No asyncio future can hold one: whoever awaits would wait for ever. Python says the same
        # of one that leaves a coroutine.
        told = RuntimeError("the step raised StopIteration")
        error = told.with_traceback(error.__traceback__)
    if error is None:
        done.set_result(value)
    else:
        done.set_exception(error)
