"""One process at a time is at a run: a lock that goes with the process, however it ends.

It is taken before the process is started, and inherited: so there is no moment in which nobody has
it, and whoever owns the journal next finds it taken as long as that process lives.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from nbdurable.runs.request import file_name

FOLDER: Final = "runs"


def folder_of(journal: Path) -> Path:
    """Where locks and logs of runs are; only for whoever owns them to read."""
    folder = journal / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def take(journal: Path, key: str) -> int | None:
    """The descriptor that holds it, to be passed on or closed; None if a process is at this run."""
    path = folder_of(journal) / f"{file_name(key)}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def let_go(descriptor: int) -> None:
    """Here; a process that has inherited it holds it on."""
    os.close(descriptor)
