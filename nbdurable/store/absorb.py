"""Absorbing: carry what hot holds over into base, make the projections, and empty hot.

One projection waits until there is nothing else to do: the snapshot, which only opening reads, and
which opening completes first. It takes three times as long as all else together.

Two steps, each safe to be killed in: one transaction on base, which also moves `absorbed_lsn`;
emptying hot. Killed before the commit, everything is in hot as before. Killed after it, hot holds
copies that `absorbed_lsn` tells apart, and recovery removes them.

What was committed to base is in its write-ahead log. That is as durable as base, so it is moved
into base seldom, and by a thread of its own: a checkpoint of one database is in nobody's way who
writes to another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import duckdb

from nbdurable.core.records import Row
from nbdurable.core.snapshot import snapshot_of
from nbdurable.store.sql import QUERIES

# Few enough to be gone before the garbage collector counts them among what stays.
_FETCH_ROWS: Final = 512
# What a group without state or purges can do without.
_STATE = ("forget_state", "absorb_state")
_PURGE = (
    "purge_facts",
    "purge_journals",
    "purge_promises",
    "forget_snapshot",
    "absorb_journal_purges",
)


# A group may be large: an attempt that sets thousands of values at once. More than this is absorbed
# in parts, of so many facts, whose payloads have at most 32 MiB together.
LOG_BYTES_MAX: Final = 32 * 1024 * 1024
PART_FACTS: Final = 1_024


class Switch:
    """Mutable: two locks. Readers on one side, whoever takes files from under them on the other.

    A reader's snapshot stands in the way of a checkpoint. One lock would do, were Python's fair:
    a thread that reads in a loop takes it again before one that waits has woken up.
    """

    def __init__(self) -> None:
        self._held = threading.Lock()
        self._entrance = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._entrance:
            pass
        with self._held:
            yield

    @contextmanager
    def turning(self) -> Iterator[None]:
        with self._entrance, self._held:
            yield


class Checkpointer:
    """Mutable: the thread that moves base's log into base, and what it has met."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    @property
    def is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, work: Callable[[], None]) -> None:
        assert not self.is_busy, "one checkpoint at a time"
        self._thread = threading.Thread(target=self._run, args=(work,), name="nbdurable-checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until it is idle. Raises what it has met, once."""
        if self._thread is not None:
            self._thread.join()
        self._thread, failure, self._failure = None, self._failure, None
        if failure is not None:
            raise failure

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - border: told to whoever waits for it.
            self._failure = error


def fold_in_parts(writer: duckdb.DuckDBPyConnection, last_lsn: int, log_bytes: int) -> None:
    """As `fold_into_base`, in as many transactions as fit into memory.

    Each of them is an absorb by itself, that a kill may be the end of.

    Args:
        log_bytes: Of hot; up to LOG_BYTES_MAX they are absorbed at once.
    """
    if log_bytes <= LOG_BYTES_MAX:
        fold_into_base(writer, last_lsn)
        return
    # What only a log has is in memory as well, and what is in a database need not be.
    checkpoint(writer, "hot")
    _, _, absorbed = one(writer, "base_meta")
    for upto in (*range(absorbed + PART_FACTS, last_lsn, PART_FACTS), last_lsn):
        fold_part(writer, upto)
        checkpoint(writer, "base")


def fold_part(writer: duckdb.DuckDBPyConnection, last_lsn: int) -> None:
    """As `fold_into_base`, where hot has facts past `last_lsn`."""
    writer.execute(QUERIES["absorb_upto"].format(last_lsn=last_lsn))
    try:
        fold_into_base(writer, last_lsn)
    except duckdb.Error:
        # Nothing else is taken in a transaction that has failed, and what failed is what counts.
        with suppress(duckdb.Error):
            writer.execute(QUERIES["end_read"])
        raise
    finally:
        writer.execute(QUERIES["absorb_all"])


def fold_into_base(writer: duckdb.DuckDBPyConnection, last_lsn: int) -> None:
    """Everything past `absorbed_lsn`, up to `last_lsn`, becomes part of base: one transaction."""
    writer.execute(QUERIES["begin_absorb"])
    changes, purges = one(writer, "count_changes")
    writer.execute(QUERIES["absorb_facts"])
    # A purge can take an object's state with it, so it is a change of state too.
    if changes or purges:
        for name in _STATE:
            writer.execute(QUERIES[name])
    if purges:
        for name in _PURGE:
            writer.execute(QUERIES[name])
    writer.execute(QUERIES["absorb_blobs"])
    if (changes or purges) and one(writer, "count_blobs")[0]:
        writer.execute(QUERIES["forget_blobs"])
    writer.execute(QUERIES["move_absorbed_lsn"], {"last_lsn": last_lsn})
    writer.execute(QUERIES["commit_absorb"])


def extend_snapshot(writer: duckdb.DuckDBPyConnection, first_lsn: int, last_lsn: int) -> None:
    """By what ended in this range of base: one transaction. Raises as `fold_into_snapshot`."""
    writer.execute(QUERIES["begin_absorb"])
    fold_into_snapshot(writer, first_lsn, last_lsn)
    writer.execute(QUERIES["commit_absorb"])


def fold_into_snapshot(writer: duckdb.DuckDBPyConnection, first_lsn: int, last_lsn: int) -> None:
    """What ended in this range of base gets its place in the snapshot. Inside a transaction.

    Raises:
        UnknownFactError, ValueError: How one began or ended is not what was written.
    """
    span = {"first_lsn": first_lsn, "last_lsn": last_lsn}
    ended = map(Row._make, _in_parts(writer.execute(QUERIES["ended"], span)))
    snapshot = [(*row[:8], row.crc) for row in snapshot_of(ended)]
    if snapshot:
        appender = writer.appender("base.snapshot")
        appender.append_rows(snapshot)
        appender.flush()
    writer.execute(QUERIES["ended_journal_purges"], span)


def _in_parts(found: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := found.fetchmany(_FETCH_ROWS):
        yield from rows


def empty_hot(writer: duckdb.DuckDBPyConnection) -> None:
    """Only copies are left in hot when this is called."""
    writer.execute(QUERIES["empty_hot"])
    checkpoint(writer, "hot")


def checkpoint(writer: duckdb.DuckDBPyConnection, database: str) -> bool:
    """Move a write-ahead log into its database. False when a reader's snapshot is in the way.

    Being refused costs nothing but the log's length: it was committed, and the next absorb tries
    again. FORCE CHECKPOINT would wait for the reader without an end.
    """
    try:
        writer.execute(QUERIES[f"checkpoint_{database}"])
    except duckdb.TransactionException:
        return False
    return True


def one(connection: duckdb.DuckDBPyConnection, name: str) -> tuple[int, ...]:
    """The one row of a query that has one."""
    # Not `fetchone`: DuckDB 2 keeps a connection busy until a result was fetched to its end.
    (row,) = connection.execute(QUERIES[name]).fetchall()
    return tuple(row)
