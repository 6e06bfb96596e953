"""What the engine needs from outside: a store, a clock, and links to where code runs.

Each port has one conformance suite in `tests/`, run over every adapter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from nbdurable.core.ids import InvocationId
from nbdurable.core.journal import AttemptStart, FailedRun, JournalEntry
from nbdurable.core.records import Record, Row
from nbdurable.core.state import EngineState


class StateRow(NamedTuple):
    """One value of an object key, without it. `lsn` is that of the fact that set it."""

    service: str
    key: str
    name: str
    lsn: int
    digest: str
    comparable: bool
    value_bytes: int


class Store(Protocol):
    """An append-only log of rows, and the projections that recovery starts from.

    Owned by the writer thread, except for the `read_` methods, which the engine thread
    calls too. Any exception from `append` or `absorb` leaves the outcome unknown: the caller
    must `reopen` and ask for `last_lsn`.
    """

    @property
    def history(self) -> History | None:
        """What is stored, for SQL; None of a store that no SQL can be asked of."""

    def open(self) -> None:
        """Open or create, and absorb what the last owner left.

        What is absorbed is decoded first. What was absorbed earlier is not read here but by whoever
        folds `load`, so a wrong fact among it is found only then: when what the last owner left has
        been absorbed, which moves facts and changes none. A store that was refused holds nothing;
        it can be opened again once the cause is gone.

        Raises:
            JournalDamagedError: It cannot be read; nothing was modified.
            JournalVersionError: A newer version wrote it; nothing was modified.
        """

    def last_lsn(self) -> int:
        """The lsn of the last durable row; 0 when there is none. Lsns are dense."""

    def append(self, rows: Sequence[Row]) -> None:
        """Make rows durable, all or none. They continue at `last_lsn() + 1`; never empty.

        Raises:
            StoreError: Outcome unknown; reopen and read the last lsn.
            JournalGoneError: The files were deleted or replaced under us.
        """

    def wants_absorb(self) -> bool:
        """Whether enough was appended that `absorb_some` should be called soon."""

    def absorb(self) -> None:
        """Fold what was appended into the projections. May take a second; never loses a row."""

    def absorb_some(self) -> None:
        """As much of that as a commit can wait for. `wants_absorb` says whether there is more."""

    def wants_snapshot(self) -> bool:
        """Whether `extend_snapshot` has something to do."""

    def extend_snapshot(self) -> None:
        """Make the next opening faster, by some 10 ms of work; with that done, absorb what is much.

        For when there is nothing to do. Never waits for anything.
        """

    def load(self) -> Iterator[Row]:
        """The rows that the engine's state folds from, in lsn order, without their payloads.

        Of an invocation that is in the snapshot `InvocationRestored` in place of all else (see
        `core/snapshot.py`), and that its journal was purged; of another that has ended at least how
        it began and ended, and the same; everything of the others; of what belongs to no
        invocation, all that still holds and is not in `load_state`. A payload that is lost or
        damaged is found by whoever reads it, and is nobody else's harm. Only after `open`, when
        everything is absorbed; complete it with `load_state`.
        """

    def load_state(self) -> Iterator[StateRow]:
        """All state of all object keys, ordered by service and key; how long, not what."""

    def read_journals(
        self,
        invocation_ids: Sequence[str],
        first_lsn: int,
        last_lsn: int,
        *,
        with_lost: bool = False,
    ) -> list[Row]:
        """All rows of these invocations in this range, in lsn order.

        Args:
            with_lost: A payload that is lost or not what was written is `Lost`; else it raises.

        Raises:
            JournalDamagedError: As said.
        """

    def read_payload(self, lsn: int) -> bytes | None:
        """The payload stored under this lsn, be its fact still in the log or only in the state.

        Raises:
            JournalDamagedError: It is lost or not what was written.
        """

    def read_payloads(self, lsns: Sequence[int]) -> dict[int, bytes]:
        """The same of many, never none; only those that there are.

        Raises:
            JournalDamagedError: One of them is lost or not what was written.
        """

    def read_rows(self, first_lsn: int, last_lsn: int) -> list[Row]:
        """All rows of this range that have not been purged."""

    def reopen(self) -> None:
        """Leave every handle behind and open again, as after a crash."""

    def close(self) -> None:
        """Absorb and close. Afterwards the files can be copied or moved."""


class AnswerLimits(NamedTuple):
    """What is past them is cut off (rows, bytes) or interrupted (time). See `ANSWER_LIMITS`."""

    time_ms: int = 30_000
    rows_max: int = 1_000_000
    bytes_max: int = 256 * 1024 * 1024


# A query of a person's: as long as anybody waits, as much as a notebook should hold.
ANSWER_LIMITS = AnswerLimits()


class Answer(NamedTuple):
    """What a SELECT found: `cut_by` says which limit has left out the rest. Types are DuckDB's."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    cut_by: Literal["rows", "bytes"] | None = None


class Question(Protocol):
    def answer(self) -> Answer:
        """Blocks until it is answered, which is bounded in time.

        Raises:
            QueryError: It is refused, wrong, too much, or was interrupted; the text says which.
            StoreError: The journal cannot be read.
            JournalDamagedError: It is not what was written.
        """

    def interrupt(self) -> None:
        """From another thread: it ends soon, with a QueryError."""


class History(Protocol):
    """SQL over what is stored. From any thread; a question never makes a commit wait."""

    def ask(
        self,
        sql: str,
        parameters: Sequence[object] | Mapping[str, object] | None = None,
        limits: AnswerLimits = ANSWER_LIMITS,
    ) -> Question: ...


class Writer(Protocol):
    """Commits to a store, one group at a time. Made anew whenever the store is reopened."""

    async def append(self, rows: Sequence[Row]) -> None:
        """Return when the rows are durable. Any exception leaves the outcome unknown."""

    def close(self) -> None:
        """Return when no commit is under way, and none comes any more."""


class Clock(Protocol):
    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""


class Link(Protocol):
    """Orders to the process that runs the handlers. Answers come back as proposals.

    Called by the engine thread; never blocks. What it says of an attempt that is not live over
    there is ignored.
    """

    name: str

    def assign_revision(self, service: str, digest: str, revision: int) -> None:
        """The code offered under this digest is this revision from now on."""

    def start_attempt(self, start: AttemptStart) -> None: ...

    def deliver(
        self, invocation_id: InvocationId, attempt: int, entries: Sequence[JournalEntry]
    ) -> None: ...

    def retry_run(self, invocation_id: InvocationId, attempt: int, failed: FailedRun) -> None: ...

    def stop_attempt(self, invocation_id: InvocationId, attempt: int, why: str) -> None: ...

    def stop_all(self, why: str) -> None:
        """The epoch is over: no attempt may propose anything any more."""


class Observer(Protocol):
    """Told what was committed, once it was acted upon. By the engine thread; must not block."""

    def heard(self, records: Sequence[Record], state: EngineState, commit_s: float) -> None:
        """Never without records. What it raises is logged, and is nobody else's harm."""

    def close(self) -> None:
        """Nothing more is heard."""
