"""What goes wrong with the files of a journal, in words: which file, what was found, what to do.

No exception of DuckDB or of the system leaves the store; here ours are made of them.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb

from nbdurable.core.records import UnknownFactError
from nbdurable.errors import (
    DiskFullError,
    JournalDamagedError,
    JournalHeldError,
    JournalVersionError,
    NbdurableError,
    StoreError,
)
from nbdurable.store import files

# With this every sentence of DuckDB's about memory ends, e.g. "failed to pin block of size …".
_MEMORY_USED: Final = re.compile(r"\([\d.]+ \w+/[\d.]+ \w+ used\)")

# A limit of the process on the size of files is met as a full disk is.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_TEXTS: Final = ("No space left on device", "Disk quota exceeded", "File too large")
_SEALED: Final = (errno.EROFS, errno.EACCES, errno.EPERM)
_SEALED_TEXTS: Final = ("Read-only file system", "Permission denied", "Operation not permitted")
_UNSEAL: Final = (
    "Make the disk and the files writable for this user, and open it again; or name another folder:"
    " NBDURABLE_HOME, or open(path=...)."
)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Around everything that reads a database for the first time: what fails is its damage."""
    try:
        yield
    except (duckdb.Error, AssertionError) as error:
        raise _blame(error, path) from error


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Around everything that decodes facts of a database."""
    try:
        yield
    except UnknownFactError as error:
        raise JournalVersionError(
            f"{path} holds something that this version of nbdurable does not know ({error}): a "
            "newer version wrote it. Nothing was modified. Install a newer nbdurable, or name "
            "another folder for a new journal."
        ) from error
    except ValueError as error:
        raise files.damaged(path, str(error)) from error


def wants_memory(error: duckdb.Error) -> bool:
    """Whether it has failed for want of memory, whatever it was doing when it found none."""
    return (
        isinstance(error, duckdb.OutOfMemoryException)
        or _MEMORY_USED.search(str(error)) is not None
    )


def translate(error: duckdb.Error | OSError, doing: str, folder: Path) -> NbdurableError:
    """Ours for an error in the middle of the work."""
    found = f"found while {doing}: {_first_line(error)}"
    if _says(error, _FULL, _FULL_TEXTS):
        return DiskFullError(
            f"The disk of the journal {folder} is full, {found} What was acknowledged is safe. Make"
            " room, or move the journal to another disk while nobody has it open."
        )
    if _says(error, _SEALED, _SEALED_TEXTS):
        return StoreError(
            f"The journal {folder} cannot be written to, {found} What was acknowledged is safe."
            f" {_UNSEAL}"
        )
    if "Corrupt" in str(error) or "checksum" in str(error):
        return JournalDamagedError(
            f"A file of the journal {folder} is damaged, {found} `nbdurable doctor` copies it aside"
            " and says what can be repaired and what would be lost; or restore it from a backup."
        )
    return StoreError(
        f"{doing.capitalize()} failed in {folder}: {_first_line(error)} A write that fails may have"
        " become durable or not: reopen the journal and read its last lsn."
    )


def _blame(error: Exception, path: Path) -> NbdurableError:
    text = str(error)
    if "Could not set lock on file" in text or "Unique file handle conflict" in text:
        pid = re.search(r"\(PID (\d+)\)", text)
        who = f"process {pid[1]}" if pid else "this process, by another connection"
        return JournalHeldError(
            f"{path} is open in {who}, which is not nbdurable's owner of the journal: a DuckDB "
            "shell, or a script. Nothing was modified. Close it there, and use `durable.sql` to "
            "look into a journal."
        )
    for texts, todo in (
        (_FULL_TEXTS, "Make room, and open it again."),
        (_SEALED_TEXTS, _UNSEAL),
        (("Too many open files",), "Close some in this process, or allow it more (ulimit -n)."),
    ):
        if any(said in text for said in texts):
            return StoreError(
                f"{path} could not be opened: {_first_line(error)} Nothing was modified. {todo}"
            )
    return files.damaged(path, _first_line(error).rstrip("."))


def _says(error: Exception, numbers: tuple[int, ...], texts: tuple[str, ...]) -> bool:
    if isinstance(error, OSError):
        return error.errno in numbers
    return any(text in str(error) for text in texts)


def _first_line(error: Exception) -> str:
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return line if line.endswith((".", "!")) else line + "."
