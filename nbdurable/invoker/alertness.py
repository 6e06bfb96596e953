"""How soon a thread that computes lets others run, while handlers do.

A step is handed from thread to thread some ten times, and each of them waits for the GIL. Python
takes it from a busy thread, a notebook cell with a loop, after 5 ms at the earliest: then a step
takes 75 ms instead of one. The setting is the process's, so it is put back when no handler runs.
"""

from __future__ import annotations

import sys
import threading
from typing import Final

# Half a millisecond: a step beside a busy cell takes 9 ms, and the cell loses little.
SWITCH_INTERVAL_S: Final = 0.0005

_lock = threading.Lock()


class _Alert:
    """Mutable: how many links have handlers running, and what the setting was before."""

    def __init__(self) -> None:
        self.is_wanted = True
        self.link_count = 0
        self.before_s = 0.0
        self.lowered_s: float | None = None


_alert = _Alert()


def have_no_other_threads() -> None:
    """Nothing computes in this process but handlers: switching would cost a tenth, for nobody."""
    _alert.is_wanted = False


def be_alert() -> None:
    """A link's first handler begins."""
    with _lock:
        _alert.link_count += 1
        if _alert.link_count > 1 or not _alert.is_wanted:
            return
        _alert.before_s, _alert.lowered_s = sys.getswitchinterval(), None
        if _alert.before_s > SWITCH_INTERVAL_S:
            sys.setswitchinterval(SWITCH_INTERVAL_S)
            # As it is rounded.
            _alert.lowered_s = sys.getswitchinterval()


def be_calm() -> None:
    """A link's last handler is over. What somebody else has set meanwhile stays."""
    with _lock:
        _alert.link_count -= 1
        if _alert.link_count == 0 and sys.getswitchinterval() == _alert.lowered_s:
            sys.setswitchinterval(_alert.before_s)
