"""The threads that `def` steps run on. Daemons: a step that hangs does not keep a process alive.

`ThreadPoolExecutor` joins its threads when the interpreter ends, however long they take.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Work = tuple[Future[Any], Callable[[], Any]]


class StepThreads(Executor):
    """Starts a thread when none is idle, up to `threads_max`; work waits in order beyond that."""

    def __init__(self, threads_max: int, name: str) -> None:
        self._threads_max = threads_max
        self._name = name
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle_count = 0
        self._thread_count = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done: Future[T] = Future()
        with self._lock:
            if self._idle_count:
                self._idle_count -= 1
            elif self._thread_count < self._threads_max:
                self._thread_count += 1
                name = f"{self._name}-{self._thread_count}"
                threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._work.put((done, lambda: fn(*args, **kwargs)))
        return done

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as in Executor.
        """Idle threads end, busy ones when their step does. Never waits."""
        with self._lock:
            for _ in range(self._thread_count):
                self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            done, call = work
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(call())
                except StopIteration as error:
                    # No asyncio future can hold one: whoever awaits would wait for ever. Python
                    # says the same of one that leaves a coroutine.
                    told = RuntimeError("the step raised StopIteration")
                    done.set_exception(told.with_traceback(error.__traceback__))
                except BaseException as error:  # noqa: BLE001 - border: the awaiting side gets it.
                    done.set_exception(error)
            # Or the value would live until the next step.
            del work, done, call
            with self._lock:
                self._idle_count += 1
