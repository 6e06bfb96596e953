"""One process at a time is at a run: a lock that goes with the process, however it ends.

It is taken before the process is started, and inherited: so there is no moment in which nobody has
it, and whoever owns the journal next finds it taken as long as that process lives.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
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
    return _lock(folder_of(journal) / f"{file_name(key)}.lock")


def _lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if not _is_still(path, descriptor):
        # It was removed between the two lines above; the next one is nobody's yet.
        os.close(descriptor)
        return _lock(path)
    return descriptor


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def forget_gone(journal: Path, keys: Iterable[str]) -> int:
    """Remove locks and logs of runs that are none of these; returns how many files.

    Those of a run whose process lives are left, as are those that one is about to take: a file is
    removed by whoever holds its lock, and `take` looks whether what it holds is still there.
    """
    folder = journal / FOLDER
    kept = {file_name(key) for key in keys}
    gone = {path.stem for path in folder.glob("*.l*") if path.suffix in (".lock", ".log")} - kept
    count = 0
    for name in gone:
        held = _lock(folder / f"{name}.lock")
        if held is None:
            continue
        for path in (folder / f"{name}.log", folder / f"{name}.lock"):
            count += path.exists()
            path.unlink(missing_ok=True)
        let_go(held)
    return count


def let_go(descriptor: int) -> None:
    """Here; a process that has inherited it holds it on."""
    os.close(descriptor)
