"""A process that keeps a journal when nobody else does: `nbdurable up`, until it is not needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

# As long as nobody needs it; a timer or a schedule does.
IDLE_EXIT: Final = "10m"


def start_owner(path: Path | None) -> int:
    """Start one that outlives this process, on free ports and with a token; returns its pid."""
    where = [] if path is None else ["--journal", str(path)]
    ports = ["--ingress", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    process = subprocess.Popen(  # noqa: S603 - our own program, and no shell.
        [sys.executable, "-m", "nbdurable", "up", "--idle-exit", IDLE_EXIT, *ports, *where],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    # Nobody waits for it, as it outlives us; Popen would warn of that.
    process.returncode = 0
    return process.pid
