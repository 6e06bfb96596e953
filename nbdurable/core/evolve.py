"""`evolve`: how each fact changes the state. The only function that does.

Read it as two tables, one of facts and one of commands. It asserts what `decide` promised; it never
refuses and never asks anything, so that folding a log is what happened.
"""

from __future__ import annotations

from collections import deque
from typing import assert_never

import msgspec

from nbdurable.core.commands import (
    AttachInvocationCommand,
    AwakeableCommand,
    CallCommand,
    ClearAllStateCommand,
    ClearStateCommand,
    Command,
    GetPromiseCommand,
    RunCommand,
    SetStateCommand,
    SignalCommand,
    SleepCommand,
)
from nbdurable.core.facts import (
    AnyFact,
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    CodeLoaded,
    EngineConfigured,
    EntryAppended,
    EpochStarted,
    InvocationCompleted,
    InvocationCreated,
    InvocationMoved,
    InvocationPaused,
    InvocationPending,
    InvocationPurged,
    InvocationReadied,
    InvocationRestored,
    InvocationSuspended,
    JournalPurged,
    LinkClosed,
    LinkOpened,
    MismatchAccepted,
    NotificationAppended,
    OutputWritten,
    PromiseCompleted,
    RunAttemptFailed,
    ServicePatched,
    ServiceRegistered,
    StateEdited,
    StateEditQueued,
    StateRestored,
    kept_for,
)
from nbdurable.core.few import Few
from nbdurable.core.futures import Completion, Leaf, NamedSignal, Signal, Watch
from nbdurable.core.limits import counters
from nbdurable.core.lives import completed_of, invocation_of, stored
from nbdurable.core.notifications import leaf_of
from nbdurable.core.state import (
    EngineState,
    FailedRuns,
    Invocation,
    ObjectState,
    OpenCall,
    OpenPromise,
    OpenRun,
    OpenSleep,
    QueuedEdit,
    ServiceState,
    Status,
    Waiter,
)
from nbdurable.core.values import (
    NOBODY,
    Answered,
    ObjectId,
    Success,
    with_shared_names,
)


def evolve(state: EngineState, lsn: int, at_ms: int, fact: AnyFact) -> None:
    """Apply one fact. Asserts what `decide` promised; never refuses, never asks anything."""
    if not isinstance(fact, StateRestored):
        assert lsn > state.last_lsn, f"fact {lsn} after {state.last_lsn}"
        state.last_lsn = lsn
    match fact:
        case EpochStarted():
            _start_epoch(state, at_ms, fact)
        case ServiceRegistered():
            service = state.services.get(fact.manifest.name)
            if service is None:
                service = ServiceState(fact.revision, {})
                state.services[fact.manifest.name] = service
            service.latest, service.offered = fact.revision, None
            service.revisions[fact.revision] = fact.manifest
            service.registered_at_ms[fact.revision] = at_ms
        case ServicePatched():
            service = state.services[fact.service]
            service.offered = service.offered or service.manifest
            service.revisions[service.latest] = fact.patch.applied_to(service.manifest)
        case CodeLoaded():
            _load(state.services[fact.service], fact)
        case LinkOpened():
            if fact.slots is not None:
                state.slots[fact.link] = fact.slots
        case LinkClosed():
            state.slots.pop(fact.link, None)
            for service in state.services.values():
                service.loaded = _without(service.loaded, fact.link)
                service.only.pop(fact.link, None)
        case EngineConfigured():
            state.settings = fact.settings
            state.running = {}
            for inv in state.live():
                if inv.status == "running":
                    _count(state, inv, 1)
        case PromiseCompleted():
            _complete_promise(state, lsn, fact)
        case StateEditQueued():
            _queue_edit(state, lsn, fact)
        case StateEdited():
            _edit(state, lsn, at_ms, fact)
        case StateRestored():
            obj = _object(state, fact.object)
            obj.state, obj.written_at_ms = Few(fact.entries), fact.written_at_ms
        case InvocationCreated():
            _create(state, lsn, at_ms, fact)
        case InvocationPurged():
            _purge(state, fact)
        case JournalPurged():
            state.completed[fact.invocation_id] = msgspec.structs.replace(
                state.completed[fact.invocation_id], last_lsn=lsn, journal_purged=True
            )
        case InvocationRestored():
            was = fact.completed
            state.completed[was.id] = msgspec.structs.replace(
                was,
                target=with_shared_names(was.target),
                kept=kept_for(was.completion_retention_ms, was.journal_retention_ms),
            )
        case _:
            invocation = state.invocations[fact.invocation_id]
            invocation.last_lsn = lsn
            invocation.modified_at_ms = at_ms
            _evolve_invocation(state, invocation, lsn, at_ms, fact)


def _evolve_invocation(
    state: EngineState,
    inv: Invocation,
    lsn: int,
    at_ms: int,
    fact: InvocationPending
    | InvocationReadied
    | InvocationMoved
    | AttemptStarted
    | EntryAppended
    | NotificationAppended
    | RunAttemptFailed
    | AttemptFailed
    | AttemptLost
    | InvocationSuspended
    | InvocationPaused
    | OutputWritten
    | MismatchAccepted
    | InvocationCompleted,
) -> None:
    match fact:
        case InvocationPending():
            _turn(state, inv, "pending")
            _queue(state, inv)
        case InvocationReadied():
            _take_lock(state, inv)
            _leave_pause(inv)
            _turn(state, inv, "ready")
            inv.next_retry_at_ms = None
        case InvocationMoved():
            _leave_ready(state, inv)
            inv.revision = fact.revision
            _join_ready(state, inv)
        case AttemptStarted():
            _take_lock(state, inv)
            _leave_pause(inv)
            _turn(state, inv, "running")
            inv.attempt, inv.link, inv.revision = fact.attempt, fact.link, fact.revision
            _occupy(state, inv, 1)
            inv.next_retry_at_ms, inv.watch = None, None
        case EntryAppended():
            assert fact.entry_index == inv.entry_count, (fact, inv)
            inv.entry_count += 1
            inv.failure_count = 0
            _append(state, inv, lsn, at_ms, fact)
        case NotificationAppended():
            assert fact.entry_index == inv.entry_count, (fact, inv)
            inv.entry_count += 1
            inv.notification_count += 1
            _notify(state, inv, fact)
        case RunAttemptFailed():
            step = inv.open[fact.completion_id]
            assert isinstance(step, OpenRun), (fact, step)
            failed = FailedRuns(fact.failure_count, fact.first_failed_at_ms, fact.next_retry_at_ms)
            inv.open[fact.completion_id] = msgspec.structs.replace(step, failed=failed)
            inv.last_error = fact.error
        case AttemptFailed():
            _turn(state, inv, "backing-off")
            inv.failure_count, inv.last_error = fact.failure_count, fact.error
            inv.next_retry_at_ms = fact.next_retry_at_ms
        case AttemptLost():
            _turn(state, inv, "ready")
        case InvocationSuspended():
            _turn(state, inv, "suspended")
            inv.watch = Watch(fact.waiting_for, inv.outcome_of)
        case InvocationPaused():
            _turn(state, inv, "paused")
            inv.paused_by, inv.next_retry_at_ms = fact.by, None
        case OutputWritten():
            inv.output_bytes += fact.value.bytes
        case MismatchAccepted():
            inv.accepted = (*inv.accepted, fact.command_index)
        case InvocationCompleted():
            _complete(state, inv, lsn, at_ms, fact)
        case _:
            assert_never(fact)


def _turn(state: EngineState, inv: Invocation, status: Status) -> None:
    """The one place where a status changes: who runs and who wants to is counted here."""
    if inv.status == "running":
        _occupy(state, inv, -1)
        inv.link = None
        _count(state, inv, -1)
    _leave_ready(state, inv)
    inv.status = status
    _join_ready(state, inv)
    if status == "running":
        _count(state, inv, 1)


def _leave_ready(state: EngineState, inv: Invocation) -> None:
    if inv.status == "ready":
        waiting = state.ready[inv.bucket]
        del waiting[inv.id]
        if not waiting:
            del state.ready[inv.bucket]


def _join_ready(state: EngineState, inv: Invocation) -> None:
    if inv.status == "ready":
        state.ready.setdefault(inv.bucket, {})[inv.id] = None


def _count(state: EngineState, inv: Invocation, change: int) -> None:
    """Nothing is counted while nothing is limited."""
    if not state.settings.limits:
        return
    for counter in counters(inv.target, inv.limit_key):
        count = state.running.get(counter, 0) + change
        assert count >= 0, f"{counter} is counted below nothing"
        if count:
            state.running[counter] = count
        else:
            del state.running[counter]


def _occupy(state: EngineState, inv: Invocation, change: int) -> None:
    """Over which link it runs, which only a link with a bound has to know."""
    if inv.link is None:
        return
    count = state.occupied.get(inv.link, 0) + change
    assert count >= 0, f"{inv.link} runs less than nothing"
    if count:
        state.occupied[inv.link] = count
    else:
        del state.occupied[inv.link]


def _load(service: ServiceState, fact: CodeLoaded) -> None:
    links = service.loaded.get(fact.revision, ())
    if fact.link not in links:
        service.loaded[fact.revision] = (*links, fact.link)
    if fact.keys is None:
        service.only.pop(fact.link, None)
    else:
        service.only[fact.link] = fact.keys


def _without(loaded: dict[int, tuple[str, ...]], link: str) -> dict[int, tuple[str, ...]]:
    """What can be run when this link is gone; a revision that is nowhere else is not loaded."""
    left = {r: tuple(k for k in links if k != link) for r, links in loaded.items()}
    return {revision: links for revision, links in left.items() if links}


def _start_epoch(state: EngineState, at_ms: int, fact: EpochStarted) -> None:
    """Whatever ran, ran in a process that is gone: it is ready for its next attempt."""
    state.epoch = fact.epoch
    for obj in state.objects.values():
        # Of a write that nothing is known to have come after, it was before this at least.
        obj.written_at_ms = obj.written_at_ms or at_ms
    state.slots.clear()
    for service in state.services.values():
        service.loaded.clear()
        service.only.clear()
    for inv in state.live():
        if inv.status == "running":
            _turn(state, inv, "ready")


def _create(state: EngineState, lsn: int, at_ms: int, fact: InvocationCreated) -> None:
    inv = invocation_of(fact, lsn, at_ms)
    state.invocations[inv.id] = inv
    _turn(state, inv, fact.status)
    match fact.status:
        case "pending":
            _queue(state, inv)
        case "ready":
            _take_lock(state, inv)
        case "scheduled":
            pass


def _queue(state: EngineState, inv: Invocation) -> None:
    held = _object_of(state, inv)
    if held.inbox is None:
        held.inbox = deque()
    held.inbox.append(inv.id)


def _queue_edit(state: EngineState, lsn: int, fact: StateEditQueued) -> None:
    obj = state.objects.get(fact.object)
    last = None if obj is None else obj.inbox[-1] if obj.inbox else obj.holder
    if obj is None or last is None:
        # Recovery does not read of those who have ended. They were all who came before this edit,
        # so it was made, and what it made is in the state.
        return
    if fact.name is None:
        obj.edits = obj.edits or {}
        obj.edits[lsn] = QueuedEdit(last)
        return
    assert obj.edits is not None, f"{fact} is of no edit"
    assert fact.value is not None, fact
    ref = msgspec.structs.replace(fact.value, lsn=lsn)
    obj.edits[fact.edit_lsn].values[fact.name] = ref


def _edit(state: EngineState, lsn: int, at_ms: int, fact: StateEdited) -> None:
    obj = _object(state, fact.object)
    if obj.edits is not None:
        obj.edits.pop(fact.edit_lsn, None)
        obj.edits = obj.edits or None
    _change_state(state, fact.object, lsn, at_ms, fact.command)
    _forget_if_empty(state, fact.object)


def _change_state(
    state: EngineState, object_id: ObjectId, lsn: int, at_ms: int, command: Command
) -> None:
    obj = _object(state, object_id)
    values = obj.state
    match command:
        case SetStateCommand():
            values[command.key] = msgspec.structs.replace(command.value, lsn=lsn)
            obj.written_at_ms = at_ms
        case ClearStateCommand():
            values.pop(command.key, None)
        case ClearAllStateCommand():
            values.clear()


def _take_lock(state: EngineState, inv: Invocation) -> None:
    if not inv.exclusive:
        return
    held = _object_of(state, inv)
    assert held.holder in (None, inv.id), f"{inv} takes a lock that {held.holder} holds"
    held.holder = inv.id
    if inv.status == "pending":
        assert held.inbox, f"{inv} is in no queue"
        assert held.inbox[0] == inv.id, f"{inv} jumps the queue"
        held.inbox.popleft()
        held.inbox = held.inbox or None


def _leave_pause(inv: Invocation) -> None:
    """Whoever resumes it gives it all its attempts again."""
    if inv.status == "paused" or inv.paused_by is not None:
        inv.paused_by, inv.failure_count = None, 0


def _append(state: EngineState, inv: Invocation, lsn: int, at_ms: int, fact: EntryAppended) -> None:
    command: Command = fact.command
    completion_id = getattr(command, "completion_id", None)
    if completion_id is not None:
        inv.completion_count = max(inv.completion_count, completion_id)
    match command:
        case RunCommand():
            inv.open[command.completion_id] = OpenRun(command.name or "")
        case SleepCommand():
            inv.open[command.completion_id] = OpenSleep(command.wake_up_at_ms)
        case CallCommand():
            inv.open[command.completion_id] = OpenCall(command.invocation_id)
            callee = state.invocations.get(command.invocation_id)
            # Only an idempotent call latches on to a callee that somebody else began; a restarted
            # invocation, to the callees of the one it goes on for.
            latches = command.idempotency_key is not None or inv.restarted_from is not None
            if callee is not None and latches:
                _wait_for(callee, Waiter(inv.id, inv.seed, command.completion_id, "Call"))
        case AttachInvocationCommand():
            inv.open[command.completion_id] = OpenCall(command.invocation_id, "AttachInvocation")
            target = state.invocations.get(command.invocation_id)
            if target is not None:
                waiter = Waiter(inv.id, inv.seed, command.completion_id, "AttachInvocation")
                _wait_for(target, waiter)
        case AwakeableCommand():
            # Its id may have been used before the command that made it was committed.
            _await(inv, Signal(id=command.signal_id))
        case SignalCommand():
            _await(inv, NamedSignal(name=command.signal_name, index=command.index))
        case GetPromiseCommand():
            held = _object_of(state, inv)
            if held.promise(command.key) is None:
                inv.open[command.completion_id] = OpenPromise(command.key)
                waiter = Waiter(inv.id, inv.seed, command.completion_id, "GetPromise")
                held.promise_waiters = held.promise_waiters or Few()
                held.promise_waiters.setdefault(command.key, Few())[waiter] = None
        case SetStateCommand() | ClearStateCommand() | ClearAllStateCommand():
            if fact.object is not None:
                _change_state(state, fact.object, lsn, at_ms, command)
        case _:
            pass


def _wait_for(awaited: Invocation, waiter: Waiter) -> None:
    if awaited.waiters is None:
        awaited.waiters = Few()
    awaited.waiters[waiter] = None


def _await(inv: Invocation, leaf: Leaf) -> None:
    if not inv.has_heard(leaf):
        inv.awaited = inv.awaited or Few()
        inv.awaited[leaf] = None


def _notify(state: EngineState, inv: Invocation, fact: NotificationAppended) -> None:
    notification = fact.notification
    leaf = leaf_of(notification)
    succeeded = isinstance(notification.result, Success)
    if isinstance(leaf, Completion):
        was_open = inv.open.pop(leaf.id, None)
        if isinstance(was_open, OpenPromise):
            # The fact that completed the promise may have been purged with its workflow since.
            _promise_no_more(_object_of(state, inv), was_open.key, inv, leaf.id)
        elif isinstance(was_open, OpenCall):
            # It got its answer from elsewhere: its wait was refused.
            waiter = Waiter(inv.id, inv.seed, leaf.id, was_open.of)
            _wait_no_more(state.invocations.get(was_open.invocation_id), waiter)
    elif inv.awaited is not None:
        inv.awaited.pop(leaf, None)
        inv.awaited = inv.awaited or None
    if isinstance(leaf, NamedSignal):
        inv.signal_counts = inv.signal_counts or Few()
        inv.signal_counts[leaf.name] = leaf.index + 1
    if not succeeded or not isinstance(leaf, Completion):
        inv.heard = inv.heard or Few()
        inv.heard[leaf] = succeeded
    if inv.watch is not None:
        inv.watch.settle(leaf, succeeded=succeeded)


def _complete(
    state: EngineState, inv: Invocation, lsn: int, at_ms: int, fact: InvocationCompleted
) -> None:
    obj = state.objects.get(inv.object) if inv.object is not None else None
    if obj is not None:
        if obj.holder == inv.id:
            obj.holder = None
        elif inv.status == "pending":
            _leave_queue(obj, inv)
    # Recovery does not read the journal of a finished invocation, so it must leave no trace.
    for completion_id, awaited in inv.open.items():
        if isinstance(awaited, OpenCall):
            waiter = Waiter(inv.id, inv.seed, completion_id, awaited.of)
            _wait_no_more(state.invocations.get(awaited.invocation_id), waiter)
        elif isinstance(awaited, OpenPromise) and obj is not None:
            _promise_no_more(obj, awaited.key, inv, completion_id)
    _turn(state, inv, "completed")
    del state.invocations[inv.id]
    state.completed[inv.id] = completed_of(inv, fact, lsn, at_ms)
    _forget_if_empty(state, inv.object)


def _leave_queue(obj: ObjectState, inv: Invocation) -> None:
    """An edit behind it is now behind the one that was before it."""
    assert obj.inbox is not None, f"{inv} is in no queue"
    place = obj.inbox.index(inv.id)
    before = obj.inbox[place - 1] if place else obj.holder
    for edit in (obj.edits or {}).values():
        if edit.behind == inv.id:
            assert before is not None, f"{inv} queued for a lock that was free"
            edit.behind = before
    del obj.inbox[place]
    obj.inbox = obj.inbox or None


def _wait_no_more(awaited: Invocation | None, waiter: Waiter) -> None:
    if awaited is not None and awaited.waiters is not None:
        awaited.waiters.pop(waiter, None)
        awaited.waiters = awaited.waiters or None


def _promise_no_more(obj: ObjectState, key: str, inv: Invocation, completion_id: int) -> None:
    if obj.promise_waiters is None or key not in obj.promise_waiters:
        return
    waiters = obj.promise_waiters[key]
    waiters.pop(Waiter(inv.id, inv.seed, completion_id, "GetPromise"), None)
    if not waiters:
        del obj.promise_waiters[key]
        obj.promise_waiters = obj.promise_waiters or None


def _complete_promise(state: EngineState, lsn: int, fact: PromiseCompleted) -> None:
    obj = _object(state, fact.object)
    obj.promises = obj.promises or Few()
    obj.promises[fact.promise] = stored(fact.result, lsn)
    if fact.by != NOBODY or fact.comment is not None:
        obj.answered = obj.answered or Few()
        obj.answered[fact.promise] = Answered(by=fact.by, comment=fact.comment)
    if obj.promise_waiters is not None:
        obj.promise_waiters.pop(fact.promise, None)
        obj.promise_waiters = obj.promise_waiters or None


def _purge(state: EngineState, fact: InvocationPurged) -> None:
    del state.completed[fact.invocation_id]
    if fact.object is not None:
        obj = state.objects.get(fact.object)
        if obj is not None:
            obj.state.clear()
            obj.promises = obj.answered = None
            _forget_if_empty(state, fact.object)


def _forget_if_empty(state: EngineState, object_id: ObjectId | None) -> None:
    """A key that nobody holds, queues for or wrote to is as if it had never been used."""
    if object_id is not None and object_id in state.objects and state.objects[object_id].is_empty:
        del state.objects[object_id]


def _object_of(state: EngineState, inv: Invocation) -> ObjectState:
    assert inv.object is not None, f"{inv} has no key"
    return _object(state, inv.object)


def _object(state: EngineState, object_id: ObjectId) -> ObjectState:
    return state.objects.setdefault(object_id, ObjectState())
