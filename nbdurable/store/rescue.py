"""A journal that cannot be opened: a copy of it, set aside, and how far that can be read.

Nothing here changes the journal. Its files are copied while its lock is held, by a process that has
not opened them with DuckDB; only the copy is ever looked into.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from nbdurable.store.files import DATABASE_FILES, wal_of
from nbdurable.store.instance import MEMORY_LIMIT
from nbdurable.store.lock import LOCK_FILE, OWNER_FILE, OwnerLock
from nbdurable.store.sql import QUERIES

# A write-ahead log that is out of the way while a database is read without it.
_UNREADABLE: Final = ".unreadable"
# Of the name of a copy, between the journal's and the time.
ASIDE: Final = "-aside-"


class Readable(NamedTuple):
    """One database of a copy.

    Attributes:
        problem: Why it cannot be read whole; None when it can.
        is_without_log: What is counted is all but the write-ahead log; else nothing can be read.

    Units: last_at_ms – milliseconds since the epoch; None when nothing can be read.
    """

    file: str
    problem: str | None = None
    is_without_log: bool = False
    log_bytes: int = 0
    fact_count: int = 0
    last_lsn: int | None = None
    last_at_ms: int | None = None


def copy_aside(folder: Path, now_ms: int) -> Path:
    """The journal as it is now, in a new folder beside it.

    Raises:
        JournalHeldError: Somebody has it open, so it is not what is on the disk alone.
    """
    lock = OwnerLock(folder, lambda: now_ms)
    lock.acquire()
    try:
        return copy_files(folder, now_ms)
    finally:
        lock.release()


def copy_files(folder: Path, now_ms: int) -> Path:
    """The same, by whoever holds the lock already, and has no database open."""
    at = datetime.fromtimestamp(now_ms / 1000, tz=UTC)
    name = f"{folder.name}{ASIDE}{at:%Y%m%dT%H%M%SZ}"
    copy, number = folder.with_name(name), 1
    while copy.exists():
        number += 1
        copy = folder.with_name(f"{name}-{number}")
    shutil.copytree(
        folder, copy, symlinks=True, ignore=shutil.ignore_patterns(LOCK_FILE, OWNER_FILE)
    )
    copy.chmod(0o700)
    return copy


def readable(copy: Path) -> list[Readable]:
    """How far each database of a copy can be read."""
    return [_database(copy / file) for file in DATABASE_FILES]


def _database(path: Path) -> Readable:
    log = wal_of(path)
    log_bytes = log.stat().st_size if log.exists() else 0
    try:
        return _read(path, log_bytes)
    except duckdb.Error as error:
        problem = str(error).strip().partition("\n")[0]
    if log_bytes:
        try:
            with _without(log):
                return _read(path, log_bytes)._replace(problem=problem, is_without_log=True)
        except duckdb.Error:
            pass
    return Readable(path.name, problem, log_bytes=log_bytes)


def _read(path: Path, log_bytes: int) -> Readable:
    """Raises duckdb.Error when it cannot be read."""
    with duckdb.connect(":memory:", config={"memory_limit": MEMORY_LIMIT}) as connection:
        connection.execute(QUERIES["read_aside"], {"path": str(path)})
        found = connection.execute(QUERIES["readable_facts"]).fetchone()
    assert found is not None
    fact_count, last_lsn, last_at_ms = found
    return Readable(
        path.name,
        log_bytes=log_bytes,
        fact_count=fact_count,
        last_lsn=last_lsn,
        last_at_ms=last_at_ms,
    )


@contextmanager
def _without(log: Path) -> Iterator[None]:
    away = log.with_name(log.name + _UNREADABLE)
    log.rename(away)
    try:
        yield
    finally:
        away.rename(log)
