"""A store that fails as disks do, and a writer that needs no thread.

What the faults are is said by `Faults`; when they happen is drawn from a seed. After a failed
append or absorb the store is of no use until it is reopened, whatever became of the rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from nbdurable.core.records import Row
from nbdurable.engine.ports import History, StateRow, Store
from nbdurable.engine.writer import WriteSide
from nbdurable.errors import StoreError


@dataclass(frozen=True, slots=True)
class Faults:
    """How often each thing goes wrong, from 0 to 1.

    Attributes:
        append_before: The append raises, and nothing of it is durable.
        append_after: The append raises, and all of it is durable.
        absorb_before: Absorbing raises before it did anything.
        absorb_after: Absorbing raises, and it is done.
        read: A read of a payload or a journal raises.
        open: Opening or reopening raises.
    """

    append_before: float = 0.0
    append_after: float = 0.0
    absorb_before: float = 0.0
    absorb_after: float = 0.0
    read: float = 0.0
    open: float = 0.0


NO_FAULTS = Faults()


class InjectedError(StoreError):
    """On purpose. An engine that ends of it has done what it should."""


class FaultyStore:
    """Mutable: which faults, and whether one has just happened. A `Store` over another one."""

    def __init__(self, inner: Store, random: Random, faults: Faults = NO_FAULTS) -> None:
        self.inner = inner
        self.faults = faults
        self.fault_count = 0
        # Told at once what has become durable, whether or not the caller will be.
        self.on_durable: Callable[[Sequence[Row]], None] = lambda _: None
        self._random = random
        self._is_broken = True

    @property
    def history(self) -> History | None:
        return self.inner.history

    def open(self) -> None:
        self._maybe(self.faults.open, "opening")
        self.inner.open()
        self._is_broken = False

    def reopen(self) -> None:
        self._maybe(self.faults.open, "reopening")
        self.inner.reopen()
        self._is_broken = False

    def close(self) -> None:
        self.inner.close()

    def last_lsn(self) -> int:
        return self.inner.last_lsn()

    def append(self, rows: Sequence[Row]) -> None:
        self._check_whole()
        self._maybe(self.faults.append_before, "an append, before it was durable,")
        self.inner.append(rows)
        self.on_durable(rows)
        self._maybe(self.faults.append_after, "an append, after it was durable,")

    def wants_absorb(self) -> bool:
        return self.inner.wants_absorb()

    def absorb(self) -> None:
        self._check_whole()
        self._maybe(self.faults.absorb_before, "absorbing")
        self.inner.absorb()
        self._maybe(self.faults.absorb_after, "absorbing, when it was done,")

    def absorb_some(self) -> None:
        self._check_whole()
        self._maybe(self.faults.absorb_before, "absorbing")
        self.inner.absorb_some()
        self._maybe(self.faults.absorb_after, "absorbing, when it was done,")

    def wants_snapshot(self) -> bool:
        return self.inner.wants_snapshot()

    def extend_snapshot(self) -> None:
        self._check_whole()
        self.inner.extend_snapshot()

    def load(self) -> Iterator[Row]:
        return self.inner.load()

    def load_state(self) -> Iterator[StateRow]:
        return self.inner.load_state()

    def read_journals(
        self,
        invocation_ids: Sequence[str],
        first_lsn: int,
        last_lsn: int,
        *,
        with_lost: bool = False,
    ) -> list[Row]:
        self._maybe(self.faults.read, "reading journals")
        return self.inner.read_journals(invocation_ids, first_lsn, last_lsn, with_lost=with_lost)

    def read_payload(self, lsn: int) -> bytes | None:
        self._maybe(self.faults.read, "reading a payload")
        return self.inner.read_payload(lsn)

    def read_payloads(self, lsns: Sequence[int]) -> dict[int, bytes]:
        self._maybe(self.faults.read, "reading payloads")
        return self.inner.read_payloads(lsns)

    def read_rows(self, first_lsn: int, last_lsn: int) -> list[Row]:
        return self.inner.read_rows(first_lsn, last_lsn)

    def _maybe(self, probability: float, what: str) -> None:
        if probability and self._random.random() < probability:
            self.fault_count += 1
            self._is_broken = True
            raise InjectedError(f"{what} failed on purpose")

    def _check_whole(self) -> None:
        if self._is_broken:
            raise InjectedError("the store has failed and was not reopened")


class InlineWriter:
    """Commits on the engine's own loop. Mutable: whether a commit was answered but not absorbed.

    `latency_s` is asked twice for each commit: how long until the rows are durable, and how long
    until the engine hears of it.
    """

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        latency_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._side = WriteSide(store)
        self._loop = loop
        self._latency_s = latency_s
        self._absorbing: asyncio.Handle | None = None

    async def append(self, rows: Sequence[Row]) -> None:
        await asyncio.sleep(self._latency_s())
        self._side.append(rows)
        await asyncio.sleep(self._latency_s())
        self._absorbing = self._loop.call_soon(self._absorb)

    def _absorb(self) -> None:
        self._side.absorb_if_wanted()
        if self._side.has_leisure_work():
            self._side.do_leisure_work()

    def close(self) -> None:
        if self._absorbing is not None:
            self._absorbing.cancel()
