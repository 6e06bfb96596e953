"""What a commit waits for: the store by itself, written to without a pause.

    python tests/bench/bench_store.py                  # 15 s in a new journal
    python tests/bench/bench_store.py --facts 1000000  # in one that others have filled
    python tests/bench/bench_store.py --ended          # each group is a whole invocation
    python tests/bench/bench_store.py --absorb-mib 4   # absorbing more often than by default

Groups of 100 facts of 200 random bytes. As behind an engine, absorbing begins when a commit has
been answered, so it is the next one that waits for it. Prints numbers to look at; they never pass
or fail.

commit     Milliseconds from having a group until it is durable: median, 99 of 100, the worst.
absorb     How many there were, and milliseconds of each.
rate       Facts per second, absorbs included.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

from bench_resume import foreign_facts

from nbdurable.core.attempt import ref_of, success_of
from nbdurable.core.commands import RunCommand
from nbdurable.core.facts import (
    AnyFact,
    EntryAppended,
    InvocationCompleted,
    InvocationCreated,
    NotificationAppended,
)
from nbdurable.core.ids import random_invocation_id
from nbdurable.core.notifications import CompletionNotification
from nbdurable.core.records import Record, Row, encode
from nbdurable.core.values import Target
from nbdurable.store.duck import ABSORB_BYTES, DuckStore

MIB = 1024 * 1024
GROUP_FACTS = 100
PAYLOAD_BYTES = 200


def group(chance: random.Random, last_lsn: int, *, ends: bool) -> list[Row]:
    one = random_invocation_id(chance.getrandbits(60))
    facts: list[AnyFact] = [
        InvocationCreated(
            invocation_id=one,
            target=Target(service="Bench", handler="work"),
            argument=ref_of(chance.randbytes(PAYLOAD_BYTES)),
            status="ready",
            seed=last_lsn,
            service_type="service",
        )
    ]
    payloads: list[bytes | None] = [chance.randbytes(PAYLOAD_BYTES)]
    while len(facts) < GROUP_FACTS - 1:
        step = len(facts)
        payload = chance.randbytes(PAYLOAD_BYTES)
        result = success_of(payload)
        command = RunCommand(completion_id=step, name="step")
        done = CompletionNotification(completion_id=step, of="Run", result=result)
        facts += [
            EntryAppended(invocation_id=one, entry_index=step, command=command),
            NotificationAppended(invocation_id=one, entry_index=step + 1, notification=done),
        ]
        payloads += [None, payload]
    payload = chance.randbytes(PAYLOAD_BYTES)
    if ends:
        end = InvocationCompleted(
            invocation_id=one,
            result=success_of(payload),
            by="output",
            attempt=1,
            revision=1,
            entry_count=len(facts),
        )
        facts.append(end)
        payloads.append(payload)
    records = [
        Record(last_lsn + number, 1, fact, payload)
        for number, (fact, payload) in enumerate(zip(facts, payloads, strict=True), 1)
    ]
    return [encode(record, 1, record.payload) for record in records]  # type: ignore[arg-type]


def milliseconds(durations: list[float]) -> str:
    durations = sorted(durations)
    middle, late = statistics.median(durations), durations[int(len(durations) * 0.99)]
    return f"{middle * 1000:.1f} median, {late * 1000:.1f}, {durations[-1] * 1000:.0f} worst"


def measure(journal: Path, seconds: float, absorb_bytes: int, *, ends: bool) -> None:
    chance = random.Random(1)
    store = DuckStore(journal, absorb_bytes=absorb_bytes)
    store.open()
    commits, absorbs, fact_count, making = [], [], 0, 0.0
    began = ready = time.perf_counter()
    while ready - began - making < seconds:
        before = time.perf_counter()
        rows = group(chance, store.last_lsn(), ends=ends)
        made = time.perf_counter() - before
        # The group was there all along: only the store is measured.
        making, ready = making + made, ready + made
        store.append(rows)
        answered = time.perf_counter()
        commits.append(answered - ready)
        fact_count += len(rows)
        ready = answered
        if store.wants_absorb():
            store.absorb_some()
            absorbs.append(time.perf_counter() - answered)
    rate = fact_count / (time.perf_counter() - began - making)
    store.close()
    print(f"commit: {milliseconds(commits)} ms")
    print(f"absorb: {len(absorbs)}, {milliseconds(absorbs)} ms" if absorbs else "absorb: none")
    print(f"rate: {rate:,.0f} facts a second")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--facts", type=int, default=0)
    parser.add_argument("--ended", action="store_true")
    parser.add_argument("--absorb-mib", type=int, default=ABSORB_BYTES // MIB)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.facts:
            foreign_facts(Path(folder) / "journal", asked.facts)
        measure(Path(folder) / "journal", asked.seconds, asked.absorb_mib * MIB, ends=asked.ended)
