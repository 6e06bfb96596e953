"""The store in memory: the verified fake that the simulator and most tests run on.

It passes the same conformance suite as `DuckStore`, so what holds on it holds there. It survives
`reopen`, keeps nothing else back, and can fail an append on purpose.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

from nbdurable.core.records import Lost, Row
from nbdurable.core.snapshot import snapshot_of
from nbdurable.engine.ports import History, StateRow
from nbdurable.errors import JournalDamagedError, StoreError

# As many commits as DuckStore, so that the simulator meets absorbs about as often.
ABSORB_COMMITS: Final = 5_000

# All that is left of an invocation that has completed, once its journal is purged.
_LASTING_KINDS = ("InvocationCreated", "InvocationCompleted", "JournalPurged")
# What recovery needs no more once the epoch is over.
_KINDS_OF_AN_EPOCH = ("CodeLoaded", "LinkOpened", "LinkClosed")


class _Value(msgspec.Struct):
    bytes: int
    digest: str
    comparable: bool = True


class _Command(msgspec.Struct):
    key: str | None = None
    value: _Value | None = None


class _Object(msgspec.Struct):
    service: str
    key: str
    scope: str | None = None

    @property
    def place(self) -> tuple[str, str]:
        """As the projection has it: a scope is no part of any service's name."""
        return (self.service if self.scope is None else f"{self.scope}/{self.service}", self.key)


class _Change(msgspec.Struct):
    """What absorbing reads of a body. The store knows these few paths, not the facts."""

    object: _Object | None = None
    command: _Command | None = None


class MemoryStore:
    """Mutable: `durable` holds every row not purged; state is exact up to `absorbed_lsn`."""

    # SQL is DuckDB's, which a test of handlers need not load.
    history: History | None = None

    def __init__(self, *, absorb_commits: int = ABSORB_COMMITS) -> None:
        self.durable: list[Row] = []
        self.absorbed_lsn = 0
        self._absorb_commits = absorb_commits
        self._last_lsn = 0
        self._commit_count = 0
        self._append_count = 0
        self._state: dict[tuple[str, str, str], tuple[StateRow, bytes | Lost]] = {}
        self._fault: tuple[int, Literal["before", "after"]] | None = None
        self._usable = False

    def fail_append(self, number: int, when: Literal["before", "after"]) -> None:
        """Make the n-th append from now on (from 1) raise, its rows being durable or not."""
        self._fault = (self._append_count + number, when)

    def copy(self) -> MemoryStore:
        """What another process would find on this disk. Not open."""
        copy = MemoryStore(absorb_commits=self._absorb_commits)
        copy.durable, copy._last_lsn = list(self.durable), self._last_lsn
        copy._state, copy.absorbed_lsn = dict(self._state), self.absorbed_lsn
        return copy

    def open(self) -> None:
        self._usable = True
        self.absorb()

    def reopen(self) -> None:
        self.open()

    def close(self) -> None:
        if self._usable:
            self.absorb()
        self._usable = False

    def last_lsn(self) -> int:
        return self._last_lsn

    def append(self, rows: Sequence[Row]) -> None:
        self._check_usable()
        expected = range(self._last_lsn + 1, self._last_lsn + 1 + len(rows))
        assert rows, "a group is never empty"
        assert [row.lsn for row in rows] == list(expected), "lsns are dense"
        self._append_count += 1
        fault = self._fault if self._fault and self._fault[0] == self._append_count else None
        if fault != (self._append_count, "before"):
            self.durable.extend(rows)
            self._last_lsn = rows[-1].lsn
            self._commit_count += 1
        if fault:
            self._fault = None
            self._usable = False
            raise StoreError("The append failed on purpose; reopen and read the last lsn.")

    def wants_absorb(self) -> bool:
        return self._commit_count >= self._absorb_commits

    def absorb_some(self) -> None:
        self.absorb()

    def absorb(self) -> None:
        self._check_usable()
        for row in self._between(self.absorbed_lsn + 1, self._last_lsn):
            match row.kind:
                case (
                    "Command: SetState"
                    | "Command: ClearState"
                    | "Command: ClearAllState"
                    | "StateEdited"
                ):
                    self._fold_state(row)
                case "InvocationPurged":
                    self._purge(row)
                case "JournalPurged":
                    self._purge_journal(row)
        self.absorbed_lsn = self._last_lsn
        self._commit_count = 0

    def wants_snapshot(self) -> bool:
        return False

    def extend_snapshot(self) -> None:
        """It is made anew by each `load`."""

    def load(self) -> Iterator[Row]:
        self._check_usable()
        assert self.absorbed_lsn == self._last_lsn, "load only after open"
        rows = [row._replace(payload=None) for row in self.durable]
        snapshot = {row.invocation_id: row for row in snapshot_of(rows)}
        epoch = max((row.epoch for row in rows), default=0)
        for row in rows:
            if row.invocation_id in snapshot:
                if row.kind == "InvocationCompleted":
                    yield snapshot[row.invocation_id]
                elif row.kind == "JournalPurged":
                    yield row
            elif row.kind in _KINDS_OF_AN_EPOCH:
                if row.epoch == epoch:
                    yield row
            elif row.kind != "StateEdited":
                yield row

    def load_state(self) -> Iterator[StateRow]:
        self._check_usable()
        for _, (value, _) in sorted(self._state.items()):
            yield value

    def read_journals(
        self,
        invocation_ids: Sequence[str],
        first_lsn: int,
        last_lsn: int,
        *,
        with_lost: bool = False,
    ) -> list[Row]:
        self._check_usable()
        wanted = frozenset(invocation_ids)
        rows = self._between(first_lsn, last_lsn)
        found = [row for row in rows if row.invocation_id in wanted]
        if not with_lost:
            for row in found:
                _present(row.payload)
        return found

    def read_payload(self, lsn: int) -> bytes | None:
        self._check_usable()
        for row in self._between(lsn, lsn):
            return _present(row.payload)
        states = self._state.values()
        return next((_present(held) for value, held in states if value.lsn == lsn), None)

    def read_payloads(self, lsns: Sequence[int]) -> dict[int, bytes]:
        found = {lsn: self.read_payload(lsn) for lsn in lsns}
        return {lsn: payload for lsn, payload in found.items() if payload is not None}

    def read_rows(self, first_lsn: int, last_lsn: int) -> list[Row]:
        self._check_usable()
        rows = self._between(first_lsn, last_lsn)
        for row in rows:
            _present(row.payload)
        return rows

    def _between(self, first_lsn: int, last_lsn: int) -> list[Row]:
        begin = bisect_left(self.durable, first_lsn, key=_lsn_of)
        return self.durable[begin : bisect_right(self.durable, last_lsn, key=_lsn_of)]

    def _fold_state(self, row: Row) -> None:
        change = msgspec.json.decode(row.body, type=_Change)
        of, command = change.object, change.command
        if of is None or command is None:
            return
        if command.key is None:
            self._forget_key(of)
            return
        place = (*of.place, command.key)
        self._state.pop(place, None)
        ref = command.value
        if ref is not None:
            assert row.payload is not None
            value = StateRow(*place, row.lsn, ref.digest, ref.comparable, ref.bytes)
            self._state[place] = value, row.payload

    def _purge(self, purge: Row) -> None:
        of = msgspec.json.decode(purge.body, type=_Change).object
        if of is not None:
            self._forget_key(of)
        self.durable = [row for row in self.durable if not _goes_with(row, purge, of)]

    def _purge_journal(self, purge: Row) -> None:
        self.durable = [
            row
            for row in self.durable
            if row.kind in _LASTING_KINDS or not _goes_with(row, purge, None)
        ]

    def _forget_key(self, of: _Object) -> None:
        gone = [place for place in self._state if place[:2] == of.place]
        for place in gone:
            del self._state[place]

    def _check_usable(self) -> None:
        if not self._usable:
            raise StoreError("The store is not open, or an append failed: reopen it.")


def _present(payload: bytes | Lost | None) -> bytes | None:
    if isinstance(payload, Lost):
        raise JournalDamagedError(f"The payload {payload.digest} is lost.")
    return payload


def _lsn_of(row: Row) -> int:
    return row.lsn


def _goes_with(row: Row, purge: Row, of: _Object | None) -> bool:
    if row.lsn > purge.lsn:
        return False
    if row.invocation_id is not None and row.invocation_id == purge.invocation_id:
        return True
    if of is None or row.kind not in ("PromiseCompleted", "StateEdited"):
        return False
    return msgspec.json.decode(row.body, type=_Change).object == of
