"""The state of the engine: what it knows, and of whom.

Mutable, and owned by the engine thread; changed by `evolve` only. It holds no payloads and no
finished journals: of an invocation it knows what is needed to decide, which for a finished one is
its result.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import msgspec

from nbdurable.core.facts import Caller, Completed
from nbdurable.core.few import Few
from nbdurable.core.futures import Completion, FutureTree, Leaf, NamedSignal, Outcome, Signal, Watch
from nbdurable.core.ids import InvocationId
from nbdurable.core.limits import counters
from nbdurable.core.manifest import HandlerManifest, ServiceManifest
from nbdurable.core.settings import DEFAULT_SETTINGS, Settings
from nbdurable.core.values import (
    Answered,
    ErrorReport,
    HandlerType,
    ObjectId,
    PayloadRef,
    Result,
    ServiceType,
    Target,
)

Status = Literal[
    "scheduled", "pending", "ready", "running", "backing-off", "suspended", "paused", "completed"
]

# In place of headers, which few have. Never changed: many share it.
NO_HEADERS: Final[dict[str, str]] = {}


class Small(msgspec.Struct, frozen=True, gc=False):
    """Less than a tuple takes, because the collector does not know of it."""


class Bucket(NamedTuple):
    """What an attempt needs: code that can be run, and slots under the limits."""

    service: str
    handler: str
    revision: int | None
    scope: str | None
    limit_key: str | None


class Waiter(Small, frozen=True):
    """The future of a command, of one life of an invocation, that gets somebody else's result."""

    invocation_id: InvocationId
    seed: int
    completion_id: int
    of: str


class FailedRuns(NamedTuple):
    failure_count: int
    first_failed_at_ms: int
    next_retry_at_ms: int


# What a command waits for, from its entry to its completion.


class OpenRun(Small, frozen=True):
    name: str
    failed: FailedRuns | None = None


class OpenSleep(Small, frozen=True):
    wake_up_at_ms: int


class OpenCall(Small, frozen=True):
    """Of a call, or an attachment: the invocation whose result it gets."""

    invocation_id: InvocationId
    of: str = "Call"


class OpenPromise(Small, frozen=True):
    key: str


Open = OpenRun | OpenSleep | OpenCall | OpenPromise


@dataclass(slots=True)
class Invocation:
    """Mutable; owned by the engine thread, changed by `evolve` only.

    Thousands sleep in memory for days, so what few have is None or shared until it is needed, and
    of completions only the open and the failed ones are remembered: the others have succeeded.

    Attributes:
        open: By completion id, what has no result yet.
        awaited: Awakeables and named signals that were asked for and have not come.
        heard: Outcomes of the signals that came, and of the completions that failed.
        watch: What a suspended one waits for; None when it waits for nothing we know of.
    """

    id: InvocationId
    target: Target
    status: Status
    seed: int
    service_type: ServiceType
    handler_type: HandlerType | None
    headers: dict[str, str]
    idempotency_key: str | None
    limit_key: str | None
    caller: Caller | None
    start_at_ms: int | None
    created_at_ms: int
    modified_at_ms: int
    first_lsn: int
    last_lsn: int
    completion_retention_ms: int | None = None
    journal_retention_ms: int | None = None
    restarted_from: InvocationId | None = None
    home: str | None = None
    entry_count: int = 1
    notification_count: int = 0
    completion_count: int = 0
    attempt: int = 0
    link: str | None = None
    revision: int | None = None
    paused_by: str | None = None
    failure_count: int = 0
    next_retry_at_ms: int | None = None
    last_error: ErrorReport | None = None
    accepted: tuple[int, ...] = ()
    output_bytes: int = 0
    watch: Watch | None = None
    open: Few[int, Open] = field(default_factory=Few)
    awaited: Few[Leaf, None] | None = None
    heard: Few[Leaf, bool] | None = None
    signal_counts: Few[str, int] | None = None
    waiters: Few[Waiter, None] | None = None

    def __repr__(self) -> str:
        return f"<Invocation {self.id} {self.target} {self.status}, {self.entry_count} entries>"

    @property
    def exclusive(self) -> bool:
        """Whether it needs its object's lock. A workflow's run does not: its id admits one."""
        return self.handler_type == "exclusive"

    @property
    def object(self) -> ObjectId | None:
        return self.target.object

    @property
    def bucket(self) -> Bucket:
        target = self.target
        return Bucket(target.service, target.handler, self.revision, target.scope, self.limit_key)

    @property
    def waiting_for(self) -> FutureTree | None:
        return None if self.watch is None else self.watch.tree

    @property
    def is_resumable(self) -> bool:
        """Whether a suspended invocation has what it waits for."""
        return self.watch is None or self.watch.outcome is not None

    def outcome_of(self, leaf: Leaf) -> Outcome:
        if self.heard is not None and leaf in self.heard:
            return self.heard[leaf]
        if isinstance(leaf, Completion) and leaf.id <= self.completion_count:
            return None if leaf.id in self.open else True
        return None

    def has_heard(self, leaf: Leaf) -> bool:
        return self.outcome_of(leaf) is not None

    # -- what is open, by kind ------------------------------------------------------------------

    @property
    def sleeping(self) -> dict[int, int]:
        return {c: o.wake_up_at_ms for c, o in self.open.items() if isinstance(o, OpenSleep)}

    @property
    def open_runs(self) -> dict[int, OpenRun]:
        return {c: o for c, o in self.open.items() if isinstance(o, OpenRun)}

    @property
    def open_calls(self) -> dict[int, InvocationId]:
        return {c: o.invocation_id for c, o in self.open.items() if isinstance(o, OpenCall)}

    @property
    def open_promises(self) -> dict[int, str]:
        return {c: o.key for c, o in self.open.items() if isinstance(o, OpenPromise)}

    @property
    def open_awakeables(self) -> list[int]:
        return [leaf.id for leaf in self.awaited or () if isinstance(leaf, Signal)]

    @property
    def open_signals(self) -> list[str]:
        return [leaf.name for leaf in self.awaited or () if isinstance(leaf, NamedSignal)]


@dataclass(slots=True)
class QueuedEdit:
    """All state that a key is to have once the lock is free.

    `behind` is the last of those who came before it: the end of the queue, or the holder.
    """

    behind: InvocationId
    values: dict[str, PayloadRef] = field(default_factory=dict)


@dataclass(slots=True)
class ObjectState:
    """One key: who holds the lock, who queues for it, its state and its promises.

    `promise_waiters` keep the order in which they came, and so do `edits`, by the lsn of each.
    `written_at_ms` is never before a value was last set, and may be later: what is recovered
    remembers the write, not its time (see `fold`). So it is no part of what is compared.
    """

    holder: InvocationId | None = None
    inbox: deque[InvocationId] | None = None
    state: Few[str, PayloadRef] = field(default_factory=Few)
    written_at_ms: int = field(default=0, compare=False)
    promises: Few[str, Result] | None = None
    # Of those that somebody has completed who is known.
    answered: Few[str, Answered] | None = None
    promise_waiters: Few[str, Few[Waiter, None]] | None = None
    edits: dict[int, QueuedEdit] | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.state or self.promises or self.is_in_use)

    @property
    def is_in_use(self) -> bool:
        """Whether somebody holds it, or waits for it."""
        return bool(self.holder or self.inbox or self.promise_waiters or self.edits)

    def promise(self, key: str) -> Result | None:
        return None if self.promises is None else self.promises.get(key)

    def answered_by(self, promise: str) -> Answered | None:
        return None if self.answered is None else self.answered.get(promise)

    def waiters_for(self, promise: str) -> tuple[Waiter, ...]:
        return () if self.promise_waiters is None else tuple(self.promise_waiters.get(promise, ()))


@dataclass(slots=True)
class ServiceState:
    """Revisions are as they hold, with what was patched; see `offered`.

    `loaded` has, by revision, the links over which it can be run, in the order they offered it;
    `only` has the keys that a link runs, where these are not all.
    """

    latest: int
    revisions: dict[int, ServiceManifest]
    loaded: dict[int, tuple[str, ...]] = field(default_factory=dict)
    only: dict[str, tuple[str, ...]] = field(default_factory=dict)
    # The latest revision as it was registered, if it was patched since.
    offered: ServiceManifest | None = None
    registered_at_ms: dict[int, int] = field(default_factory=dict)

    @property
    def manifest(self) -> ServiceManifest:
        return self.revisions[self.latest]


@dataclass(slots=True)
class EngineState:
    """Mutable; owned by the engine thread, changed by `evolve` only.

    Attributes:
        invocations: Those that have not ended.
        completed: Those that have, until they are purged.
        ready: Those that want an attempt, in the order in which they came to want it; apart by
            what must be there for them, so that one look tells it of all that wait for the same.
        running: How many attempts run, by what limits count (see `limits.counters`).
        slots: How many attempts may run over a link, where that is bounded.
        occupied: How many do, by link.
    """

    epoch: int = 0
    last_lsn: int = 0
    services: dict[str, ServiceState] = field(default_factory=dict)
    invocations: dict[InvocationId, Invocation] = field(default_factory=dict)
    completed: dict[InvocationId, Completed] = field(default_factory=dict)
    objects: dict[ObjectId, ObjectState] = field(default_factory=dict)
    settings: Settings = DEFAULT_SETTINGS
    ready: dict[Bucket, dict[InvocationId, None]] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    occupied: dict[str, int] = field(default_factory=dict)

    def handler(self, target: Target, revision: int | None = None) -> HandlerManifest | None:
        service = self.services.get(target.service)
        if service is None:
            return None
        manifest = service.revisions.get(revision or service.latest, service.manifest)
        return manifest.handler(target.handler)

    def find(self, invocation_id: InvocationId) -> Invocation | Completed | None:
        return self.invocations.get(invocation_id) or self.completed.get(invocation_id)

    def live(self) -> list[Invocation]:
        """A copy: rules end some of them while they go through all."""
        return list(self.invocations.values())

    def links_for(self, inv: Invocation) -> list[str]:
        """Over which it could run now: its own revision, or the latest of one that never ran."""
        service = self.services.get(inv.target.service)
        if service is None:
            return []
        links = service.loaded.get(inv.revision or service.latest, ())
        if not service.only:
            return list(links)
        key = inv.target.key
        return [link for link in links if link not in service.only or key in service.only[link]]

    def free_link(self, inv: Invocation) -> str | None:
        """Of these, one that has a slot: where it was asked for, else where code came last."""
        free = [link for link in self.links_for(inv) if self._has_slot(link)]
        return inv.home if inv.home in free else free[-1] if free else None

    def _has_slot(self, link: str) -> bool:
        slots = self.slots.get(link)
        return slots is None or self.occupied.get(link, 0) < slots

    def is_full(self, inv: Invocation) -> bool:
        """Whether a limit keeps it from having an attempt now."""
        limits = self.settings.limits
        if not limits:
            return False
        for counter in counters(inv.target, inv.limit_key):
            bound = limits.of(counter)
            if bound is not None and self.running.get(counter, 0) >= bound:
                return True
        return False
