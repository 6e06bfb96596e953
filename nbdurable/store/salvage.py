"""How far one harmed database of a journal can be read: a part of its log, a part of its facts.

Only looks. A database is read under another name, beside the longest beginning of its write-ahead
log that DuckDB replays; each fact is held against its checksum and its payload's digest. Where the
first one fails, what can be trusted ends.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from nbdurable.core.ids import digest_of
from nbdurable.core.records import Row, decode
from nbdurable.store.absorb import one
from nbdurable.store.blobs import MARK
from nbdurable.store.files import wal_of
from nbdurable.store.instance import MEMORY_LIMIT
from nbdurable.store.sql import QUERIES
from nbdurable.store.troubles import decoding

# Read at once. What shares a harmed block with one that cannot be read is given up with it.
_LSNS_AT_ONCE: Final = 512


class Part(NamedTuple):
    """A database that can be opened, with as much of its log as can be replayed.

    Attributes:
        path: None when nothing of it can be read, with or without its log.
        problem: Why it cannot be opened as it was found; None when it can.
        kept_bytes: Of its log.
    """

    path: Path | None
    problem: str | None = None
    log_bytes: int = 0
    kept_bytes: int = 0


class Facts(NamedTuple):
    """The facts of one database, up to the first that cannot be trusted.

    Attributes:
        problem: What ended them; None when these are all.
        files: Of large payloads, and whose they are; None for those of no invocation.

    Units: last_at_ms – milliseconds since the epoch; None when there is no fact.
    """

    fact_count: int
    last_lsn: int
    last_at_ms: int | None
    problem: str | None
    files: dict[str, str | None]


def readable_part(database: Path, into: Path) -> Part:
    """The longest beginning of its log is found by halving: what follows a harm is never read.

    Args:
        into: An empty folder on the same disk. The database is linked there, not copied; whoever
            only reads it changes nothing.
    """
    if not database.exists():
        return Part(None, "it is missing")
    path = into / database.name
    try:
        os.link(database, path)
    except OSError:
        shutil.copy(database, path)
    log = wal_of(database)
    content = log.read_bytes() if log.exists() else b""

    def opens_with(length: int) -> str | None:
        wal_of(path).write_bytes(content[:length])
        return _problem_of(path)

    problem = opens_with(len(content))
    if problem is None:
        return Part(path, None, len(content), len(content))
    if not content or opens_with(0) is not None:
        return Part(None, problem, len(content))
    kept = _longest(len(content), lambda length: opens_with(length) is None)
    wal_of(path).write_bytes(content[:kept])
    return Part(path, problem, len(content), kept)


@contextmanager
def aside(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that sees it as `aside`."""
    with duckdb.connect(":memory:", config={"memory_limit": MEMORY_LIMIT}) as connection:
        connection.execute(QUERIES["read_aside"], {"path": str(path)})
        yield connection


def facts_of(path: Path, first_lsn: int, *, is_dense: bool) -> Facts:
    """Held against what was written, from this lsn on.

    Args:
        is_dense: Whether a gap ends them; retention makes gaps in base, and nothing in hot.

    Raises:
        JournalVersionError: A newer version wrote one of them.
    """
    files: dict[str, str | None] = {}
    count, last_lsn, last_at_ms = 0, first_lsn - 1, None
    problem: str | None = None
    with aside(path) as connection, decoding(path):
        _, _, end_lsn = one(connection, "aside_bounds")
        for start in range(first_lsn, (end_lsn or 0) + 1, _LSNS_AT_ONCE):
            span = {"first_lsn": start, "last_lsn": start + _LSNS_AT_ONCE - 1}
            try:
                found = connection.execute(QUERIES["aside_facts"], span).fetchall()
            except duckdb.Error as error:
                problem = f"facts {start} and following cannot be read: {first_line(error)}"
                break
            for row in map(Row._make, sorted(found, key=itemgetter(0))):
                problem = _harm_of(row, last_lsn + 1 if is_dense else None)
                if problem is not None:
                    break
                count, last_lsn, last_at_ms = count + 1, row.lsn, row.at_ms
                if isinstance(row.payload, bytes) and row.payload.startswith(MARK):
                    files[_file_of(row.payload)] = row.invocation_id
            if problem is not None:
                break
    return Facts(count, last_lsn, last_at_ms, problem, files)


def values_of(path: Path) -> tuple[str | None, set[str]]:
    """What is wrong with the state in base, if anything is, and the files it names."""
    files: set[str] = set()
    with aside(path) as connection:
        try:
            found = connection.execute(QUERIES["aside_values"])
            while values := found.fetchmany(_LSNS_AT_ONCE):
                for value, digest in values:
                    if value.startswith(MARK):
                        files.add(_file_of(value))
                    elif digest_of(value) != digest:
                        return "a value of the state is not what was written", files
        except duckdb.Error as error:
            return f"the state cannot be read: {first_line(error)}", files
    return None, files


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def _problem_of(path: Path) -> str | None:
    try:
        with aside(path) as connection:
            for query in ("aside_bounds", "aside_journal"):
                connection.execute(QUERIES[query]).fetchall()
    except duckdb.Error as error:
        return first_line(error)
    return None


def _longest(too_long: int, is_good: Callable[[int], bool]) -> int:
    """The longest length that is good, given that 0 is, and that what follows a bad one is bad."""
    good, bad = 0, too_long
    while bad - good > 1:
        middle = (good + bad) // 2
        if is_good(middle):
            good = middle
        else:
            bad = middle
    return good


def _harm_of(row: Row, expected_lsn: int | None) -> str | None:
    if expected_lsn is not None and row.lsn != expected_lsn:
        return f"fact {expected_lsn} is not there"
    is_apart = isinstance(row.payload, bytes) and row.payload.startswith(MARK)
    try:
        decode(row._replace(payload=None) if is_apart else row)
    except ValueError as error:
        return str(error)
    return None


def _file_of(mark: bytes) -> str:
    return mark.removeprefix(MARK).decode()
