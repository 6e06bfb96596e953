"""User SQL over history: each question on a cursor of its own, in one snapshot that cannot write.

A question never makes a commit wait. But it stands in three other ways, and leaves each of them: it
ends after 30 s at most, because a checkpoint of base is refused while an older snapshot is open;
new questions wait for the old ones when such a checkpoint is owed; and all of them are interrupted
when the engine needs their memory, or the files.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

import duckdb

from nbdurable.engine.ports import ANSWER_LIMITS, Answer, AnswerLimits
from nbdurable.errors import QueryError, StoreError
from nbdurable.store import gate
from nbdurable.store.absorb import Switch, checkpoint
from nbdurable.store.blobs import MARK, Blobs
from nbdurable.store.instance import (
    HELD_BYTES_MAX,
    QUESTIONS_MAX,
    SPILLED_BYTES_MAX,
    Instance,
)
from nbdurable.store.sql import QUERIES
from nbdurable.store.troubles import translate, wants_memory

Parameters = Sequence[object] | Mapping[str, object]
Why = Literal["time", "limit", "asker", "memory", "files"]

# A snapshot this old is in the way of a checkpoint, whoever it belongs to.
TIME_LIMIT_MS_MAX: Final = 30_000
# Rows made into Python objects at once.
_FETCH_ROWS: Final = 512
# A query takes some 0.5 MiB per millisecond, at most.
_LOOK_EVERY_S: Final = 0.02
# DuckDB forgets an interruption that comes between two statements, so it is repeated.
_INTERRUPT_EVERY_S: Final = 0.02
# DuckDB looks for interruptions between two vectors; one expression may take longer than this.
_LEAVE_S_MAX: Final = 5.0
# What a cell costs in memory besides its text or bytes.
_CELL_BYTES: Final = 48

# A payload that is kept in a file, as bytes and as the text that `history.utf8` makes of it.
_FILE: Final = re.compile(re.escape(MARK) + rb"[0-9a-f]{32}")
_FILE_TEXT: Final = re.compile(_FILE.pattern.decode())
_PLAIN_TYPES: Final = re.compile(
    r"BOOLEAN|U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(\d+,\d+\)|DATE|INTERVAL|UUID"
    r"|TIME(STAMP(_S|_MS|_NS)?)?( WITH TIME ZONE)?"
)
_PINS: Final = ("pin_hot", "base_meta")

_REASONS: Final[dict[Why, str]] = {
    "limit": (
        f"The query needs more memory than it may have ({HELD_BYTES_MAX >> 20} MiB, and"
        f" {SPILLED_BYTES_MAX >> 20} MiB on disk). Sort or group less: narrow it with where, or"
        " select fewer columns."
    ),
    "asker": "The query was interrupted.",
    "memory": (
        "The query was interrupted, because the engine needed the memory that it had taken. Ask for"
        " less at once: narrow it with where, or select fewer columns."
    ),
    "files": "The query was interrupted, because the journal is being closed.",
}


class History:
    """Mutable: the questions that are being answered. May be used from any thread.

    Args:
        folder: The journal's.
        switch: Held by whoever takes the files from under a reader.
        attached: The instance, as long as it can be used; else it raises why not.
    """

    def __init__(self, folder: Path, switch: Switch, attached: Callable[[], Instance]) -> None:
        self.folder = folder
        self._switch = switch
        self._attached = attached
        self._turn = threading.Condition()
        self._inside: set[Question] = set()
        self._owes_checkpoint = False
        self._shut_count = 0
        self._preparing = threading.Lock()

    def ask(
        self,
        sql: str,
        parameters: Parameters | None = None,
        limits: AnswerLimits = ANSWER_LIMITS,
    ) -> Question:
        """A question that is not answered yet; answering it blocks.

        Raises:
            StoreError: There is no journal open to ask.
        """
        self._attached()
        return Question(self, sql, parameters, limits)

    # -- the store's side -----------------------------------------------------------------------

    def checkpoint_base(self, writer: duckdb.DuckDBPyConnection) -> None:
        """Now, or once those who read have left."""
        if checkpoint(writer, "base"):
            self.settle_checkpoint()
            return
        # A read of ours was in the way. They are short, so wait for it; one of a user's may be
        # long, and base's log is as durable as base.
        with self._switch.turning():
            is_done = checkpoint(writer, "base")
        if not is_done:
            self.owe_checkpoint()

    def owe_checkpoint(self) -> None:
        """A snapshot has prevented it: the next question waits for the others, and makes up."""
        with self._turn:
            self._owes_checkpoint = True

    def settle_checkpoint(self) -> None:
        with self._turn:
            self._owes_checkpoint = False
            self._turn.notify_all()

    @contextmanager
    def emptied(self, why: Why) -> Iterator[None]:
        """Nobody is inside, and nobody gets in. Never under the switch, which those inside need."""
        with self._turn:
            self._shut_count += 1
            for question in self._inside:
                question.interrupt(why)
            self._turn.wait_for(lambda: not self._inside, _LEAVE_S_MAX)
        try:
            yield
        finally:
            with self._turn:
                self._shut_count -= 1
                self._turn.notify_all()

    # -- a question's side ----------------------------------------------------------------------

    @contextmanager
    def inside(self, question: Question) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor for this question, once it is its turn."""
        with self._turn:
            self._turn.wait_for(lambda: question.is_interrupted or self._has_room())
            question.raise_if_interrupted()
            self._inside.add(question)
            makes_up = self._owes_checkpoint
        try:
            instance = self._attached()
            with instance.question() as cursor:
                if makes_up:
                    # Refused once more, by a writer: whoever is refused next says so again.
                    checkpoint(cursor, "base")
                    self.settle_checkpoint()
                with self._preparing:
                    instance.prepare_history(cursor)
                yield cursor
        finally:
            with self._turn:
                self._inside.discard(question)
                self._turn.notify_all()

    @contextmanager
    def snapshot(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[Blobs]:
        """One moment of all files for the statements inside; see `pin_hot`."""
        with self._switch.reading():
            self._attached()
            cursor.execute(QUERIES["begin_read"])
            for name in _PINS:
                cursor.execute(QUERIES[name]).fetchall()
        yield Blobs(self.folder)

    def is_crowded(self) -> bool:
        """Whether those inside have taken as much memory as they may."""
        try:
            return self._attached().is_crowded()
        except StoreError:
            # The journal is being left, and they are interrupted for that.
            return False

    def wake(self) -> None:
        with self._turn:
            self._turn.notify_all()

    def _has_room(self) -> bool:
        places = 1 if self._owes_checkpoint else QUESTIONS_MAX
        return not self._shut_count and len(self._inside) < places


class Question:
    """Mutable: why it was interrupted. One thread answers it, any may interrupt it."""

    def __init__(
        self, history: History, sql: str, parameters: Parameters | None, limits: AnswerLimits
    ) -> None:
        if not 0 < limits.time_ms <= TIME_LIMIT_MS_MAX:
            raise QueryError(
                f"a query may take {TIME_LIMIT_MS_MAX // 1000} s at most: for as long as it reads,"
                " the journal cannot be tidied up"
            )
        self._history = history
        self._sql = sql
        self._parameters = parameters
        self._limits = limits
        self._why: Why | None = None
        self._ends = threading.Event()
        self._has_ended = threading.Event()

    def __repr__(self) -> str:
        return f"<Question of {len(self._sql)} characters>"

    def interrupt(self, why: Why = "asker") -> None:
        """It ends with a QueryError that says why. Does nothing to one that has ended."""
        self._why = self._why or why
        self._ends.set()
        self._history.wake()

    @property
    def is_interrupted(self) -> bool:
        return self._why is not None

    def raise_if_interrupted(self) -> None:
        match self._why:
            case None:
                return
            case "time":
                seconds = self._limits.time_ms / 1000
                raise QueryError(
                    f"The query was interrupted after {seconds:g} s, its time limit. Ask for less:"
                    " for one invocation (where id = …), for fewer columns, or without a sort."
                )
            case why:
                raise QueryError(_REASONS[why])

    def answer(self) -> Answer:
        """Blocks until it is answered, which is bounded in time.

        Raises:
            QueryError: It is refused, wrong, too much, or was interrupted; the text says which.
            StoreError: The journal cannot be read.
            JournalDamagedError: It is not what was written.
        """
        with self._answered() as (cursor, blobs):
            names, types = _columns(cursor)
            rows, cut_by = self._fetch(cursor, types, blobs)
            return Answer(names, types, rows, cut_by)

    @contextmanager
    def _answered(self) -> Iterator[tuple[duckdb.DuckDBPyConnection, Blobs]]:
        """The statement is under way, and its errors are ours."""
        watcher = threading.Thread(target=self._keep_watch, name="nbdurable-query", daemon=True)
        self._cursor: duckdb.DuckDBPyConnection | None = None
        watcher.start()
        try:
            with self._history.inside(self) as cursor:
                try:
                    with self._translating(cursor):
                        gate.check(cursor, self._sql)
                        self._cursor = cursor
                        with self._history.snapshot(cursor) as blobs:
                            self.raise_if_interrupted()
                            cursor.execute(self._sql, self._parameters)
                            yield cursor, blobs
                finally:
                    # Before the cursor is closed: nobody may interrupt what is not there.
                    self._end(watcher)
        finally:
            self._end(watcher)

    def _end(self, watcher: threading.Thread) -> None:
        self._has_ended.set()
        self._ends.set()
        watcher.join()
        self._cursor = None

    def _keep_watch(self) -> None:
        """It ends when its time is over, and when it takes what the engine itself may need."""
        ends_at = time.monotonic() + self._limits.time_ms / 1000
        while not self._ends.wait(_LOOK_EVERY_S):
            if time.monotonic() >= ends_at:
                self.interrupt("time")
            elif self._cursor is not None and self._history.is_crowded():
                self.interrupt("limit")
        while not self._has_ended.wait(_INTERRUPT_EVERY_S):
            if self._cursor is not None:
                self._cursor.interrupt()

    @contextmanager
    def _translating(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            self.raise_if_interrupted()
            if wants_memory(error):
                raise QueryError(_REASONS["limit"]) from None
            if isinstance(error, gate.USERS_ERRORS):
                with suppress(duckdb.Error):
                    # What has failed takes no more statements, and the names are asked for by one.
                    cursor.execute(QUERIES["end_read"])
                raise gate.explain(error, cursor) from None
            raise translate(error, "answering a query", self._history.folder) from error
        except (ValueError, OverflowError, TypeError) as error:
            # A value that Python cannot hold, or a parameter that DuckDB cannot.
            raise QueryError(f"A value cannot be converted: {error}") from None
        except StoreError:
            # Whoever took the journal away has interrupted it first, and that is the reason.
            self.raise_if_interrupted()
            raise

    # -- rows -----------------------------------------------------------------------------------

    def _fetch(
        self, cursor: duckdb.DuckDBPyConnection, types: Sequence[str], blobs: Blobs
    ) -> tuple[list[tuple[Any, ...]], Literal["rows", "bytes"] | None]:
        rows: list[tuple[Any, ...]] = []
        # Of all others a value is as large as it is, and stands for nothing else.
        look_at = [i for i, kind in enumerate(types) if not _PLAIN_TYPES.fullmatch(kind)]
        held_bytes = 0
        while batch := cursor.fetchmany(_FETCH_ROWS):
            self.raise_if_interrupted()
            room = self._limits.rows_max - len(rows)
            for row in batch[:room]:
                shown = row
                for i in look_at:
                    cell = shown[i]
                    if _names_files(cell):
                        cell = _with_content(cell, blobs)
                        shown = (*shown[:i], cell, *shown[i + 1 :])
                    held_bytes += _bytes_of(cell)
                rows.append(shown)
                held_bytes += len(types) * _CELL_BYTES
                if held_bytes > self._limits.bytes_max:
                    return rows, "bytes"
            if len(batch) > room:
                return rows, "rows"
        return rows, None


def _columns(cursor: duckdb.DuckDBPyConnection) -> tuple[tuple[str, ...], tuple[str, ...]]:
    columns = cursor.description or []
    return _told_apart([str(c[0]) for c in columns]), tuple(str(c[1]) for c in columns)


def _told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Two of one name are `a` and `a_1`, as in DuckDB's data frames: a row may become a dict."""
    told: list[str] = []
    taken = set(names)
    for name in names:
        free = name
        if name in told:
            free = next(n for i in itertools.count(1) if (n := f"{name}_{i}") not in taken)
            taken.add(free)
        told.append(free)
    return tuple(told)


def _names_files(cell: object) -> bool:
    """Whether it may be, or hold, a payload that is kept in a file. Quick: it is asked of all."""
    if isinstance(cell, str):
        return cell.startswith("\0")
    if isinstance(cell, bytes):
        return cell.startswith(b"\0")
    return isinstance(cell, list)


def _with_content(cell: Any, blobs: Blobs) -> Any:  # noqa: ANN401 - any value that SQL has.
    """The bytes of the file in place of its name, or their text."""
    match cell:
        case bytes() if _FILE.fullmatch(cell):
            return blobs.content(cell)
        case str() if _FILE_TEXT.fullmatch(cell):
            return _text_or_none(blobs.content(cell.encode()))
        case list():
            return [_with_content(part, blobs) for part in cell]
        case _:
            return cell


def _text_or_none(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _bytes_of(cell: object) -> int:
    """What it holds besides what every cell does."""
    if isinstance(cell, str | bytes):
        return len(cell)
    match cell:
        case list() | tuple():
            return sum(_CELL_BYTES + _bytes_of(part) for part in cell)
        case dict():
            return sum(2 * _CELL_BYTES + _bytes_of(k) + _bytes_of(v) for k, v in cell.items())
        case _:
            return 0
