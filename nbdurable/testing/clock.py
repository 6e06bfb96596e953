"""Virtual time: it passes when somebody says so, and is the same for loops, timers and handlers."""

from __future__ import annotations

from datetime import UTC, datetime

# A Thursday, so that a workflow that looks at the weekday finds the same one in every run.
BEGINS_AT = datetime(2026, 1, 1, tzinfo=UTC)
# A float of seconds can fall a hair short of the millisecond it stands for.
_ROUNDING_S = 1e-6


class VirtualClock:
    """Mutable: how much time has passed. A `Clock` for engines, and the time of `VirtualLoop`s."""

    def __init__(self, begins_at: datetime = BEGINS_AT) -> None:
        self._begins_at_ms = int(begins_at.timestamp() * 1000)
        self.elapsed_s = 0.0

    def now_ms(self) -> int:
        return self._begins_at_ms + int((self.elapsed_s + _ROUNDING_S) * 1000)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_ms() / 1000, tz=UTC)

    def move_to(self, elapsed_s: float) -> None:
        """Time never goes back; what was due earlier is due now."""
        self.elapsed_s = max(self.elapsed_s, elapsed_s)
