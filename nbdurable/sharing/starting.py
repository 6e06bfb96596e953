"""A process that keeps a journal when nobody else does: `nbdurable up`, until it is not needed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from nbdurable.errors import NbdurableError
from nbdurable.server.address import served_at
from nbdurable.settings.model import read_settings
from nbdurable.wiring import journal_path

# As long as nobody needs it; a timer or a schedule does.
IDLE_EXIT: Final = "10m"
# Recovery of a large journal takes some seconds, and so does Python's start on a busy machine.
_SERVED_S_MAX: Final = 30.0
_LOOK_AGAIN_S: Final = 0.05
# It ends when it meets a command that has the journal for a moment.
_STARTS_MAX: Final = 3


def start_owner(path: Path | None) -> int:
    """Start one that outlives this process, on free ports and with a token; returns its pid.

    Returns once the journal is served: whoever opened it before that would be in its way.

    Raises:
        NbdurableError: It does not start.
    """
    journal = journal_path(read_settings({"home": path}).home)
    for _ in range(_STARTS_MAX):
        pid = _start(path)
        if _is_served(journal, pid):
            return pid
    raise NbdurableError(
        f"nbdurable up does not start; to see why, in a terminal: nbdurable up --journal {journal}"
    )


def _start(path: Path | None) -> int:
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


def _is_served(journal: Path, pid: int) -> bool:
    """Wait until it is, by whomever, or until this process has ended."""
    deadline = time.monotonic() + _SERVED_S_MAX
    while served_at(journal) is None:
        has_ended = False
        with suppress(ChildProcessError):
            has_ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        if has_ended or time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True
