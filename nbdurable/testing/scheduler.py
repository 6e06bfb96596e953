"""Who runs next: one seed decides how the loops of a simulated process take turns.

In reality the engine, the handlers and the callers each have a thread with an event loop. Here each
has a `VirtualLoop`, and all are stepped by one thread, one callback at a time, in an order drawn
from a seed. The order within a loop is that of asyncio. When nothing is ready, time jumps to the
next timer; when there is no timer either, nothing can ever happen again, and that is an error that
says who waits where.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from nbdurable.testing.clock import VirtualClock

if TYPE_CHECKING:
    from nbdurable.testing.loop import VirtualLoop

# Threads are not fair: now and then one of them runs for a while and the others stand still.
CHANGE_FAVOURITE = 0.05
# Code that polls with `sleep(0)` would stop the clock; after so many callbacks it sees time pass.
CALLBACKS_AT_ONE_TIME_MAX = 20_000
POLLED_S = 0.001
# A `def` handler that blocks for longer is not waited for: perhaps it waits for somebody here.
THREAD_S_MAX = 5.0


class DeadlockError(Exception):
    """Nothing is ready and no timer is set: what is waited for will never come."""


class EndlessError(Exception):
    """More callbacks have run than were allowed: something goes round in circles."""


class Scheduler:
    """Mutable; owned by the one thread that everything runs on."""

    def __init__(self, random: Random | None = None, clock: VirtualClock | None = None) -> None:
        self.clock = clock or VirtualClock()
        self.callback_count = 0
        self.callbacks_max: int | None = None
        # More lines for a DeadlockError: what the loops do not know of, such as invocations.
        self.explain: Callable[[], list[str]] = list
        self._random = random or Random(0)  # noqa: S311 - repeatable is the point.
        self._loops: list[VirtualLoop] = []
        self._favourite: VirtualLoop | None = None
        self._entered: VirtualLoop | None = None
        self._failure: BaseException | None = None
        self._callbacks_at_this_time = 0
        self._when_idle: list[Callable[[], None]] = []
        self._outside: set[asyncio.Future[object]] = set()
        self._bell = threading.Event()
        self._threads = threading.Condition()
        self._running_threads: dict[object, int] = {}

    def add(self, loop: VirtualLoop) -> None:
        self._loops.append(loop)

    def remove(self, loop: VirtualLoop) -> None:
        if loop in self._loops:
            self._loops.remove(loop)
        if self._favourite is loop:
            self._favourite = None

    def fail(self, error: BaseException) -> None:
        """Let the next step raise this, whoever is in the middle of what."""
        self._failure = self._failure or error

    def step(self) -> None:
        """Run one callback, or let time pass.

        Raises:
            DeadlockError: Neither is possible.
            EndlessError: That was one callback too many.
        """
        if self._failure is not None:
            raise self._failure
        if self._running_threads:
            self._let_threads_run()
        ready = [loop for loop in self._loops if loop.ready]
        if not ready:
            self._pass_time()
            return
        loop = ready[0] if len(ready) == 1 else self._choose(ready)
        handle = loop.ready.popleft()
        if handle.cancelled():
            return
        self.callback_count += 1
        if self.callback_count == self.callbacks_max:
            raise EndlessError(f"after {self.callback_count} callbacks there is no end in sight")
        self._callbacks_at_this_time += 1
        if self._callbacks_at_this_time > CALLBACKS_AT_ONE_TIME_MAX:
            self._move_to(self.clock.elapsed_s + POLLED_S)
        if loop is not self._entered:
            self.enter(loop)
        handle._run()  # noqa: SLF001 - what running a loop is.

    def enter(self, loop: VirtualLoop | None) -> None:
        """From now on this is the running loop, as it would be on the thread that is its own."""
        self._entered = loop
        asyncio._set_running_loop(loop)  # noqa: SLF001 - the documented way for loops.
        if loop is not None:
            sys.set_asyncgen_hooks(loop.saw_asyncgen, loop.finalize_asyncgen)

    def when_idle(self, tell: Callable[[], None]) -> None:
        """Call once nothing is left to do at this point of time."""
        self._when_idle.append(tell)

    def goes_outside(self, future: asyncio.Future[object]) -> None:
        """A real thread works on this: meanwhile time passes as it does outside."""
        self._outside.add(future)
        future.add_done_callback(self._outside.discard)

    def thread_runs(self, owner: object, change: int) -> None:
        """From any thread: one of the owner's goes on (1), or stands still (-1)."""
        with self._threads:
            self._running_threads[owner] = self._running_threads.get(owner, 0) + change
            self._threads.notify()

    def ring(self) -> None:
        """From any thread: something is ready."""
        if self._outside:
            self._bell.set()

    def _choose(self, ready: list[VirtualLoop]) -> VirtualLoop:
        if self._random.random() < CHANGE_FAVOURITE:
            self._favourite = self._random.choice(ready)
        if self._favourite in ready:
            return self._favourite
        return self._random.choice(ready)

    def _let_threads_run(self) -> None:
        """Until all of them stand still, as if what they do was a callback like any other."""
        with self._threads:
            self._threads.wait_for(self._all_stand_still, THREAD_S_MAX)
            self._running_threads.clear()

    def _all_stand_still(self) -> bool:
        return not any(self._running_threads.values())

    def _pass_time(self) -> None:
        due = [at_s for loop in self._loops if (at_s := loop.next_timer_s()) is not None]
        at_s = min(due, default=None)
        if at_s is not None and at_s <= self.clock.elapsed_s:
            self._ring_timers()
            return
        if self._when_idle:
            telling, self._when_idle = self._when_idle, []
            for tell in telling:
                tell()
            return
        if self._outside:
            timeout_s = None if at_s is None else at_s - self.clock.elapsed_s
            if self._bell.wait(timeout_s):
                self._bell.clear()
                return
        if at_s is None:
            raise DeadlockError("\n".join(self._who_waits()))
        self._move_to(at_s)

    def _move_to(self, at_s: float) -> None:
        self._callbacks_at_this_time = 0
        self.clock.move_to(at_s)
        self._ring_timers()

    def _ring_timers(self) -> None:
        for loop in self._loops:
            loop.ring_timers()

    def _who_waits(self) -> list[str]:
        waiting = [line for loop in self._loops for line in loop.who_waits()]
        return [
            "nothing is ready and no timer is set, so what is waited for will never come:",
            *(f"  {line}" for line in (*waiting, *self.explain())),
        ]
