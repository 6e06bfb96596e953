"""What becomes due: a heap, and one wake-up of the loop at a time.

Timers are never removed. One that fires for what is no longer there changes nothing, so the state
stays the only truth about what waits.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

import msgspec

from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import Timer
from nbdurable.engine.ports import Clock

# A laptop that slept, or a clock that was set, is noticed after at most this long.
LOOK_AGAIN_S = 30.0


class Due(msgspec.Struct, frozen=True, order=True, gc=False):
    """A timer, in the order of time and then of setting: thousands wait for days."""

    at_ms: int
    count: int
    invocation_id: InvocationId
    completion_id: int

    @property
    def timer(self) -> Timer:
        return Timer(invocation_id=self.invocation_id, completion_id=self.completion_id)


class Timers:
    """Mutable; owned by the engine thread."""

    def __init__(
        self, clock: Clock, fire: Callable[[Timer], None], look_again_s: float = LOOK_AGAIN_S
    ) -> None:
        self._clock = clock
        self._fire = fire
        self._look_again_s = look_again_s
        self._heap: list[Due] = []
        self._count = 0
        self._wake_up: asyncio.TimerHandle | None = None
        self._wake_up_at_ms = 0

    def set(self, timer: Timer, at_ms: int) -> None:
        self._count += 1
        due = Due(at_ms, self._count, timer.invocation_id, timer.completion_id)
        heapq.heappush(self._heap, due)
        if self._wake_up is None or at_ms < self._wake_up_at_ms:
            self._arm()

    def clear(self) -> None:
        self._heap.clear()
        if self._wake_up is not None:
            self._wake_up.cancel()
            self._wake_up = None

    def pending(self) -> frozenset[tuple[Timer, int]]:
        """All that were set and have not fired."""
        return frozenset((due.timer, due.at_ms) for due in self._heap)

    def _arm(self) -> None:
        if self._wake_up is not None:
            self._wake_up.cancel()
            self._wake_up = None
        if not self._heap:
            return
        self._wake_up_at_ms = self._heap[0].at_ms
        delay_s = max(0, self._wake_up_at_ms - self._clock.now_ms()) / 1000
        loop = asyncio.get_running_loop()
        self._wake_up = loop.call_later(min(delay_s, self._look_again_s), self._ring)

    def _ring(self) -> None:
        self._wake_up = None
        now_ms = self._clock.now_ms()
        while self._heap and self._heap[0].at_ms <= now_ms:
            self._fire(heapq.heappop(self._heap).timer)
        self._arm()
