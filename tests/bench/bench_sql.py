"""What SQL over history costs: 100,000 invocations in 10^6 facts, and what waits in hot over them.

    python tests/bench/bench_sql.py                      # fill a journal, then ask
    python tests/bench/bench_sql.py --journal /tmp/big   # keep it there, and ask it again

Prints numbers to look at; they never pass or fail. Each query is asked five times; the median counts.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from nbdurable.core.attempt import ref_of, success_of
from nbdurable.core.commands import RunCommand, SetStateCommand, SleepCommand
from nbdurable.core.facts import (
    AnyFact,
    AttemptFailed,
    AttemptStarted,
    Caller,
    EntryAppended,
    EpochStarted,
    InvocationCompleted,
    InvocationCreated,
    InvocationPaused,
    InvocationPending,
    InvocationSuspended,
    NotificationAppended,
    ServiceRegistered,
)
from nbdurable.core.futures import Completion
from nbdurable.core.ids import InvocationId, random_invocation_id
from nbdurable.core.manifest import HandlerManifest, ServiceManifest
from nbdurable.core.notifications import CompletionNotification
from nbdurable.core.records import Record, encode
from nbdurable.core.values import ErrorReport, Failure, ObjectId, Target
from nbdurable.store.duck import DuckStore

INVOCATIONS = 100_000
FACTS = 1_000_000
HOT_FACTS = 20_000
GROUP = 20_000
ROUNDS = 5
BEGIN_MS = 1_760_000_000_000

Fact = tuple[AnyFact, bytes | None]


def one_life(number: int, chance: random.Random) -> Iterator[Fact]:
    """About ten facts. One in eight is still alive, in every way there is."""
    one = random_invocation_id(number)
    service = f"Service{number % 7}"
    target = Target(service=service, handler="work", key=f"key-{number % 5_000}")
    argument = f'{{"number": {number}}}'.encode()
    parent = random_invocation_id(number - 1) if number % 3 == 1 else None
    yield (
        InvocationCreated(
            invocation_id=one,
            target=target,
            argument=ref_of(argument),
            status="scheduled" if number % 64 == 1 else "ready",
            seed=number,
            service_type="virtual_object",
            handler_type="exclusive",
            caller=parent and Caller(invocation_id=parent, seed=number - 1, completion_id=1),
            start_at_ms=BEGIN_MS + 10**9 if number % 64 == 1 else None,
            completion_retention_ms=86_400_000,
            journal_retention_ms=86_400_000,
        ),
        argument,
    )
    if number % 64 == 1:
        return
    if number % 64 == 2:
        yield InvocationPending(invocation_id=one), None
        return
    yield AttemptStarted(invocation_id=one, attempt=1, link="here", revision=1), None
    index = 1
    for completion_id in (1, 2):
        run = RunCommand(completion_id=completion_id, name=f"step {completion_id}")
        yield EntryAppended(invocation_id=one, entry_index=index, command=run), None
        value = chance.randbytes(chance.randrange(20, 200))
        done = CompletionNotification(
            completion_id=completion_id, of="Run", result=success_of(value)
        )
        noted = NotificationAppended(invocation_id=one, entry_index=index + 1, notification=done)
        yield noted, value
        index += 2
    if number % 64 == 3:
        error = ErrorReport(code=500, message="boom", stacktrace="Traceback\n" * 20)
        yield (
            AttemptFailed(
                invocation_id=one,
                attempt=1,
                error=error,
                failure_count=1,
                next_retry_at_ms=BEGIN_MS + 10**9,
            ),
            None,
        )
        return
    state = f'{{"count": {number}}}'.encode()
    change = SetStateCommand(key="count", value=ref_of(state))
    of = ObjectId(service=service, key=f"key-{number % 5_000}")
    yield EntryAppended(invocation_id=one, entry_index=index, command=change, object=of), state
    sleep = SleepCommand(completion_id=3, wake_up_at_ms=BEGIN_MS + 10**9)
    yield EntryAppended(invocation_id=one, entry_index=index + 1, command=sleep), None
    waiting = Completion(id=3)
    yield InvocationSuspended(invocation_id=one, attempt=1, waiting_for=waiting), None
    yield from _end(number, one, index + 2)


def _end(number: int, one: InvocationId, index: int) -> Iterator[Fact]:
    match number % 64:
        case 4 | 5 | 6:
            return
        case 7:
            yield InvocationPaused(invocation_id=one, by="user"), None
            return
        case _:
            pass
    woken = CompletionNotification(completion_id=3, of="Sleep", result=success_of(b""))
    yield NotificationAppended(invocation_id=one, entry_index=index, notification=woken), None
    yield AttemptStarted(invocation_id=one, attempt=2, link="here", revision=1), None
    if number % 64 == 8:
        return
    result = Failure(code=500, message="no") if number % 10 == 0 else success_of(b'"ok"')
    yield (
        InvocationCompleted(
            invocation_id=one,
            result=result,
            by="output",
            attempt=2,
            revision=1,
            entry_count=index + 2,
            entry_index=index + 1,
        ),
        b'"ok"' if number % 10 else None,
    )


def beginning() -> Iterator[Fact]:
    yield EpochStarted(epoch=1, owner="bench", version="0"), None
    for number in range(7):
        handler = HandlerManifest(name="work", type="exclusive")
        name = f"Service{number}"
        manifest = ServiceManifest(
            name=name, type="virtual_object", handlers=(handler,), digest="1"
        )
        yield ServiceRegistered(manifest=manifest, revision=1), None


def fill(store: DuckStore) -> None:
    """All but the last facts in base, these in hot."""
    chance, lsn, rows = random.Random(1), 0, []

    def facts() -> Iterator[Fact]:
        yield from beginning()
        for number in range(INVOCATIONS):
            yield from one_life(number, chance)

    for fact, payload in facts():
        lsn += 1
        record = Record(lsn, BEGIN_MS + lsn, fact, payload)
        rows.append(encode(record, 1, payload))
        if len(rows) == GROUP:
            store.append(rows)
            rows = []
            if store.wants_absorb():
                store.absorb()
    store.absorb()
    store.append(rows)


if __name__ == "__main__":
    import sys
    s = DuckStore(Path(sys.argv[1])); s.open(); t=time.time(); fill(s); print(time.time()-t, s.last_lsn()); s.close()
