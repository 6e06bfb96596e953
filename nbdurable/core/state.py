"""The state of the engine, and `evolve`, the only function that changes it.

Mutable, and owned by the engine thread. It holds no payloads and no finished journals: of an
invocation it knows what is needed to decide, which for a finished one is its result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, assert_never

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
    SleepCommand,
)
from nbdurable.core.facts import (
    AnyFact,
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    Caller,
    CodeLoaded,
    EntryAppended,
    EpochStarted,
    InvocationCompleted,
    InvocationCreated,
    InvocationMoved,
    InvocationPaused,
    InvocationPending,
    InvocationPurged,
    InvocationReadied,
    InvocationSuspended,
    LinkClosed,
    NotificationAppended,
    PromiseCompleted,
    RunAttemptFailed,
    ServiceRegistered,
    StateRestored,
)
from nbdurable.core.futures import FutureTree, Leaf, is_satisfied
from nbdurable.core.futures import Signal as SignalLeaf
from nbdurable.core.ids import InvocationId
from nbdurable.core.manifest import HandlerManifest, ServiceManifest
from nbdurable.core.notifications import leaf_of
from nbdurable.core.values import (
    ErrorReport,
    HandlerType,
    ObjectId,
    PayloadRef,
    Result,
    ServiceType,
    Success,
    Target,
)

Status = Literal[
    "scheduled", "pending", "ready", "running", "backing-off", "suspended", "paused", "completed"
]


class Waiter(NamedTuple):
    """The future of a command, of one life of an invocation, that gets somebody else's result."""

    invocation_id: InvocationId
    seed: int
    completion_id: int
    of: str


@dataclass(slots=True)
class FailedRuns:
    count: int
    first_failed_at_ms: int
    next_retry_at_ms: int


@dataclass(slots=True)
class Invocation:
    """Mutable; owned by the engine thread, changed by `evolve` only."""

    id: InvocationId
    target: Target
    status: Status
    argument: PayloadRef
    seed: int
    service_type: ServiceType
    handler_type: HandlerType | None
    headers: dict[str, str]
    idempotency_key: str | None
    caller: Caller | None
    start_at_ms: int | None
    created_at_ms: int
    modified_at_ms: int
    first_lsn: int
    last_lsn: int
    entry_count: int = 1
    notification_count: int = 0
    attempt: int = 0
    link: str | None = None
    revision: int | None = None
    paused_by: str | None = None
    failure_count: int = 0
    next_retry_at_ms: int | None = None
    last_error: ErrorReport | None = None
    waiting_for: FutureTree | None = None
    known: set[Leaf] = field(default_factory=set)
    sleeping: dict[int, int] = field(default_factory=dict)
    failed_runs: dict[int, FailedRuns] = field(default_factory=dict)
    open_runs: dict[int, str] = field(default_factory=dict)
    open_calls: dict[int, InvocationId] = field(default_factory=dict)
    open_promises: dict[int, str] = field(default_factory=dict)
    open_awakeables: set[int] = field(default_factory=set)
    waiters: list[Waiter] = field(default_factory=list)
    result: Result | None = None
    completed_by: str | None = None
    completed_at_ms: int | None = None

    def __repr__(self) -> str:
        return f"<Invocation {self.id} {self.target} {self.status}, {self.entry_count} entries>"

    @property
    def exclusive(self) -> bool:
        """Whether it needs its object's lock. A workflow's run does not: its id admits one."""
        return self.handler_type == "exclusive"

    @property
    def object(self) -> ObjectId | None:
        target = self.target
        return None if target.key is None else ObjectId(service=target.service, key=target.key)

    @property
    def is_resumable(self) -> bool:
        """Whether a suspended invocation has what it waits for."""
        return self.waiting_for is None or is_satisfied(self.waiting_for, self.known)


@dataclass(slots=True)
class ObjectState:
    """One key: who holds the lock, who queues for it, its state and its promises."""

    holder: InvocationId | None = None
    inbox: deque[InvocationId] = field(default_factory=deque)
    state: dict[str, PayloadRef] = field(default_factory=dict)
    promises: dict[str, Result] = field(default_factory=dict)
    promise_waiters: dict[str, list[Waiter]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (
            self.holder or self.inbox or self.state or self.promises or self.promise_waiters
        )


@dataclass(slots=True)
class ServiceState:
    latest: int
    revisions: dict[int, ServiceManifest]
    loaded: dict[int, str] = field(default_factory=dict)

    @property
    def manifest(self) -> ServiceManifest:
        return self.revisions[self.latest]


@dataclass(slots=True)
class EngineState:
    """Mutable; owned by the engine thread, changed by `evolve` only."""

    epoch: int = 0
    last_lsn: int = 0
    services: dict[str, ServiceState] = field(default_factory=dict)
    invocations: dict[InvocationId, Invocation] = field(default_factory=dict)
    objects: dict[ObjectId, ObjectState] = field(default_factory=dict)

    def handler(self, target: Target, revision: int | None = None) -> HandlerManifest | None:
        service = self.services.get(target.service)
        if service is None:
            return None
        manifest = service.revisions.get(revision or service.latest, service.manifest)
        return manifest.handler(target.handler)

    def live(self) -> Iterator[Invocation]:
        return (inv for inv in self.invocations.values() if inv.status != "completed")


def evolve(state: EngineState, lsn: int, at_ms: int, fact: AnyFact) -> None:
    """Apply one fact. Asserts what `decide` promised; never refuses, never asks anything."""
    if not isinstance(fact, StateRestored):
        assert lsn > state.last_lsn, f"fact {lsn} after {state.last_lsn}"
        state.last_lsn = lsn
    match fact:
        case EpochStarted():
            _start_epoch(state, fact)
        case ServiceRegistered():
            service = state.services.get(fact.manifest.name)
            if service is None:
                service = ServiceState(fact.revision, {})
                state.services[fact.manifest.name] = service
            service.latest = fact.revision
            service.revisions[fact.revision] = fact.manifest
        case CodeLoaded():
            state.services[fact.service].loaded[fact.revision] = fact.link
        case LinkClosed():
            for service in state.services.values():
                service.loaded = {r: k for r, k in service.loaded.items() if k != fact.link}
        case PromiseCompleted():
            _object(state, fact.object).promises[fact.promise] = _stored(fact.result, lsn)
            state.objects[fact.object].promise_waiters.pop(fact.promise, None)
        case StateRestored():
            _object(state, fact.object).state = dict(fact.entries)
        case InvocationCreated():
            _create(state, lsn, at_ms, fact)
        case InvocationPurged():
            _purge(state, fact)
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
    | InvocationCompleted,
) -> None:
    match fact:
        case InvocationPending():
            inv.status = "pending"
            _object_of(state, inv).inbox.append(inv.id)
        case InvocationReadied():
            _take_lock(state, inv)
            _leave_pause(inv)
            inv.status, inv.next_retry_at_ms = "ready", None
        case InvocationMoved():
            inv.revision = fact.revision
        case AttemptStarted():
            _take_lock(state, inv)
            inv.status, inv.attempt, inv.link = "running", fact.attempt, fact.link
            inv.revision = fact.revision
            _leave_pause(inv)
            inv.next_retry_at_ms, inv.waiting_for = None, None
        case EntryAppended():
            assert fact.entry_index == inv.entry_count, (fact, inv)
            inv.entry_count += 1
            inv.failure_count = 0
            _append(state, inv, lsn, fact)
        case NotificationAppended():
            assert fact.entry_index == inv.entry_count, (fact, inv)
            inv.entry_count += 1
            inv.notification_count += 1
            _notify(inv, fact)
        case RunAttemptFailed():
            inv.failed_runs[fact.completion_id] = FailedRuns(
                fact.failure_count, fact.first_failed_at_ms, fact.next_retry_at_ms
            )
            inv.last_error = fact.error
        case AttemptFailed():
            inv.status, inv.link = "backing-off", None
            inv.failure_count, inv.last_error = fact.failure_count, fact.error
            inv.next_retry_at_ms = fact.next_retry_at_ms
        case AttemptLost():
            inv.status, inv.link = "ready", None
        case InvocationSuspended():
            inv.status, inv.link, inv.waiting_for = "suspended", None, fact.waiting_for
        case InvocationPaused():
            inv.status, inv.link, inv.paused_by = "paused", None, fact.by
            inv.next_retry_at_ms = None
        case InvocationCompleted():
            _complete(state, inv, lsn, at_ms, fact)
        case _:
            assert_never(fact)


def _start_epoch(state: EngineState, fact: EpochStarted) -> None:
    """Whatever ran, ran in a process that is gone: it is ready for its next attempt."""
    state.epoch = fact.epoch
    for service in state.services.values():
        service.loaded.clear()
    for inv in state.live():
        if inv.status == "running":
            inv.status, inv.link = "ready", None


def _create(state: EngineState, lsn: int, at_ms: int, fact: InvocationCreated) -> None:
    inv = Invocation(
        id=fact.invocation_id,
        target=fact.target,
        status=fact.status,
        argument=msgspec.structs.replace(fact.argument, lsn=lsn),
        seed=fact.seed,
        service_type=fact.service_type,
        handler_type=fact.handler_type,
        headers=fact.headers,
        idempotency_key=fact.idempotency_key,
        caller=fact.caller,
        start_at_ms=fact.start_at_ms,
        created_at_ms=at_ms,
        modified_at_ms=at_ms,
        first_lsn=lsn,
        last_lsn=lsn,
    )
    state.invocations[inv.id] = inv
    match fact.status:
        case "pending":
            _object_of(state, inv).inbox.append(inv.id)
        case "ready":
            _take_lock(state, inv)
        case "scheduled":
            pass


def _take_lock(state: EngineState, inv: Invocation) -> None:
    if not inv.exclusive:
        return
    held = _object_of(state, inv)
    assert held.holder in (None, inv.id), f"{inv} takes a lock that {held.holder} holds"
    held.holder = inv.id
    if inv.status == "pending":
        assert held.inbox[0] == inv.id, f"{inv} jumps the queue"
        held.inbox.popleft()


def _leave_pause(inv: Invocation) -> None:
    """Whoever resumes it gives it all its attempts again."""
    if inv.status == "paused" or inv.paused_by is not None:
        inv.paused_by, inv.failure_count = None, 0


def _append(state: EngineState, inv: Invocation, lsn: int, fact: EntryAppended) -> None:
    command: Command = fact.command
    match command:
        case RunCommand():
            inv.open_runs[command.completion_id] = command.name or ""
        case SleepCommand():
            inv.sleeping[command.completion_id] = command.wake_up_at_ms
        case CallCommand():
            inv.open_calls[command.completion_id] = command.invocation_id
            callee = state.invocations.get(command.invocation_id)
            # Only an idempotent call latches on to a callee that somebody else began.
            if callee is not None and callee.result is None and command.idempotency_key is not None:
                callee.waiters.append(Waiter(inv.id, inv.seed, command.completion_id, "Call"))
        case AttachInvocationCommand():
            inv.open_calls[command.completion_id] = command.invocation_id
            target = state.invocations.get(command.invocation_id)
            if target is not None and target.status != "completed":
                target.waiters.append(
                    Waiter(inv.id, inv.seed, command.completion_id, "AttachInvocation")
                )
        case AwakeableCommand():
            # Its id may have been used before the command that made it was committed.
            if SignalLeaf(id=command.signal_id) not in inv.known:
                inv.open_awakeables.add(command.signal_id)
        case GetPromiseCommand():
            held = _object_of(state, inv)
            if command.key not in held.promises:
                inv.open_promises[command.completion_id] = command.key
                waiter = Waiter(inv.id, inv.seed, command.completion_id, "GetPromise")
                held.promise_waiters.setdefault(command.key, []).append(waiter)
        case SetStateCommand():
            assert fact.object is not None
            ref = msgspec.structs.replace(command.value, lsn=lsn)
            _object(state, fact.object).state[command.key] = ref
        case ClearStateCommand():
            assert fact.object is not None
            _object(state, fact.object).state.pop(command.key, None)
        case ClearAllStateCommand():
            assert fact.object is not None
            _object(state, fact.object).state.clear()
        case _:
            pass


def _notify(inv: Invocation, fact: NotificationAppended) -> None:
    leaf = leaf_of(fact.notification)
    inv.known.add(leaf)
    if isinstance(leaf, SignalLeaf):
        inv.open_awakeables.discard(leaf.id)
        return
    for pending in (inv.sleeping, inv.open_calls, inv.open_promises, inv.open_runs):
        pending.pop(leaf.id, None)
    inv.failed_runs.pop(leaf.id, None)


def _complete(
    state: EngineState, inv: Invocation, lsn: int, at_ms: int, fact: InvocationCompleted
) -> None:
    obj = state.objects.get(inv.object) if inv.object is not None else None
    if obj is not None:
        if obj.holder == inv.id:
            obj.holder = None
        elif inv.status == "pending":
            obj.inbox.remove(inv.id)
        for promise in set(inv.open_promises.values()):
            waiters = [w for w in obj.promise_waiters.get(promise, ()) if w.invocation_id != inv.id]
            if waiters:
                obj.promise_waiters[promise] = waiters
            else:
                obj.promise_waiters.pop(promise, None)
    # Recovery does not read the journal of a finished invocation, so it must leave no trace.
    for awaited in set(inv.open_calls.values()):
        callee = state.invocations.get(awaited)
        if callee is not None:
            callee.waiters = [w for w in callee.waiters if w.invocation_id != inv.id]
    inv.entry_count, inv.notification_count, inv.failure_count = fact.entry_count, 0, 0
    inv.status, inv.link, inv.next_retry_at_ms, inv.waiting_for = "completed", None, None, None
    inv.result, inv.completed_by = _stored(fact.result, lsn), fact.by
    # Recovery knows no more of it than its creation and this fact.
    inv.attempt, inv.revision = fact.attempt, fact.revision
    inv.last_error, inv.paused_by = None, None
    inv.completed_at_ms = at_ms
    for finished in (inv.known, inv.sleeping, inv.failed_runs, inv.open_runs, inv.open_calls):
        finished.clear()
    inv.open_promises.clear()
    inv.open_awakeables.clear()
    inv.waiters.clear()
    _forget_if_empty(state, inv.object)


def _purge(state: EngineState, fact: InvocationPurged) -> None:
    del state.invocations[fact.invocation_id]
    if fact.object is not None:
        obj = state.objects.get(fact.object)
        if obj is not None:
            obj.state.clear()
            obj.promises.clear()
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


def _stored(result: Result, lsn: int) -> Result:
    match result:
        case Success(value=ref):
            return Success(value=msgspec.structs.replace(ref, lsn=lsn))
        case failure:
            return failure
