"""An asyncio event loop in virtual time: `sleep` takes no time, and what waits for ever is said.

`asyncio.Runner(loop_factory=VirtualLoop)` runs a coroutine on one. Several share a `Scheduler` when
they stand for the threads of one process; whichever of them is run drives them all.

It has no sockets, subprocesses or signals. Threads are fine: `asyncio.to_thread` is waited for.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import logging
import sys
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NoReturn, TypeVar, TypeVarTuple

from nbdurable.invoker.lines import innermost_line
from nbdurable.testing.scheduler import DeadlockError, Scheduler

logger = logging.getLogger("nbdurable")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Fewer are not worth sweeping, and a heap that is mostly cancelled timers is.
CANCELLED_TIMERS_MAX = 256


class VirtualLoop(asyncio.AbstractEventLoop):
    """Mutable; owned by the thread that runs it, but for `call_soon_threadsafe`."""

    def __init__(self, scheduler: Scheduler | None = None, name: str = "test") -> None:
        self.scheduler = scheduler or Scheduler()
        self.name = name
        self.ready: deque[asyncio.Handle] = deque()
        self._clock = self.scheduler.clock
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_count = 0
        self._cancelled_count = 0
        self._asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._executor: Executor | None = None
        self._handle_exception: Callable[[Any, dict[str, Any]], object] | None = None
        self._task_factory: Any = None
        self._is_running = False
        self._is_stopping = False
        self._is_closed = False
        self._is_debug = False
        self.scheduler.add(self)

    def __repr__(self) -> str:
        return f"<VirtualLoop {self.name} at {self.time():.3f} s, {len(self.ready)} ready>"

    # -- for the scheduler --------------------------------------------------------------------

    def next_timer_s(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
            self._cancelled_count -= 1
        return self._timers[0][0] if self._timers else None

    def ring_timers(self) -> None:
        """What is due by now is ready, in the order of its time."""
        while self._timers and self._timers[0][0] <= self._clock.elapsed_s:
            handle = heapq.heappop(self._timers)[2]
            if handle.cancelled():
                self._cancelled_count -= 1
            else:
                self.ready.append(handle)

    def who_waits(self) -> list[str]:
        """The lines of users' code that tasks stand at."""
        lines = (innermost_line(task.get_coro()) for task in asyncio.all_tasks(self))
        return sorted(f"{self.name} waits at {line}" for line in lines if line is not None)

    def saw_asyncgen(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._asyncgens.add(generator)

    def finalize_asyncgen(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._asyncgens.discard(generator)
        if not self._is_closed:
            self.call_soon(self.create_task, generator.aclose())

    # -- running ------------------------------------------------------------------------------

    def run_forever(self) -> None:
        self._check_open()
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 - the documented way for loops.
            raise RuntimeError(
                "virtual time cannot be run from within another event loop: let this one run the"
                " whole test, or write the test as a plain `def`"
            )
        self._is_running, self._is_stopping = True, False
        hooks = sys.get_asyncgen_hooks()
        try:
            while not self._is_stopping:
                self.scheduler.step()
        finally:
            self._is_running = self._is_stopping = False
            self.scheduler.enter(None)
            sys.set_asyncgen_hooks(*hooks)

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        self._check_open()
        is_ours = not asyncio.isfuture(future)
        running: asyncio.Future[T] = asyncio.ensure_future(future, loop=self)  # type: ignore[arg-type, unused-ignore]
        running.add_done_callback(self._stop_after)
        try:
            self.run_forever()
        except DeadlockError as error:
            raise error from self._give_up(running)
        except BaseException:
            if is_ours and running.done() and not running.cancelled():
                running.exception()  # Seen: or it would be logged as never retrieved.
            raise
        finally:
            running.remove_done_callback(self._stop_after)
        if not running.done():
            raise RuntimeError("the event loop was stopped before the future completed")
        return running.result()

    def stop(self) -> None:
        self._is_stopping = True

    def is_running(self) -> bool:
        return self._is_running

    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        """Nothing more runs: what is still waiting here waits for ever."""
        self._is_closed = True
        self.ready.clear()
        self._timers.clear()
        self.scheduler.remove(self)
        if isinstance(self._executor, ThreadPoolExecutor):
            self._executor.shutdown(wait=False)

    def bury(self) -> None:
        """Unwind what a closed loop left standing. What it still does is nobody's affair."""
        assert self._is_closed, "only what is closed is buried"
        # Nor is what its tasks have raised, whenever the collector finds them.
        self.set_exception_handler(lambda *_: None)
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - it is pending for good.
            coroutine = task.get_coro()
            with suppress(BaseException):
                assert coroutine is not None
                coroutine.close()

    async def shutdown_asyncgens(self) -> None:
        closing = list(self._asyncgens)
        self._asyncgens.clear()
        await asyncio.gather(*(agen.aclose() for agen in closing), return_exceptions=True)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncio's parameter.
        if self._executor is not None:
            self._executor.shutdown(wait=True)

    # -- callbacks and time -------------------------------------------------------------------

    def time(self) -> float:
        return self._clock.elapsed_s

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        # A loop that was closed is a thread that is gone: what it left behind may still call.
        if not self._is_closed:
            self.ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = self.call_soon(callback, *args, context=context)
        self.scheduler.ring()
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self._is_closed:
            self._timer_count += 1
            heapq.heappush(self._timers, (when, self._timer_count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Called by asyncio's handles."""
        self._cancelled_count += 1
        if self._cancelled_count > max(CANCELLED_TIMERS_MAX, len(self._timers) // 2):
            self._timers = [timer for timer in self._timers if not timer[2].cancelled()]
            heapq.heapify(self._timers)
            self._cancelled_count = 0

    # -- futures and tasks --------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        if self._task_factory is None:
            return asyncio.Task(coro, loop=self, name=name, context=context)
        task: asyncio.Task[T] = self._task_factory(self, coro, context=context)
        if name is not None:
            task.set_name(name)
        return task

    def set_task_factory(self, factory: Any) -> None:
        self._task_factory = factory

    def get_task_factory(self) -> Any:
        return self._task_factory

    def run_in_executor(  # type: ignore[override, unused-ignore]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        if executor is None:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
            executor = self._executor
        future = asyncio.wrap_future(executor.submit(func, *args), loop=self)
        if isinstance(executor, ThreadPoolExecutor):
            self.scheduler.goes_outside(future)  # type: ignore[arg-type]
        return future

    def set_default_executor(self, executor: Executor | None) -> None:
        self._executor = executor

    # -- errors -------------------------------------------------------------------------------

    def set_exception_handler(
        self, handler: Callable[[Any, dict[str, Any]], object] | None
    ) -> None:
        self._handle_exception = handler

    def get_exception_handler(self) -> Callable[[Any, dict[str, Any]], object] | None:
        return self._handle_exception

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        logger.error("%s", context.get("message"), exc_info=context.get("exception"))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._handle_exception is None:
            self.default_exception_handler(context)
        else:
            self._handle_exception(self, context)

    def get_debug(self) -> bool:
        return self._is_debug

    def set_debug(self, enabled: bool) -> None:  # noqa: FBT001 - asyncio's parameter.
        self._is_debug = enabled

    # -- the world outside --------------------------------------------------------------------

    def _no_sockets(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(
            "a loop in virtual time has no sockets, pipes or processes: call the service from a"
            " `def` step, or give the handler a fake of it"
        )

    _none: Any = _no_sockets
    connect_accepted_socket = connect_read_pipe = connect_write_pipe = start_tls = _none
    create_connection = create_server = create_unix_connection = create_unix_server = _none
    create_datagram_endpoint = getaddrinfo = getnameinfo = sendfile = _none
    subprocess_exec = subprocess_shell = add_signal_handler = remove_signal_handler = _none
    add_reader = add_writer = remove_reader = remove_writer = _none
    sock_accept = sock_connect = sock_recv = sock_recv_into = sock_recvfrom = _none
    sock_recvfrom_into = sock_sendall = sock_sendfile = sock_sendto = _none

    # -- inside -------------------------------------------------------------------------------

    def _stop_after(self, _: object) -> None:
        self.stop()

    def _give_up(self, waiting: asyncio.Future[Any]) -> BaseException | None:
        """Unwind what will wait for ever. Returns what shows the line it waited at."""
        waiting.cancel()
        with suppress(DeadlockError):
            self.run_forever()
        if not waiting.done():
            return None
        try:
            return waiting.exception()
        except asyncio.CancelledError as error:
            return error

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("Event loop is closed")
