"""Whether this process is the kernel of a notebook run: where its cells get their steps from.

Below everything else and without imports of its own, because every kernel of a run is told, and few
of them ever ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# What they are is for `sdk.cells` to say, and for `batch` to make.
Steps = Any


class _Kernel:
    """Mutable: one per process, because a kernel belongs to one run."""

    def __init__(self) -> None:
        self.make: Callable[[], Steps] | None = None
        self.made: Steps = None
        self.run = ""


_here = _Kernel()


def connect(make: Callable[[], Steps] | None, run: str = "") -> None:
    """From here on this process is the kernel of the run with this key; None: no longer."""
    _here.make, _here.made, _here.run = make, None, run


def run_here() -> str:
    """The key of the run that this process is the kernel of; empty where it is of none."""
    return _here.run


def steps() -> Steps:
    """What makes them is asked once, at first need; None where no run is."""
    if _here.made is None and _here.make is not None:
        _here.made = _here.make()
    return _here.made


def steps_in_use() -> Steps:
    """The same, but None where nobody has asked yet."""
    return _here.made
