"""The store in DuckDB: one small database that commits go to, one that holds everything else.

The writer thread owns a store: it opens, appends, absorbs and closes. The `read_` methods may be
called from another thread meanwhile. The format and the reasons are told in `sql/schema.sql`.
"""

from __future__ import annotations

import ctypes
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Final, TypeVar

import duckdb

from nbdurable.core.records import Row
from nbdurable.engine.ports import StateRow
from nbdurable.errors import DiskFullError, StoreError
from nbdurable.store import files
from nbdurable.store.absorb import (
    LOG_BYTES_MAX,
    Checkpointer,
    Switch,
    checkpoint,
    empty_hot,
    extend_snapshot,
    fold_in_parts,
    fold_part,
    one,
)
from nbdurable.store.blobs import Blobs
from nbdurable.store.disk import refuse_full
from nbdurable.store.files import BASE_FILE, HOT_FILE, FileWatch, Format
from nbdurable.store.instance import Bounds, Instance, create_databases
from nbdurable.store.lock import OwnerLock, on_fork, sync_folder
from nbdurable.store.mark import Mark, read_mark
from nbdurable.store.migrate import migrate
from nbdurable.store.reader import History
from nbdurable.store.sql import QUERIES
from nbdurable.store.troubles import decoding, translate, wants_memory

T = TypeVar("T")

# What a commit may have to wait for: absorbing 4 MiB takes about 50 ms (DECISIONS 0063).
ABSORB_BYTES: Final = 4 * 1024 * 1024
# A checkpoint of base takes 0.1 to 0.5 s however little there is to it, since it writes the last
# row group again; nobody but the next absorb waits for it. A kill leaves so much to replay.
CHECKPOINT_BYTES: Final = 16 * 1024 * 1024
# Both where nobody commits: what is in a log is in memory as well, half as much again.
CALM_BYTES: Final = 1024 * 1024
# Hot may grow to so many times the above while a checkpoint of base goes on. It is worked off in
# helpings of the above, one after each commit, so that none waits for all of it.
ABSORB_LATE_FACTOR: Final = 6
# Replaying a log costs 30 to 130 us per commit whatever its size: 5,000 are 0.15 to 0.65 s.
ABSORB_COMMITS: Final = 5_000
# Before a disk that was full is written to again: less would be full again in a moment, and each
# time what runs begins again at its last record.
ROOM_BYTES_MIN: Final = 32 * 1024 * 1024
# Of base that is looked through at once for what has ended: some 10 ms if all of it has.
SNAPSHOT_LSNS: Final = 1_024
# At closing, where nobody waits for a commit: some 0.1 s.
_SNAPSHOT_LSNS_AT_LAST: Final = 16_384
# Rows fetched at once while loading: all bodies of a journal may be larger than memory.
_LOAD_ROWS: Final = 2_048
# And looked through at once: what is sorted of them is 50 MB at most, and DuckDB may have 256.
LOAD_FACTS: Final = 100_000
LSN_MAX: Final = 2**63 - 1
NO_PARAMETERS: Final[Mapping[str, int]] = {}

_HANDLES: Final = ("_appender", "_inserts", "_inserter", "_writer", "_reader", "_tidier")


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _no_probe(step: str) -> None:
    pass


class DuckStore:
    """Mutable: the handles, the last lsn, what was appended since the last absorb.

    Args:
        path: The journal's folder; made if missing.
        created_by: Program and version, written into a new journal for whoever cannot read it.
        probe: Told each step of a commit and an absorb, for tests that kill in the middle of one.
    """

    def __init__(
        self,
        path: Path,
        *,
        absorb_bytes: int = ABSORB_BYTES,
        absorb_commits: int = ABSORB_COMMITS,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
        room_bytes: int = ROOM_BYTES_MIN,
        created_by: str = "nbdurable",
        now_ms: Callable[[], int] = _wall_clock_ms,
        probe: Callable[[str], None] = _no_probe,
    ) -> None:
        self.folder = path.absolute()
        self.lock = OwnerLock(self.folder, now_ms)
        self._absorb_bytes = absorb_bytes
        self._absorb_commits = absorb_commits
        self._checkpoint_bytes = checkpoint_bytes
        self._room_bytes = room_bytes
        self._was_full = False
        self._checkpointer = Checkpointer()
        self._created_by = created_by
        self._now_ms = now_ms
        self._probe = probe
        self._instance: Instance | None = None
        self._watch: FileWatch | None = None
        self._mark: Mark | None = None
        self._switch = Switch()
        self.history = History(self.folder, self._switch, self._attached)
        self._last_lsn = 0
        self._absorbed_lsn = 0
        # Hot has what lies past it: copies of what base has too, and then what it has alone.
        self._emptied_lsn = 0
        self._snapshot_lsn: int | None = None
        self._commit_count = 0
        self._wal_bytes = 0
        # What a refused checkpoint left in the log, so that it does not ask for absorbing again.
        self._wal_bytes_kept = 0
        self._unusable: str | None = "it is not open"
        on_fork(self)

    def open(self) -> None:
        assert self._instance is None, "the store is open already"
        with self._translating("opening the journal"):
            self.folder = self.folder.resolve()
            files.refuse_network(self.folder)
            files.prepare_folder(self.folder)
            self.lock.acquire()
            try:
                self._open_databases(self._begin_or_read_format())
                self.lock.announce()
            except BaseException:
                self._leave_everything()
                raise

    def reopen(self) -> None:
        with self._translating("reopening the journal"):
            self._refuse_in_child()
            assert self._watch is not None, "only what was open is reopened"
            self._leave_handles()
            # Else the journal that somebody deleted would come back empty. Its write-ahead log may
            # have gone with a checkpoint that failed; what was in it is checked by its lsns.
            self._watch.expect_new_wal()
            self._watch.check()
            if self._was_full:
                refuse_full(self.folder, self._room_bytes)
            begun = files.read_format(self.folder)
            assert begun is not None
            self._open_databases(begun)

    def close(self) -> None:
        self._refuse_in_child()
        if self._watch is None:
            return
        try:
            # After a failed append nothing is known of the handles; the next `open` absorbs.
            if self._unusable is None:
                self.absorb()
                self._extend_snapshot(_SNAPSHOT_LSNS_AT_LAST)
                self._checkpoint_at_last()
        finally:
            self._leave_everything()

    def last_lsn(self) -> int:
        self._refuse_in_child()
        return self._last_lsn

    def append(self, rows: Sequence[Row]) -> None:
        writer, watch = self._usable()
        expected = range(self._last_lsn + 1, self._last_lsn + 1 + len(rows))
        assert rows, "a group is never empty"
        assert [row.lsn for row in rows] == list(expected), "lsns are dense"
        with self._writing("appending facts"):
            stored = self._blobs.take_out(rows)
            self._probe("commit")
            try:
                self._commit(stored)
            except duckdb.Error as error:
                if not wants_memory(error):
                    raise
                with self.history.emptied("memory"):
                    if (one(writer, "hot_bounds")[2] or self._last_lsn) != rows[-1].lsn:
                        self._commit(stored)
            self._wal_bytes = watch.check_commit()
            self._probe("committed")
        self._last_lsn = rows[-1].lsn
        if self._mark is not None:
            self._mark.put(self._last_lsn)
        self._commit_count += 1

    def _commit(self, stored: Sequence[Row]) -> None:
        if len(stored) <= len(self._inserts):
            self._inserter.execute(self._inserts[len(stored) - 1], [*chain(*stored)])
        else:
            self._appender.append_rows(stored)
            self._appender.flush()

    def wants_absorb(self) -> bool:
        # Base is being written to while its checkpoint goes on: absorbing would wait for that.
        late = ABSORB_LATE_FACTOR if self._checkpointer.is_busy else 1
        return (
            self._grown_bytes() >= self._absorb_bytes * late
            or self._commit_count >= self._absorb_commits * late
        )

    def absorb(self) -> None:
        self._absorb_upto(self._last_lsn)

    def absorb_some(self) -> None:
        fact_bytes = self._grown_bytes() / max(1, self._last_lsn - self._emptied_lsn)
        left_bytes = fact_bytes * (self._last_lsn - self._absorbed_lsn)
        # What is too much for one transaction is one group, absorbed in parts of its own.
        if 2 * self._absorb_bytes < left_bytes <= LOG_BYTES_MAX:
            self._absorb_upto(self._absorbed_lsn + max(1, int(self._absorb_bytes / fact_bytes)))
        else:
            self.absorb()

    def _absorb_upto(self, upto: int) -> None:
        writer, watch = self._usable()
        with self._writing("absorbing facts"):
            try:
                self._absorb(writer, watch, upto)
            except duckdb.Error as error:
                if not wants_memory(error):
                    raise
                with self.history.emptied("memory"):
                    with suppress(duckdb.TransactionException):
                        writer.execute(QUERIES["end_read"])
                    self._absorb(writer, watch, upto)
            if upto == self._last_lsn:
                self._sweep_blobs(writer)
                self._checkpoint_if_long(self._checkpoint_bytes)

    def _absorb(self, writer: duckdb.DuckDBPyConnection, watch: FileWatch, upto: int) -> None:
        self._checkpointer.wait()
        watch.check()
        rows, first, last = one(writer, "hot_bounds")
        if rows == 0:
            return
        _, _, absorbed = one(writer, "base_meta")
        # Recovery, and what absorbs helping by helping, may meet copies of what base has.
        assert last == self._last_lsn
        assert last == absorbed or (first <= absorbed + 1 and rows == last - first + 1)
        if upto > absorbed:
            self._probe("absorb")
            if upto < last:
                fold_part(writer, upto)
            else:
                log_bytes = self._log_bytes(HOT_FILE)
                fold_in_parts(writer, last, log_bytes * (last - absorbed) // rows)
            self._absorbed_lsn = upto
            self._probe("absorb: committed to base")
        if upto < last:
            return
        # The name of a new log must be durable before the facts in it are in no other file.
        sync_folder(self.folder)
        watch.expect_new_wal()
        with self._switch.turning():
            empty_hot(writer)
        self._count_from_here(watch)
        watch.check()
        files.make_private(self.folder)
        self._probe("absorbed")

    def _grown_bytes(self) -> int:
        return self._wal_bytes - self._wal_bytes_kept

    def wants_snapshot(self) -> bool:
        return self._is_snapshot_behind() or self._grown_bytes() >= CALM_BYTES

    def _is_snapshot_behind(self) -> bool:
        return self._snapshot_lsn is None or self._snapshot_lsn < self._absorbed_lsn

    def extend_snapshot(self) -> None:
        self._extend_snapshot(SNAPSHOT_LSNS)
        # Absorbing would wait for the checkpointer, and so would the next commit.
        if self._is_snapshot_behind() or self._checkpointer.is_busy:
            return
        if self._grown_bytes() >= CALM_BYTES:
            self.absorb_some()
        else:
            self._checkpoint_if_long(CALM_BYTES)

    def _extend_snapshot(self, lsn_count: int) -> None:
        writer, _ = self._usable()
        # It would be waited for, as long as it takes.
        if self._checkpointer.is_busy:
            return
        with self._writing("extending the snapshot"):
            if self._snapshot_lsn is None:
                (self._snapshot_lsn,) = one(writer, "snapshot_reach")
            first = self._snapshot_lsn + 1
            last = min(self._snapshot_lsn + lsn_count, self._absorbed_lsn)
            if first > last:
                return
            with decoding(self.folder / BASE_FILE):
                extend_snapshot(writer, first, last)
            self._snapshot_lsn = last
            self._checkpoint_if_long(self._checkpoint_bytes)

    def load(self) -> Iterator[Row]:
        return map(Row._make, self._load())

    def _load(self) -> Iterator[tuple[object, ...]]:
        last_lsn = 0
        ends = [end for (end,) in self._stream("load_parts", {"part_facts": LOAD_FACTS})]
        # After the last fact there may be what is known of purged ones.
        for end in (*ends, LSN_MAX):
            assert isinstance(end, int)
            yield from self._stream("load", {"first_lsn": last_lsn + 1, "last_lsn": end})
            last_lsn = end

    def load_state(self) -> Iterator[StateRow]:
        return map(StateRow._make, self._stream("load_state"))

    def read_journals(
        self,
        invocation_ids: Sequence[str],
        first_lsn: int,
        last_lsn: int,
        *,
        with_lost: bool = False,
    ) -> list[Row]:
        ids = list(invocation_ids)
        span = {"invocation_ids": ids, "first_lsn": first_lsn, "last_lsn": last_lsn}
        return self._read_rows("read_journals", "reading journals", span, with_lost=with_lost)

    def read_payload(self, lsn: int) -> bytes | None:
        def read() -> list[tuple[bytes]]:
            with self._snapshot("reading a payload") as reader:
                found = reader.execute(QUERIES["read_payload"], {"lsn": lsn}).fetchall()
                if not found:
                    found = reader.execute(QUERIES["read_state_payload"], {"lsn": lsn}).fetchall()
                return found

        found = self._with_room(read)
        with self._translating("reading a payload"):
            return self._blobs.content(found[0][0]) if found else None

    def read_payloads(self, lsns: Sequence[int]) -> dict[int, bytes]:
        wanted = {"lsns": list(lsns), "first_lsn": min(lsns), "last_lsn": max(lsns)}

        def read() -> list[tuple[int, bytes]]:
            with self._snapshot("reading payloads") as reader:
                found = reader.execute(QUERIES["read_payloads"], wanted).fetchall()
                # Of a fact that was purged. The fact's own, where it is, is the same.
                return reader.execute(QUERIES["read_state_payloads"], wanted).fetchall() + found

        found = self._with_room(read)
        with self._translating("reading payloads"):
            return {lsn: self._blobs.content(payload) for lsn, payload in dict(found).items()}

    def read_rows(self, first_lsn: int, last_lsn: int) -> list[Row]:
        span = {"first_lsn": first_lsn, "last_lsn": last_lsn}
        return self._read_rows("read_rows", "reading facts", span)

    def abandon_in_child(self) -> None:
        """A forked child must not even free DuckDB's objects: that would close the parent's files.

        So they get one reference more than anybody will ever give back.
        """
        if self._instance is not None:
            held = (self.__dict__.get(name) for name in _HANDLES)
            for handle in (*self._instance.handles(), *held):
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))
        self._unusable = "fork"

    # -- opening ------------------------------------------------------------------------------

    def _begin_or_read_format(self) -> Format:
        begun = files.read_format(self.folder)
        if begun is None:
            begun = Format(files.FORMAT_VERSION, uuid.uuid4().hex, self._now_ms())
            files.write_format(self.folder, begun, self._created_by)
        create_databases(self.folder, begun._replace(version=files.FORMAT_VERSION))
        if begun.version < files.FORMAT_VERSION:
            begun = migrate(self.folder, begun, self._created_by)
        return begun

    def _open_databases(self, begun: Format) -> None:
        self._instance = instance = Instance(self.folder)
        bounds = instance.verify(begun)
        acknowledged = max(self._last_lsn, read_mark(self.folder, begun.journal_id))
        if bounds.last_lsn < acknowledged:
            found = f"it ends with fact {bounds.last_lsn}, but {acknowledged} was acknowledged"
            raise files.damaged(self.folder, found)
        instance.attach()
        self._blobs = Blobs(self.folder)
        self._watch = watch = self._watch or FileWatch(self.folder)
        self._mark = self._mark or Mark(self.folder, begun.journal_id)
        files.furnish(self.folder)
        files.make_private(self.folder)
        self._writer = instance.cursor()
        self._reader = instance.cursor()
        self._tidier = instance.cursor()
        self._inserter = instance.inserter
        self._appender = self._writer.appender("hot.fact")
        self._inserts = self._inserter.extract_statements(QUERIES["append_few"])
        self._last_lsn = bounds.last_lsn
        # Asked for when there is time to extend it.
        self._snapshot_lsn = None
        self._unusable = None
        self._recover(bounds, watch)
        self._was_full = False

    def _recover(self, bounds: Bounds, watch: FileWatch) -> None:
        """Begin with an empty hot and no write-ahead logs; a clean journal is not written to."""
        # A log may end in the middle of a commit that a kill tore. Nothing is written behind that.
        if files.wal_of(self.folder / BASE_FILE).exists():
            checkpoint(self._writer, "base")
        if bounds.hot_rows:
            self.absorb()
        elif files.wal_of(self.folder / HOT_FILE).exists():
            checkpoint(self._writer, "hot")
        self._count_from_here(watch)
        _, _, absorbed = one(self._writer, "base_meta")
        assert absorbed == self._last_lsn == bounds.last_lsn
        self._absorbed_lsn = absorbed
        # `load` counts on it: an edit that waited behind one that has ended is over.
        while self._is_snapshot_behind():
            self._checkpointer.wait()
            self._extend_snapshot(_SNAPSHOT_LSNS_AT_LAST)
        assert one(self._writer, "hot_bounds")[0] == 0
        if not bounds.hot_rows:
            self._sweep_blobs(self._writer)

    def _leave_handles(self) -> None:
        self._unusable = "it is not open"
        with suppress(duckdb.Error, OSError):
            # What it has met is met again: its log is still there when the journal is opened.
            self._checkpointer.wait()
        with self.history.emptied("files"), self._switch.turning():
            if self._instance is not None:
                # The appender and the statement hold the connection, and it the files.
                for name in _HANDLES:
                    self.__dict__.pop(name, None)
                self._instance.close()
                self._instance = None

    def _leave_everything(self) -> None:
        self._leave_handles()
        self._last_lsn = 0
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._mark is not None:
            self._mark.close()
            self._mark = None
        self.lock.release()

    # -- absorbing ----------------------------------------------------------------------------

    def _log_bytes(self, file: str) -> int:
        log = files.wal_of(self.folder / file)
        return log.stat().st_size if log.exists() else 0

    def _checkpoint_if_long(self, log_bytes: int) -> None:
        if self._log_bytes(BASE_FILE) >= log_bytes and not self._checkpointer.is_busy:
            self._checkpointer.start(self._tidy)

    def _tidy(self) -> None:
        """On the checkpointer's thread."""
        try:
            self.history.checkpoint_base(self._tidier)
        except duckdb.Error as error:
            if not wants_memory(error):
                raise
            with self.history.emptied("memory"):
                self.history.checkpoint_base(self._tidier)

    def _checkpoint_at_last(self) -> None:
        """Who closes a journal leaves no log behind: it can be copied, or read by any DuckDB."""
        writer, _ = self._usable()
        with self._writing("closing the journal"):
            self._checkpointer.wait()
            if self._log_bytes(BASE_FILE):
                self.history.checkpoint_base(writer)

    def _sweep_blobs(self, writer: duckdb.DuckDBPyConnection) -> None:
        """Only when hot is empty: what it names is known to base when it is absorbed."""
        named = {name for (name,) in writer.execute(QUERIES["blob_names"]).fetchall()}
        self._blobs.sweep(named, self._now_ms())

    def _count_from_here(self, watch: FileWatch) -> None:
        watch.expect_new_wal()
        self._commit_count = 0
        self._emptied_lsn = self._last_lsn
        self._wal_bytes = self._wal_bytes_kept = self._log_bytes(HOT_FILE)

    # -- borders ------------------------------------------------------------------------------

    def _usable(self) -> tuple[duckdb.DuckDBPyConnection, FileWatch]:
        self._refuse_in_child()
        if self._unusable is None and self._watch is not None:
            return self._writer, self._watch
        raise StoreError(f"The journal {self.folder} cannot be used: {self._unusable}.")

    def _attached(self) -> Instance:
        self._usable()
        assert self._instance is not None
        return self._instance

    def _refuse_in_child(self) -> None:
        if self._unusable == "fork":
            raise StoreError(
                f"This process was forked from the owner of the journal {self.folder}, and must "
                "not touch it. Open the journal in the parent only, and start children with "
                "`spawn`, or as processes of their own."
            )

    @contextmanager
    def _writing(self, doing: str) -> Iterator[None]:
        """Fail-stop: what fails in here has an unknown outcome, and nothing may build on it."""
        try:
            with self._translating(doing):
                yield
        except BaseException:
            self._unusable = f"{doing} failed, and its outcome is unknown until it is reopened"
            raise

    @contextmanager
    def _translating(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, OSError) as error:
            if self._watch is not None:
                # Deleted files make DuckDB fail in many ways; this is the one cause.
                self._watch.check()
            ours = translate(error, doing, self.folder)
            self._was_full |= isinstance(ours, DiskFullError)
            raise ours from error

    @contextmanager
    def _snapshot(self, doing: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """One moment of both files for the statements inside; see `pin_hot`."""
        with self._switch.reading(), self._translating(doing):
            self._usable()
            reader = self._reader
            reader.execute(QUERIES["begin_read"])
            try:
                reader.execute(QUERIES["pin_hot"]).fetchall()
                yield reader
            finally:
                reader.execute(QUERIES["end_read"])

    def _read_rows(
        self, query: str, doing: str, span: Mapping[str, object], *, with_lost: bool = False
    ) -> list[Row]:
        def read() -> list[Row]:
            with self._snapshot(doing) as reader:
                return self._rows(reader.execute(QUERIES[query], span), with_lost=with_lost)

        return self._with_room(read)

    def _with_room(self, read: Callable[[], T]) -> T:
        """Memory is shared with users' queries; when it has run out, they give theirs back."""
        try:
            return read()
        except StoreError as error:
            if not isinstance(error.__cause__, duckdb.Error) or not wants_memory(error.__cause__):
                raise
        with self.history.emptied("memory"):
            with self._switch.reading(), suppress(duckdb.TransactionException):
                # Even ending the snapshot takes memory, and may have failed for want of it.
                self._reader.execute(QUERIES["end_read"])
            return read()

    def _rows(self, found: duckdb.DuckDBPyConnection, *, with_lost: bool) -> list[Row]:
        """Sorted here, where it costs nothing: DuckDB's sort of blobs needs twice their memory."""
        put_back = self._blobs.put_back_or_lose if with_lost else self._blobs.put_back
        return [put_back(row) for row in sorted(found.fetchall(), key=itemgetter(0))]

    def _stream(
        self, query: str, parameters: Mapping[str, int] = NO_PARAMETERS
    ) -> Iterator[tuple[object, ...]]:
        self._usable()
        assert self._commit_count == 0, "load only after open, when everything is absorbed"
        assert self._instance is not None
        cursor = self._instance.cursor()
        try:
            with self._translating("loading the journal"):
                cursor.execute(QUERIES[query], parameters)
                while rows := cursor.fetchmany(_LOAD_ROWS):
                    yield from rows
        finally:
            # Also when the reader gives up on a row: a snapshot left open is in a checkpoint's way.
            cursor.close()
