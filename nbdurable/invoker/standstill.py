"""The abort timeout: an attempt that shows no progress for too long is cut off and tried again.

Progress is what the attempt and the engine say to each other. An attempt that only waits is
suspended long before; what is cut off is a step or a handler that hangs.

Source: restate-semantics.md, 1.7 (abort timeout, RT0001).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nbdurable.core.journal import AttemptStart
from nbdurable.core.values import ErrorReport


class Standstill:
    """Mutable; owned by the handler thread. One timer, set again when there was progress."""

    def __init__(self, start: AttemptStart, cut_off: Callable[[ErrorReport], None]) -> None:
        self._cut_off: Callable[[ErrorReport], None] | None = cut_off
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._seen_at = self._loop.time()
        if start.abort_timeout_ms is not None:
            self._limit_s = (start.inactivity_timeout_ms + start.abort_timeout_ms) / 1000
            self._timer = self._loop.call_later(self._limit_s, self._look)

    def progress(self) -> None:
        self._seen_at = self._loop.time()

    def stop(self) -> None:
        """For good."""
        self._cut_off = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        left_s = self._seen_at + self._limit_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
            return
        self._timer = None
        assert self._cut_off is not None, "it was stopped"
        self._cut_off(
            ErrorReport(
                code=500,
                message=f"the attempt showed no progress for {self._limit_s:g} s and was cut off"
                " (abort_timeout); a longer step needs a longer timeout, or smaller steps",
                type_name="RT0001",
            )
        )
