"""The only holder of payload bytes: what was committed lately, least recently used goes first.

It also keeps the journals of invocations that ran lately and have not ended, so that starting an
attempt needs no read. A miss is one read of the store.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

from nbdurable.core.commands import SleepCommand
from nbdurable.core.facts import (
    AnyFact,
    Completed,
    EntryAppended,
    InvocationCompleted,
    InvocationCreated,
    InvocationFact,
    carried_ref,
)
from nbdurable.core.ids import InvocationId
from nbdurable.core.records import CopyOf, Lost, Record, Row, UnknownFactError, decode
from nbdurable.core.state import Invocation
from nbdurable.engine.ports import Store
from nbdurable.errors import JournalDamagedError

PAYLOAD_BYTES_MAX = 64 * 1024 * 1024
# Facts without their payloads, about 0.5 KiB each: some 25 MiB.
JOURNAL_FACTS_MAX = 50_000
# Whoever sleeps for so long needs no journal meanwhile. To read one takes 3 ms of CPU: too much for
# thousands who look at something each minute, and nothing for thousands who sleep for hours.
LONG_SLEEP_MS = 600_000
# Journals read at once: enough to share the cost of a statement, few enough to be no stall.
PREFETCH_MAX = 256
# Payloads read at once: those that are in rows have at most 32 MiB together.
READ_PAYLOADS_MAX = 1_024


class Vault:
    """Mutable; owned by the engine thread."""

    def __init__(self, store: Store, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
        self._store = store
        self._payload_bytes_max = payload_bytes_max
        self._payloads: OrderedDict[int, bytes] = OrderedDict()
        self._payload_bytes = 0
        self._journals: OrderedDict[InvocationId, list[tuple[int, int, AnyFact]]] = OrderedDict()
        self._fact_count = 0
        # Past this, bytes are nowhere else yet and must not be forgotten.
        self.durable_lsn = 0

    def remember(self, record: Record, payload: bytes | Lost | None) -> None:
        """Keep a fact that is about to be committed."""
        lsn, at_ms, fact, _ = record
        if isinstance(payload, bytes):
            self._keep(lsn, payload)
        if not isinstance(fact, InvocationFact):
            return
        if isinstance(fact, InvocationCreated):
            # An id comes again when its invocation was purged: nothing of that one counts.
            self.forget(fact.invocation_id)
            self._journals[fact.invocation_id] = []
        elif isinstance(fact, InvocationCompleted):
            self.forget(fact.invocation_id)
        journal = self._journals.get(fact.invocation_id)
        if journal is not None:
            journal.append((lsn, at_ms, fact))
            self._fact_count += 1
            if _sleeps_long(at_ms, fact):
                self.forget(fact.invocation_id)

    def settle(self, durable_lsn: int) -> None:
        """The commit is done: forget what is over the bounds, oldest use first."""
        self.durable_lsn = durable_lsn
        while self._payload_bytes > self._payload_bytes_max:
            lsn = next(iter(self._payloads))
            if lsn > durable_lsn:
                break
            self._payload_bytes -= len(self._payloads.pop(lsn))
        while self._fact_count > JOURNAL_FACTS_MAX and len(self._journals) > 1:
            self.forget(next(iter(self._journals)))

    def forget(self, invocation_id: InvocationId) -> None:
        """With the argument: whoever else reads those reads many at once (`shown_payloads`)."""
        journal = self._journals.pop(invocation_id, None)
        if journal:
            self._fact_count -= len(journal)
            self._drop(journal[0][0])

    def payload(self, lsn: int) -> bytes:
        """The bytes under this lsn. That something is stored there, the state says.

        Raises:
            JournalDamagedError: They are lost; the text names the file.
        """
        payload = self._payloads.get(lsn)
        if payload is None:
            payload = self._store.read_payload(lsn)
            assert payload is not None, f"the state refers to payload {lsn}, which is nowhere"
            self._keep(lsn, payload)
        else:
            self._payloads.move_to_end(lsn)
        return payload

    def payloads(self, lsns: Sequence[int]) -> list[bytes]:
        """The bytes under each of these; what is not here is read together.

        Raises:
            JournalDamagedError: Some are lost; the text names the file.
        """
        # Held here as well: what is read may be too much to be kept.
        held = {lsn: found for lsn in lsns if (found := self._payloads.get(lsn)) is not None}
        missing = sorted(set(lsns) - held.keys())
        for first in range(0, len(missing), READ_PAYLOADS_MAX):
            held |= self._store.read_payloads(missing[first : first + READ_PAYLOADS_MAX])
        for lsn in missing:
            assert lsn in held, f"the state refers to payload {lsn}, which is nowhere"
            self._keep(lsn, held[lsn])
        return [held[lsn] for lsn in lsns]

    def shown_payloads(self, lsns: Sequence[int]) -> list[bytes | None]:
        """The same for whoever only looks: None for what is lost, and no more is kept for it."""
        held: dict[int, bytes | None] = {lsn: self._payloads.get(lsn) for lsn in lsns}
        missing = sorted(lsn for lsn, payload in held.items() if payload is None)
        for first in range(0, len(missing), READ_PAYLOADS_MAX):
            part = missing[first : first + READ_PAYLOADS_MAX]
            try:
                held |= self._store.read_payloads(part)
            except JournalDamagedError:
                # It names one that is lost; the others are there.
                for lsn in part:
                    with suppress(JournalDamagedError):
                        held[lsn] = self._store.read_payload(lsn)
        return [held[lsn] for lsn in lsns]

    def resolve(self, record: Record) -> bytes | Lost | None:
        """What a record carries. A copy of what is lost is lost too, and whoever reads it is told.

        It was decided by then, with all else of its batch, and none of that may fail for it.
        """
        if not isinstance(record.payload, CopyOf):
            return record.payload
        try:
            return self.payload(record.payload.lsn)
        except JournalDamagedError:
            ref = carried_ref(record.fact)
            assert ref is not None, f"{record} copies what it has no place for"
            return Lost(ref.digest)

    def journal(self, inv: Invocation | Completed) -> list[Record]:
        """All facts of one invocation, with their payloads, in order."""
        journal = self._journals.get(inv.id)
        if journal is None or not self._has_all(journal):
            return self._read(inv)
        self._journals.move_to_end(inv.id)
        return [Record(lsn, at_ms, fact, self._payloads.get(lsn)) for lsn, at_ms, fact in journal]

    def shown_journal(self, inv: Invocation | Completed, after_lsn: int = 0) -> list[Record]:
        """The same for whoever only looks, past an lsn: what is lost is `Lost`, the rest is there.

        Whoever looks on asks for what is new, and pays for that only.
        """
        journal = self._journals.get(inv.id)
        if journal is not None:
            new = journal[bisect_right(journal, after_lsn, key=_lsn) :]
            if self._has_all(new):
                self._journals.move_to_end(inv.id)
                kept = self._payloads
                return [Record(lsn, at_ms, fact, kept.get(lsn)) for lsn, at_ms, fact in new]
        first_lsn = max(inv.first_lsn, after_lsn + 1)
        if first_lsn > inv.last_lsn:
            return []
        if after_lsn < inv.first_lsn:
            with suppress(JournalDamagedError):
                return self.journal(inv)
        rows = self._store.read_journals([inv.id], first_lsn, inv.last_lsn, with_lost=True)
        return [_shown(row) for row in rows]

    def _has_all(self, journal: list[tuple[int, int, AnyFact]]) -> bool:
        return all(
            lsn in self._payloads
            for lsn, _, fact in journal
            if (ref := carried_ref(fact)) is not None and ref.bytes
        )

    def prefetch(self, invs: Sequence[Invocation]) -> None:
        """Read what of these journals is not here, in one statement: a start wants many at once.

        What cannot be read is left to whoever asks for it alone, so that it is nobody else's harm.
        """
        missing = [inv for inv in invs if not self._has(inv)]
        for first in range(0, len(missing), PREFETCH_MAX):
            part = missing[first : first + PREFETCH_MAX]
            if len(part) > 1:
                with suppress(JournalDamagedError):
                    self._read_all(part)

    def _has(self, inv: Invocation | Completed) -> bool:
        journal = self._journals.get(inv.id)
        return journal is not None and self._has_all(journal)

    def _read(self, inv: Invocation | Completed) -> list[Record]:
        return self._read_all([inv])[inv.id]

    def _read_all(self, invs: Sequence[Invocation | Completed]) -> dict[InvocationId, list[Record]]:
        first = {inv.id: inv.first_lsn for inv in invs}
        rows = self._store.read_journals(
            list(first), min(first.values()), max(inv.last_lsn for inv in invs)
        )
        journals: dict[InvocationId, list[Record]] = {inv.id: [] for inv in invs}
        for row in rows:
            one = InvocationId(row.invocation_id or "")
            if row.lsn < first[one]:
                continue  # Of a life before this one, under the same id.
            try:
                journals[one].append(decode(row))
            except (ValueError, UnknownFactError) as error:
                raise JournalDamagedError(f"the journal of {one} is damaged: {error}") from error
        for one, records in journals.items():
            self.forget(one)
            self._journals[one] = [(record.lsn, record.at_ms, record.fact) for record in records]
            self._fact_count += len(records)
            for record in records:
                if isinstance(record.payload, bytes):
                    self._keep(record.lsn, record.payload)
        return journals

    def _keep(self, lsn: int, payload: bytes) -> None:
        self._drop(lsn)
        self._payload_bytes += len(payload)
        self._payloads[lsn] = payload

    def _drop(self, lsn: int) -> None:
        payload = self._payloads.pop(lsn, None)
        self._payload_bytes -= 0 if payload is None else len(payload)


def _sleeps_long(at_ms: int, fact: AnyFact) -> bool:
    if not isinstance(fact, EntryAppended) or not isinstance(fact.command, SleepCommand):
        return False
    return fact.command.wake_up_at_ms - at_ms >= LONG_SLEEP_MS


def _lsn(kept: tuple[int, int, AnyFact]) -> int:
    return kept[0]


def _shown(row: Row) -> Record:
    try:
        return decode(row)
    except ValueError:
        record = decode(row._replace(payload=None))
        ref = carried_ref(record.fact)
        return record if ref is None else record._replace(payload=Lost(ref.digest))
