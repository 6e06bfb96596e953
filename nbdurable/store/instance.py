"""Our own DuckDB instance, in memory, with the journal's two databases attached to it.

Attached, never as main database: what fails then fails for one database only. Everything is read
through a read-only attachment first, so that a journal that is refused is left byte for byte as it
was found.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from nbdurable.core.records import Row, decode
from nbdurable.store import files
from nbdurable.store.absorb import one
from nbdurable.store.files import BASE_FILE, HOT_FILE, UNFINISHED, Format
from nbdurable.store.lock import sync_folder
from nbdurable.store.sql import HISTORY, QUERIES
from nbdurable.store.troubles import decoding, reading

# DuckDB's default is 80 % of the machine, which belongs to the notebook.
MEMORY_LIMIT: Final = "256MiB"
# With more at once they would only take memory from each other.
QUESTIONS_MAX: Final = 4
# For the sorts and hash tables of one: what is beyond goes to disk, not to the engine's share.
QUESTION_MEMORY_LIMIT: Final = "96MiB"
# What a query sorts beside its memory, it must not take from the disk that commits go to.
SPILL_LIMIT: Final = "512MiB"

# DuckDB has one limit for all, and whoever finds nothing left below it fails, be it a commit or a
# checkpoint, which takes its database with it. So queries are stopped before: in what cannot be
# written to disk (what a sort holds can, and makes room by itself), and in what was written there.
HELD_BYTES_MAX: Final = 128 * 1024 * 1024
SPILLED_BYTES_MAX: Final = 384 * 1024 * 1024

_SETTINGS: Final = {
    "memory_limit": MEMORY_LIMIT,
    "max_temp_directory_size": SPILL_LIMIT,
    # A commit is four fifths of it CPU, and handing a part of that to another thread costs a tenth.
    "threads": "1",
    # What DuckDB frees goes back to the machine, and not only when it allocates again.
    "allocator_background_threads": "true",
    # A checkpoint happens where we place it (absorb), or not at all: one that DuckDB places on its
    # own stalls a commit for up to 3 s, and one at closing would modify a journal that is refused.
    "wal_autocheckpoint": "1TiB",
    "checkpoint_on_detach": "DISABLED",
    # Nothing outside of the journal is ever read: no download, no variable of a notebook cell.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}

# Rows decoded at once while verifying.
_VERIFY_ROWS: Final = 2_048


class Bounds(NamedTuple):
    """What was found at opening. `hot_rows` counts copies of absorbed rows too."""

    absorbed_lsn: int
    last_lsn: int
    hot_rows: int


class Instance:
    """Mutable: the connection and every cursor made from it, so that all can be left behind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        spill = str(folder / files.SPILL_FOLDER)
        self._connection = duckdb.connect(":memory:", config={**_SETTINGS, "temp_directory": spill})
        self._connection.execute(QUERIES["begin_instance"])
        self._cursors: list[duckdb.DuckDBPyConnection] = []
        # Whose settings cannot be changed once the configuration is locked.
        self._questions: list[duckdb.DuckDBPyConnection] = []
        self._has_history = False
        self._watch = self.cursor()
        self._watching = threading.Lock()

    def attach(self) -> None:
        """Attach what was verified, for good; from then on nothing else can be reached."""
        self.attach_to_migrate()
        for _ in range(QUESTIONS_MAX):
            cursor = self.cursor()
            cursor.execute(QUERIES["limit_question"], {"memory_limit": QUESTION_MEMORY_LIMIT})
            self._questions.append(cursor)
        # There is nothing to optimize in a row, and looking for it is a sixth of a commit's CPU.
        self.inserter = self.cursor()
        self.inserter.execute(QUERIES["plan_plainly"])
        self._connection.execute(QUERIES["lock_instance"])

    def attach_to_migrate(self) -> None:
        for database in files.DATABASES:
            self._attach(f"attach_{database}", self._folder / files.DATABASES[database])

    def copy_to(self, folder: Path) -> None:
        """Both databases, as they are with their write-ahead logs, to files of the same names."""
        for database, file in files.DATABASES.items():
            self._attach(f"read_{database}", self._folder / file)
            self._attach("attach_copy", folder / file)
            for query in (f"copy_{database}", "leave_copy", f"detach_{database}"):
                self._connection.execute(QUERIES[query])

    def verify(self, expected: Format) -> Bounds:
        """Read both databases without writing: they belong together, and hot can be absorbed.

        The facts of base are not decoded: that would take as long as recovery, which decodes them.

        Raises:
            JournalDamagedError: Which file, and what was found.
            JournalVersionError: A newer version wrote a fact of hot.
        """
        for database, file in files.DATABASES.items():
            if not (self._folder / file).exists():
                raise files.damaged(self._folder / file, "it is missing")
            self._attach(f"read_{database}", self._folder / file)
        bounds = self._bounds(expected)
        self._check_pending()
        for database in files.DATABASES:
            self._connection.execute(QUERIES[f"detach_{database}"])
        return bounds

    def create(self, database: str, begun: Format) -> None:
        """Make a database under another name, complete, with nothing in its write-ahead log."""
        path = self._folder / (files.DATABASES[database] + UNFINISHED)
        for leftover in (path, files.wal_of(path)):
            leftover.unlink(missing_ok=True)
        self._attach(f"attach_{database}", path)
        self._connection.execute(QUERIES[f"create_{database}"])
        self._connection.execute(
            QUERIES[f"begin_{database}"],
            {
                "format_version": begun.version,
                "journal_id": begun.journal_id,
                "created_at_ms": begun.created_at_ms,
            },
        )
        for query in (f"checkpoint_{database}", f"detach_{database}"):
            self._connection.execute(QUERIES[query])
        path.chmod(0o600)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection for one thread: DuckDB refuses two at once instead of letting one wait."""
        cursor = self._connection.cursor()
        self._cursors.append(cursor)
        return cursor

    @contextmanager
    def question(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor for the SQL of a user. QUESTIONS_MAX at a time; the caller counts them."""
        cursor = self._questions.pop()
        try:
            yield cursor
        finally:
            # Ends the transaction, and with it whatever was not fetched.
            with suppress(duckdb.Error):
                cursor.execute(QUERIES["end_read"])
            self._questions.append(cursor)

    def is_crowded(self) -> bool:
        """Whether queries have taken as much memory as they may. From any thread."""
        try:
            with self._watching:
                held_bytes, spilled_bytes = one(self._watch, "memory_in_use")
        except duckdb.Error:
            # Not even this can be found out.
            return True
        return held_bytes > HELD_BYTES_MAX or spilled_bytes > SPILLED_BYTES_MAX

    def prepare_history(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Make the views of SQL users, if they are not there. At first use: it takes 0.1 s."""
        if self._has_history:
            return
        cursor.execute(QUERIES["begin_views"])
        for name in HISTORY:
            cursor.execute(QUERIES[name])
        cursor.execute(QUERIES["commit_views"])
        self._has_history = True

    def handles(self) -> list[duckdb.DuckDBPyConnection]:
        return [*self._cursors, self._connection]

    def close(self) -> None:
        """A question that cannot be interrupted keeps its cursor, and the files, until it ends."""
        for handle in self.handles():
            with suppress(duckdb.ResourceInUseException):
                handle.close()
        self._cursors.clear()

    def _attach(self, query: str, path: Path) -> None:
        with reading(path):
            self._connection.execute(QUERIES[query], {"path": str(path)})

    def _bounds(self, expected: Format) -> Bounds:
        base, hot = self._folder / BASE_FILE, self._folder / HOT_FILE
        with reading(base):
            version, journal_id, absorbed = one(self._connection, "base_meta")
            _check_journal(base, version, journal_id, expected)
            (base_last,) = one(self._connection, "base_bounds")
            # Finds a missing table or column without reading a row.
            if version == files.FORMAT_VERSION:
                for query, span in (("load", {"first_lsn": 0, "last_lsn": 0}), ("load_state", {})):
                    self._connection.execute("explain " + QUERIES[query], span)
        with reading(hot):
            version, journal_id = one(self._connection, "hot_meta")
            _check_journal(hot, version, journal_id, expected)
            rows, first, last = one(self._connection, "hot_bounds")
            # Looks up every column of hot; they outlive the detaching, being views by name.
            self._connection.execute(QUERIES["create_views"])
        if (base_last or 0) > absorbed:
            raise files.damaged(base, f"it has fact {base_last} but ends at {absorbed}")
        if rows == 0:
            return Bounds(absorbed, absorbed, 0)
        if rows != last - first + 1:
            raise files.damaged(hot, f"it has {rows} facts where {first} to {last} belong")
        # Killed between the commit on base and the emptying of hot: all of hot is copies.
        if last == absorbed:
            return Bounds(absorbed, absorbed, rows)
        if first > absorbed + 1:
            found = f"it begins with fact {first}, but {BASE_FILE} ends with {absorbed}"
            raise files.damaged(hot, found)
        if first <= absorbed:
            # Killed between two parts of a long absorb: the first of these are copies.
            with reading(base):
                (other_count,) = one(self._connection, "count_other_copies")
            if other_count:
                found = (
                    f"{other_count} of its facts are others than {BASE_FILE} has under their lsn"
                )
                raise files.damaged(hot, found)
        return Bounds(absorbed, last, rows)

    def _check_pending(self) -> None:
        hot = self._folder / HOT_FILE
        with reading(hot):
            found = self._connection.execute(QUERIES["check_pending"])
            while rows := found.fetchmany(_VERIFY_ROWS):
                with decoding(hot):
                    for row in rows:
                        decode(Row._make(row))


def create_databases(folder: Path, begun: Format) -> None:
    """Make what is missing of a new journal; goes on where a killed process left off.

    hot is renamed last: whoever finds it finds a whole journal. A journal where base exists, and
    neither hot nor the unfinished one does, was not left by a kill, and is damaged.
    """
    base, hot = folder / BASE_FILE, folder / HOT_FILE
    if hot.exists() or (base.exists() and not _unfinished(hot).exists()):
        return
    if not base.exists():
        instance = Instance(folder)
        try:
            for database in files.DATABASES:
                instance.create(database, begun)
        finally:
            instance.close()
        sync_folder(folder)
        _unfinished(base).rename(base)
        sync_folder(folder)
    _unfinished(hot).rename(hot)
    sync_folder(folder)


def _check_journal(path: Path, version: int | None, journal_id: object, expected: Format) -> None:
    # `format.json` is the last to be migrated.
    is_known = version is not None and expected.version <= version <= files.FORMAT_VERSION
    if not is_known or journal_id != expected.journal_id:
        raise files.damaged(
            path,
            f"it belongs to journal {journal_id} of format {version}, while {files.FORMAT_FILE} "
            f"says {expected.journal_id} of format {expected.version}",
        )


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + UNFINISHED)
