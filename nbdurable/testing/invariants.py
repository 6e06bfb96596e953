"""What is true of every log and every state, whatever led to it. Each function is one sentence.

Those of the log take all records from the first one, and need no state: they judge `evolve` too.
Those of the state look at one moment, between two commits. All raise AssertionError.

Source: the list of the design, section 10.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
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
from nbdurable.core.commands import SleepCommand
from nbdurable.core.draft import Decision, Draft
from nbdurable.core.facts import (
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    EntryAppended,
    EpochStarted,
    InvocationCompleted,
    InvocationCreated,
    InvocationFact,
    InvocationPaused,
    InvocationPending,
    InvocationPurged,
    InvocationReadied,
    InvocationSuspended,
    NotificationAppended,
    RunAttemptFailed,
    StateEdited,
    StateEditQueued,
)
from nbdurable.core.futures import Completion, Signal, Watch
from nbdurable.core.ids import CANCEL_SIGNAL, InvocationId
from nbdurable.core.journal import AttemptStart, JournalEntry
from nbdurable.core.machine import EngineMachine, fold
from nbdurable.core.notifications import CompletionNotification, leaf_of
from nbdurable.core.proposals import Timer
from nbdurable.core.records import Record, Row, decode, encode
from nbdurable.core.rules.progress import place_for
from nbdurable.core.state import EngineState, Invocation, ObjectState
from nbdurable.core.values import ObjectId
from nbdurable.engine.recovery import recover
from nbdurable.store.memory import MemoryStore

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
                if isinstance(leaf, Completion):
                    assert leaf.id in asked[of], f"nobody asked for {leaf}"
                known[of].add(leaf)
            case InvocationPurged(invocation_id=of):
                known.pop(of, None)
                asked.pop(of, None)
            case _:
                pass


def one_attempt_lives_and_only_it_writes(records: Iterable[Record]) -> None:
    """Attempts are numbered; each begins when the one before it is over."""
    attempt: dict[InvocationId, int] = {}
    live: set[InvocationId] = set()
    copies: set[InvocationId] = set()
    for record in records:
        fact = record.fact
        match fact:
            case EpochStarted():
                live.clear()
            case InvocationCreated(invocation_id=of):
                assert of not in live, f"{of} is created while it runs"
                attempt[of] = 0
                if fact.restarted_from is not None:
                    copies.add(of)
            case AttemptStarted(invocation_id=of):
                assert of not in live, f"two attempts of {of} live at once: {fact}"
                assert fact.attempt == attempt[of] + 1, fact
                attempt[of] = fact.attempt
                live.add(of)
                copies.discard(of)
            case EntryAppended(invocation_id=of):
                # Restarted from an entry, it begins with a copy of what came before that.
                assert of in live or of in copies, f"an attempt that is over wrote {fact}"
            case RunAttemptFailed(invocation_id=of):
                assert of in live, f"an attempt that is over wrote {fact}"
            case InvocationSuspended(invocation_id=of) | AttemptFailed(invocation_id=of):
                assert of in live, f"an attempt that is over ended again: {fact}"
                assert fact.attempt == attempt[of], fact
                live.discard(of)
            case AttemptLost() | InvocationPaused() | InvocationCompleted():
                live.discard(fact.invocation_id)
            case _:
                pass


def an_objects_lock_goes_round_in_order(records: Iterable[Record]) -> None:
    """One exclusive handler or edit per key at a time; the next is who has waited longest."""
    keys: dict[InvocationId, ObjectId] = {}
    holders: dict[ObjectId, InvocationId] = {}
    queues: dict[ObjectId, list[InvocationId]] = defaultdict(list)
    # By the edit: who was there before it.
    edits: dict[ObjectId, dict[int, set[InvocationId]]] = defaultdict(dict)

    def takes_lock(of: InvocationId) -> None:
        key = keys[of]
        assert holders.get(key, of) == of, f"{of} takes the lock of {key} from {holders[key]}"
        assert of not in queues[key][1:], f"{of} jumps the queue of {key}"
        for before in edits[key].values():
            assert of in before, f"{of} takes the lock of {key} before an edit that waits for it"
        holders[key] = of
        if of in queues[key]:
            queues[key].remove(of)

    for record in records:
        fact = record.fact
        match fact:
            case StateEditQueued(object=key, name=None):
                edits[key][record.lsn] = {*queues[key], *filter(None, [holders.get(key)])}
            case StateEdited(object=key):
                assert key not in holders, f"{fact} while {holders[key]} holds the lock"
                edits[key].pop(fact.edit_lsn, None)
            case _:
                pass
        if isinstance(fact, InvocationCreated):
            keys.pop(fact.invocation_id, None)
            if fact.handler_type == "exclusive" and fact.target.object is not None:
                keys[fact.invocation_id] = fact.target.object
        if not isinstance(fact, InvocationFact) or fact.invocation_id not in keys:
            continue
        of, key = fact.invocation_id, keys[fact.invocation_id]
        match fact:
            case InvocationCreated(status="pending") | InvocationPending():
                queues[key].append(of)
            case InvocationCreated(status="ready") | AttemptStarted() | InvocationReadied():
                takes_lock(of)
            case InvocationCompleted():
                if holders.get(key) == of:
                    del holders[key]
                elif of in queues[key]:
                    queues[key].remove(of)
            case _:
                pass


def nothing_comes_before_its_time(records: Iterable[Record]) -> None:
    """No sleeper wakes early, and nothing that was sent for later begins before."""
    starts_at_ms: dict[InvocationId, int] = {}
    wakes_at_ms: dict[InvocationId, dict[int, int]] = {}
    for record in records:
        fact = record.fact
        match fact:
            case InvocationCreated(invocation_id=of):
                starts_at_ms[of], wakes_at_ms[of] = fact.start_at_ms or 0, {}
            case EntryAppended(invocation_id=of, command=SleepCommand() as command):
                wakes_at_ms[of][command.completion_id] = command.wake_up_at_ms
            case NotificationAppended(
                invocation_id=of, notification=CompletionNotification(of="Sleep") as notification
            ):
                early_ms = wakes_at_ms[of][notification.completion_id] - record.at_ms
                assert early_ms <= 0, f"{of} woke {early_ms} ms too early"
            case InvocationPending() | InvocationReadied() | AttemptStarted():
                early_ms = starts_at_ms[fact.invocation_id] - record.at_ms
                assert early_ms <= 0, f"{fact} began {early_ms} ms too early"
            case _:
                pass


def every_caller_is_answered_once(records: Iterable[Record]) -> None:
    """Whoever called and lives on gets the result, in the commit in which it is decided."""
    seeds: dict[InvocationId, int] = {}
    created: dict[InvocationId, InvocationCreated] = {}
    owed: set[tuple[InvocationId, int]] = set()
    for record in records:
        fact = record.fact
        match fact:
            case InvocationCreated(invocation_id=of):
                seeds[of], created[of] = fact.seed, fact
            case InvocationCompleted(invocation_id=of):
                seeds.pop(of, None)
                owed = {(caller, completion) for caller, completion in owed if caller != of}
                caller = created[of].caller
                if caller is None or caller.completion_id is None:
                    continue
                if seeds.get(caller.invocation_id) == caller.seed:
                    owed.add((caller.invocation_id, caller.completion_id))
            case NotificationAppended(
                invocation_id=of, notification=CompletionNotification() as notification
            ):
                owed.discard((of, notification.completion_id))
            case _:
                pass
    assert not owed, f"never told how their call ended: {owed}"


def a_committed_prefix_never_changes(before: Sequence[Row], after: Iterable[Row]) -> None:
    """What was durable once stays as it is, or is purged: all of one life, or none of it."""
    found = {row.lsn: row for row in after}
    lives: dict[str, list[Row]] = defaultdict(list)
    for row in before:
        now = found.get(row.lsn, row)
        assert now == row, f"fact {row.lsn} was {row} and is {now}"
        if row.invocation_id is None:
            # A promise goes with its workflow's run.
            assert row.lsn in found or row.kind == "PromiseCompleted", f"{row} is lost"
            continue
        if row.kind == "InvocationCreated":
            _check_life(lives[row.invocation_id], found)
            lives[row.invocation_id] = []
        lives[row.invocation_id].append(row)
    for life in lives.values():
        _check_life(life, found)


def _check_life(life: list[Row], found: Mapping[int, Row]) -> None:
    kinds = {row.kind for row in life}
    lasting = ("InvocationCreated", "InvocationCompleted", "JournalPurged")
    purgeable = [row for row in life if "InvocationPurged" in kinds or row.kind not in lasting]
    gone = [row for row in purgeable if row.lsn not in found]
    for row in life:
        if row not in purgeable:
            assert row.lsn in found, f"{row} is lost"
    if gone:
        assert kinds & {"InvocationPurged", "JournalPurged"}, f"{gone[0]} is lost"
    if gone and "InvocationPurged" not in kinds:
        assert len(gone) == len(purgeable), f"a purge has left some of {life[0]}"


# -- what attempts are given -------------------------------------------------------------------


def an_attempt_is_given_what_is_committed(start: AttemptStart, journal: Sequence[Record]) -> None:
    """Every command, notification and value of the journal so far, in order, byte for byte."""
    committed = [entry for record in journal if (entry := _entry_of(record)) is not None]
    given = [entry._replace(payload=entry.payload or b"") for entry in start.journal]
    for one, other in zip(committed, given, strict=False):
        assert other == one, f"attempt {start.attempt} was given {other}, committed is {one}"
    assert len(given) == len(committed), f"of {len(committed)} entries it was given {len(given)}"


def a_delivery_is_committed(entry: JournalEntry, journal: Sequence[Record]) -> None:
    """Nothing is told before its commit, and then as it was committed."""
    committed = [known for record in journal if (known := _entry_of(record)) is not None]
    assert entry._replace(payload=entry.payload or b"") in committed, (
        f"{entry} was delivered, and is not committed"
    )


def _entry_of(record: Record) -> JournalEntry | None:
    # No payload and an empty one say the same.
    payload = record.payload if isinstance(record.payload, bytes) else b""
    match record.fact:
        case EntryAppended() as fact:
            return JournalEntry(fact.entry_index, fact.command, payload)
        case NotificationAppended() as fact:
            return JournalEntry(fact.entry_index, fact.notification, payload)
        case _:
            return None


# -- fold, state, reload -----------------------------------------------------------------------


def a_fold_is_the_state(records: Iterable[Record], state: EngineState) -> None:
    assert_same(fold(records), state)


def a_fold_of_rows_is_the_state(records: Iterable[Record], state: EngineState) -> None:
    """What is read from disk says as much as what was in memory."""
    rows = [encode(record, 1, record.payload) for record in records]  # type: ignore[arg-type]
    assert_same(fold([decode(row) for row in rows]), state)


def a_reload_is_the_state(store: MemoryStore, state: EngineState) -> None:
    """Recovery does not read the journals of finished invocations, and misses nothing by it."""
    copy = store.copy()
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
            case InvocationCreated(status="pending") | InvocationPending() as fact:
                joined[fact.invocation_id] = record.lsn
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


def a_timer_is_set_for_all_that_waits(
    state: EngineState, timers: Collection[tuple[Timer, int]], now_ms: int = 0
) -> None:
    """What is due by now has fired, and is on its way."""
    for timer, at_ms in _due(state.live()):
        assert (timer, at_ms) in timers or at_ms <= now_ms, f"nothing will wake {timer} at {at_ms}"


def resume_sets_every_timer_again(machine: EngineMachine) -> None:
    again = {(a.timer, a.at_ms) for a in machine.resume() if isinstance(a, SetTimer)}
    assert again == set(_due(machine.state.live()))


def what_is_completed_holds_nothing(state: EngineState) -> None:
    assert not state.completed.keys() & state.invocations.keys()
    for inv in state.invocations.values():
        assert inv.status != "completed", inv
    for obj in state.objects.values():
        assert obj.holder not in state.completed
        assert not state.completed.keys() & set(obj.inbox or ())


def nobody_waits_for_what_has_ended(state: EngineState) -> None:
    for inv in state.live():
        for completion_id, callee in inv.open_calls.items():
            assert callee in state.invocations, f"call {completion_id} of {inv} waits for nobody"


def the_called_die_with_the_killed(state: EngineState) -> None:
    for inv in state.live():
        caller = inv.caller
        if caller is None or caller.completion_id is None:
            continue
        ended = state.completed.get(caller.invocation_id)
        if ended is not None and ended.seed == caller.seed:
            assert ended.completed_by != "killed", f"{inv} works for {ended}, which was killed"


def no_more_run_than_may(state: EngineState) -> None:
    """As long as nobody lowers a limit: who runs already is let run."""
    for counter, count in state.running.items():
        bound = state.settings.limits.of(counter)
        assert bound is None or count <= bound, f"{counter}: {count} run, {bound} may"
    running = Counter(inv.link for inv in state.live() if inv.link is not None)
    assert running == state.occupied
    for link, slots in state.slots.items():
        assert running[link] <= slots, f"{link}: {running[link]} run, {slots} may"


def nobody_waits_for_a_free_slot(state: EngineState) -> None:
    """Whoever is ready lacks a slot, or its code is not loaded."""
    for inv in state.live():
        if inv.status == "ready" and not state.is_full(inv):
            place = place_for(Draft(state, 0), inv)
            assert place is None, f"{inv} could run at {place}, and waits"


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
                assert of in state.completed
            case DeliverNotification() | RetryRun() | StopAttempt() | StartAttempt():
                inv = state.find(action.invocation_id)
                assert inv is not None
                assert action.attempt <= inv.attempt
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
    for object_id in one.objects.keys() | other.objects.keys():
        was = one.objects.get(object_id, ObjectState())
        now = other.objects.get(object_id, ObjectState())
        assert was == now, f"{object_id}: {was} is not {now}"
    assert one.ready == other.ready
    for bucket, waiting in one.ready.items():
        assert list(waiting) == list(other.ready[bucket]), "they became ready in another order"
    assert (one.settings, one.running) == (other.settings, other.running)
    assert (one.slots, one.occupied) == (other.slots, other.occupied)
    assert one.completed.keys() == other.completed.keys()
    for invocation_id, ended in one.completed.items():
        assert ended == other.completed[invocation_id]
    assert list(one.completed) == list(other.completed), "they ended in another order"
    assert one.invocations.keys() == other.invocations.keys()
    for invocation_id, inv in one.invocations.items():
        for field in fields(inv):
            was = getattr(inv, field.name)
            now = getattr(other.invocations[invocation_id], field.name)
            assert was == now, f"{inv}.{field.name}: {was} is not {now}"
