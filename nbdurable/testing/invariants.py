"""What is true of every engine state, whatever led to it. Each function is one sentence of it.

`Witness` keeps what a state does not know of its past (all records, all timers that were set) and
checks everything after each decision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from nbdurable.core.actions import (
    DeliverNotification,
    PublishResult,
    RetryRun,
    SetTimer,
    StartAttempt,
    StopAttempt,
)
from nbdurable.core.draft import Decision
from nbdurable.core.facts import (
    EntryAppended,
    InvocationCompleted,
    InvocationCreated,
    InvocationPending,
    InvocationPurged,
    NotificationAppended,
    carried_ref,
)
from nbdurable.core.futures import Completion, Signal, Watch
from nbdurable.core.ids import CANCEL_SIGNAL, InvocationId
from nbdurable.core.machine import EngineMachine, fold
from nbdurable.core.notifications import leaf_of
from nbdurable.core.proposals import Timer
from nbdurable.core.records import CopyOf, Record, decode, encode
from nbdurable.core.state import EngineState, Invocation
from nbdurable.engine.recovery import recover
from nbdurable.store.memory import MemoryStore


class Witness:
    """Mutable: the log so far, and the timers that were ordered since the epoch began."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.store = MemoryStore()
        self.store.open()
        self.timers: set[tuple[Timer, int]] = set()
        self.payloads: dict[int, bytes] = {}
        self.has_purged = False

    def check(self, machine: EngineMachine, decision: Decision) -> None:
        state = machine.state
        self._append(decision.records, state)
        for action in decision.actions:
            if isinstance(action, SetTimer):
                self.timers.add((action.timer, action.at_ms))
        lsns_are_dense(self.records)
        entry_indices_are_dense(self.records)
        a_completion_completes_once(self.records)
        a_fold_is_the_state(self.records, state)
        a_fold_of_rows_is_the_state(self.records, state)
        a_reload_is_the_state(self.store, state)
        one_exclusive_holder_per_key(state)
        the_inbox_is_first_in_first_out(self.records, state)
        what_is_suspended_cannot_go_on(state)
        a_timer_is_set_for_all_that_waits(state, self.timers)
        resume_sets_every_timer_again(machine)
        what_is_completed_holds_nothing(state)
        waiters_live(state)
        actions_are_of_live_attempts(state, decision)

    def _append(self, records: list[Record], state: EngineState) -> None:
        if not records:
            return
        rows = []
        for record in records:
            payload = record.payload
            if isinstance(payload, CopyOf):
                payload = self.payloads[payload.lsn]
            ref = carried_ref(record.fact)
            assert (ref is None or ref.bytes == 0) == (not payload), f"ref without bytes: {record}"
            if payload is not None:
                self.payloads[record.lsn] = payload
            rows.append(encode(record, state.epoch, payload))
            self.records.append(Record(record.lsn, record.at_ms, record.fact, payload))
        self.store.append(rows)


# -- the log ----------------------------------------------------------------------------------


def lsns_are_dense(records: Iterable[Record]) -> None:
    lsns = [record.lsn for record in records]
    assert lsns == list(range(1, len(lsns) + 1))


def entry_indices_are_dense(records: Iterable[Record]) -> None:
    counts: dict[InvocationId, int] = {}
    for record in records:
        match record.fact:
            case InvocationCreated() as fact:
                counts[fact.invocation_id] = 1
            case EntryAppended() | NotificationAppended() as fact:
                assert fact.entry_index == counts[fact.invocation_id], fact
                counts[fact.invocation_id] += 1
            case InvocationCompleted() as fact:
                has_entry = fact.entry_index is not None
                assert has_entry == (fact.by == "output"), fact
                assert fact.entry_count == counts[fact.invocation_id] + has_entry, fact
                assert fact.entry_index in (None, counts[fact.invocation_id]), fact
            case _:
                pass


def a_completion_completes_once(records: Iterable[Record]) -> None:
    """And only what was asked for completes, except a signal, which may come early."""
    known: dict[InvocationId, set[Any]] = defaultdict(set)
    asked: dict[InvocationId, set[int]] = defaultdict(set)
    for record in records:
        match record.fact:
            case EntryAppended(invocation_id=of, command=command):
                completion_id = getattr(command, "completion_id", None)
                if completion_id is not None:
                    assert completion_id not in asked[of], f"{command} asks twice"
                    asked[of].add(completion_id)
            case NotificationAppended(invocation_id=of, notification=notification):
                leaf = leaf_of(notification)
                again = leaf == Signal(id=CANCEL_SIGNAL)  # Cancelling twice is heard twice.
                assert again or leaf not in known[of], f"{leaf} of {of} completed twice"
                early = not isinstance(leaf, Completion)
                assert early or leaf.id in asked[of], f"nobody asked for {leaf}"
                known[of].add(leaf)
            case InvocationPurged(invocation_id=of):
                known.pop(of, None)
                asked.pop(of, None)
            case _:
                pass


def a_fold_is_the_state(records: Iterable[Record], state: EngineState) -> None:
    assert_same(fold(records), state)


def a_fold_of_rows_is_the_state(records: Iterable[Record], state: EngineState) -> None:
    """What is read from disk says as much as what was in memory."""
    rows = [encode(record, 1, record.payload) for record in records]  # type: ignore[arg-type]
    assert_same(fold([decode(row) for row in rows]), state)


def a_reload_is_the_state(store: MemoryStore, state: EngineState) -> None:
    """Recovery does not read the journals of finished invocations, and misses nothing by it."""
    copy = MemoryStore()
    copy.durable, copy._last_lsn = list(store.durable), store._last_lsn
    copy.open()
    assert_same(recover(copy).state, state)


# -- the state --------------------------------------------------------------------------------


def one_exclusive_holder_per_key(state: EngineState) -> None:
    began = ("ready", "running", "backing-off", "suspended", "paused")
    for inv in state.live():
        if not inv.exclusive:
            continue
        assert inv.object is not None
        obj = state.objects.get(inv.object)
        holds = obj is not None and obj.holder == inv.id
        assert holds == (inv.status in began), f"{inv} {'holds' if holds else 'lacks'} the lock"
        assert (inv.status == "pending") == (obj is not None and inv.id in (obj.inbox or ())), inv
    for object_id, obj in state.objects.items():
        for known in (obj.holder, *(obj.inbox or ())):
            assert known is None or state.invocations[known].object == object_id
        assert obj.holder is not None or not obj.inbox, f"{object_id} is free and has a queue"


def the_inbox_is_first_in_first_out(records: Iterable[Record], state: EngineState) -> None:
    joined: dict[InvocationId, int] = {}
    for record in records:
        match record.fact:
            case InvocationCreated(status="pending") | InvocationPending():
                joined[record.fact.invocation_id] = record.lsn  # type: ignore[attr-defined]
            case _:
                pass
    for obj in state.objects.values():
        assert list(obj.inbox or ()) == sorted(obj.inbox or (), key=joined.__getitem__)


def what_is_suspended_cannot_go_on(state: EngineState) -> None:
    """A cancelled one that waits again has heard of its cancellation already."""
    for inv in state.live():
        if inv.status == "suspended":
            assert inv.waiting_for is not None
            assert Watch(inv.waiting_for, inv.outcome_of).outcome is None, (
                f"{inv} sleeps, its future is there"
            )


def a_timer_is_set_for_all_that_waits(state: EngineState, timers: set[tuple[Timer, int]]) -> None:
    for due in _due(state.live()):
        assert due in timers, f"nothing will wake {due}"


def resume_sets_every_timer_again(machine: EngineMachine) -> None:
    again = {(a.timer, a.at_ms) for a in machine.resume() if isinstance(a, SetTimer)}
    assert again == set(_due(machine.state.live()))


def what_is_completed_holds_nothing(state: EngineState) -> None:
    for inv in state.invocations.values():
        if inv.status != "completed":
            assert inv.result is None
            continue
        assert inv.result is not None
        assert not any((inv.open, inv.awaited, inv.heard, inv.signal_counts, inv.waiters)), inv
        assert (inv.link, inv.next_retry_at_ms, inv.waiting_for) == (None, None, None), inv
    completed = {inv.id for inv in state.invocations.values() if inv.status == "completed"}
    for obj in state.objects.values():
        assert obj.holder not in completed
        assert not completed & set(obj.inbox or ())


def waiters_live(state: EngineState) -> None:
    """Whoever waits is alive and knows that it waits."""
    live = {inv.id: inv for inv in state.live()}
    for inv in state.live():
        for waiter in inv.waiters or ():
            assert waiter.invocation_id in live, f"{waiter} of {inv} is dead"
        assert inv.link is None or inv.status == "running", inv
        assert (inv.status == "running") == (inv.link is not None), inv
        for leaf in inv.awaited or ():
            assert not inv.has_heard(leaf), f"{leaf} of {inv} is there"
        for completion_id in inv.open:
            assert not inv.has_heard(Completion(id=completion_id))
    for obj in state.objects.values():
        for promise, waiters in (obj.promise_waiters or {}).items():
            assert waiters
            assert obj.promise(promise) is None
            for waiter in waiters:
                assert live[waiter.invocation_id].open_promises[waiter.completion_id] == promise


def actions_are_of_live_attempts(state: EngineState, decision: Decision) -> None:
    """What is started is running, what is published is done, in the state they were decided in."""
    started = [a for a in decision.actions if isinstance(a, StartAttempt)]
    assert len({a.invocation_id for a in started}) == len(started), "two attempts at once"
    for action in decision.actions:
        match action:
            case PublishResult(invocation_id=of):
                assert state.invocations[of].status == "completed"
            case DeliverNotification() | RetryRun() | StopAttempt() | StartAttempt():
                assert action.attempt <= state.invocations[action.invocation_id].attempt
            case _:
                pass


def _due(invocations: Iterable[Invocation]) -> list[tuple[Timer, int]]:
    due: list[tuple[Timer, int]] = []
    for inv in invocations:
        due += [
            (Timer(invocation_id=inv.id, completion_id=c), at) for c, at in inv.sleeping.items()
        ]
        if inv.status == "scheduled":
            assert inv.start_at_ms is not None
            due.append((Timer(invocation_id=inv.id), inv.start_at_ms))
        if inv.status == "backing-off":
            assert inv.next_retry_at_ms is not None
            due.append((Timer(invocation_id=inv.id), inv.next_retry_at_ms))
    return due


def assert_same(one: EngineState, other: EngineState) -> None:
    """Equal, but for objects that are empty and those that never were: these say the same."""
    assert (one.epoch, one.last_lsn) == (other.epoch, other.last_lsn)
    assert one.services == other.services
    assert {i: o for i, o in one.objects.items() if not o.is_empty} == {
        i: o for i, o in other.objects.items() if not o.is_empty
    }
    assert one.invocations.keys() == other.invocations.keys()
    for invocation_id, inv in one.invocations.items():
        for field in fields(Invocation):
            was, now = (
                getattr(inv, field.name),
                getattr(other.invocations[invocation_id], field.name),
            )
            assert was == now, f"{inv}.{field.name}: {was} is not {now}"
