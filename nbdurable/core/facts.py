"""Facts: what has happened. The log holds these and nothing else, and folding them is the state.

A fact is in one of three scopes: an invocation, an object key, or the deployment. A fact is never
decided again: an upgrade of the rules changes what is decided from now on, not what was.

A file written by this version opens in every later one. So: never rename a fact or a field,
never change what one means; add a field with a default, or a new fact.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import msgspec

from nbdurable.core.commands import (
    AnyCommand,
    ClearAllStateCommand,
    SetStateCommand,
    payload_ref,
)
from nbdurable.core.futures import FutureTree
from nbdurable.core.ids import InvocationId
from nbdurable.core.manifest import ServiceManifest, ServicePatch
from nbdurable.core.notifications import AnyNotification, notified_payload
from nbdurable.core.settings import Settings
from nbdurable.core.values import (
    ErrorReport,
    HandlerType,
    ObjectId,
    OutputStream,
    PayloadRef,
    Result,
    ServiceType,
    Target,
    Value,
)


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True, gc=False):
    """Like a `Value`, but told from others by its tag."""


EndedBy = Literal["output", "killed", "cancelled", "retries"]


class InvocationFact(Fact, frozen=True, kw_only=True):
    invocation_id: InvocationId


# -- scope: the deployment --------------------------------------------------------------------


class EpochStarted(Fact, frozen=True, kw_only=True):
    """A process took the journal. Every attempt and link of an earlier epoch is gone."""

    epoch: int
    owner: str
    version: str


class ServiceRegistered(Fact, frozen=True, kw_only=True):
    manifest: ServiceManifest
    revision: int


class CodeLoaded(Fact, frozen=True, kw_only=True):
    """The code of this revision can be run over this link, until the link or the epoch ends.

    `keys`: of these only, because what it works with is there for them alone; None: of all.
    """

    link: str
    service: str
    revision: int
    keys: tuple[str, ...] | None = None


class LinkOpened(Fact, frozen=True, kw_only=True):
    """A process has joined that runs handlers; None: as many attempts at once as there are."""

    link: str
    slots: int | None = None


class ServicePatched(Fact, frozen=True, kw_only=True):
    """Options of the latest revision, changed by hand; the next revision brings its own."""

    service: str
    patch: ServicePatch


class LinkClosed(Fact, frozen=True, kw_only=True):
    link: str


class EngineConfigured(Fact, frozen=True, kw_only=True):
    """From now on these settings hold, in place of those before."""

    settings: Settings


# -- scope: an object key ---------------------------------------------------------------------


class PromiseCompleted(Fact, frozen=True, kw_only=True):
    object: ObjectId
    promise: str
    result: Result
    by: str
    comment: str | None = None


class StateEditQueued(Fact, frozen=True, kw_only=True):
    """Part of an edit of a key's state that waits, behind those who queue, for the lock.

    The first names no value and is the edit's beginning; one more for each value says with
    `edit_lsn` which edit it is of.
    """

    object: ObjectId
    edit_lsn: int = 0
    name: str | None = None
    value: PayloadRef | None = None


class StateEdited(Fact, frozen=True, kw_only=True):
    """Part of an edit of a key's state by hand: all is cleared first, then each value is set.

    It holds a command, so that whatever reads what handlers did to a key reads this too.
    `edit_lsn` is that of the queued edit which this is, if it had to wait.
    """

    object: ObjectId
    command: SetStateCommand | ClearAllStateCommand
    edit_lsn: int = 0


class StateRestored(Fact, frozen=True, kw_only=True):
    """All state of one object key, as the projection holds it. Read at recovery, never appended."""

    object: ObjectId
    entries: dict[str, PayloadRef]
    written_at_ms: int = 0


# -- scope: an invocation ---------------------------------------------------------------------


class Caller(Value, frozen=True, kw_only=True):
    """Whom the result goes to: the future of one command of another invocation.

    `seed` is that invocation's: it tells this life of the id from one after a purge.
    """

    invocation_id: InvocationId
    seed: int
    completion_id: int | None = None


class InvocationCreated(InvocationFact, frozen=True, kw_only=True):
    """Entry 0, `Command: Input`. `status` is where it begins.

    `seed` is drawn once and never again. A key that runs again after a purge has the same id, its
    attempts and completions count from 1 again, and only the seed tells the two lives apart.
    """

    target: Target
    argument: PayloadRef
    status: Literal["scheduled", "pending", "ready"]
    seed: int
    service_type: ServiceType
    handler_type: HandlerType | None = None
    headers: dict[str, str] = {}
    idempotency_key: str | None = None
    limit_key: str | None = None
    caller: Caller | None = None
    start_at_ms: int | None = None
    # How long after its end its result and its journal are kept; None: until somebody purges it.
    completion_retention_ms: int | None = None
    journal_retention_ms: int | None = None
    restarted_from: InvocationId | None = None
    # Over which it was asked for: it runs there if it can, because its caller looks on there.
    link: str | None = None


class InvocationPending(InvocationFact, frozen=True, kw_only=True):
    """It waits in the inbox of its object for the lock."""


class InvocationReadied(InvocationFact, frozen=True, kw_only=True):
    """It has the lock, if it needs one, and wants an attempt: its code or a slot is missing."""

    why: str


class InvocationMoved(InvocationFact, frozen=True, kw_only=True):
    """From now on it runs on this revision: its own failed, is loaded nowhere, or it was told."""

    revision: int


class AttemptStarted(InvocationFact, frozen=True, kw_only=True):
    attempt: int
    link: str
    revision: int


class EntryAppended(InvocationFact, frozen=True, kw_only=True):
    """`object` is set when the command changes the state of an object key."""

    entry_index: int
    command: AnyCommand
    object: ObjectId | None = None


class NotificationAppended(InvocationFact, frozen=True, kw_only=True):
    entry_index: int
    notification: AnyNotification


class RunAttemptFailed(InvocationFact, frozen=True, kw_only=True):
    """A step failed and will be tried again; the attempt lives on. The count is durable."""

    completion_id: int
    failure_count: int
    error: ErrorReport
    first_failed_at_ms: int
    next_retry_at_ms: int


class AttemptFailed(InvocationFact, frozen=True, kw_only=True):
    """`next_retry_at_ms` is None when the invocation does not back off: it pauses or ends."""

    attempt: int
    error: ErrorReport
    failure_count: int
    next_retry_at_ms: int | None = None


class AttemptLost(InvocationFact, frozen=True, kw_only=True):
    """The process that ran it is gone. Not counted against the retry policy."""

    attempt: int
    why: str


class InvocationSuspended(InvocationFact, frozen=True, kw_only=True):
    attempt: int
    waiting_for: FutureTree


class InvocationPaused(InvocationFact, frozen=True, kw_only=True):
    by: Literal["retries", "error", "user"]


class OutputWritten(InvocationFact, frozen=True, kw_only=True):
    """Something was printed when there were so many entries; by a step, if it has its id.

    After `is_last` more was printed, perhaps, and nothing more is recorded.
    """

    attempt: int
    entry_count: int
    stream: OutputStream
    value: PayloadRef
    completion_id: int | None = None
    is_last: bool = False


class MismatchAccepted(InvocationFact, frozen=True, kw_only=True):
    """Somebody has said: what is recorded for this command stands for what the code asks now."""

    command_index: int


class InvocationCompleted(InvocationFact, frozen=True, kw_only=True):
    """`by` output is `Command: Output` and has an entry index; the others come from outside."""

    result: Result
    by: EndedBy
    # With these and its creation, all that is known of it once its journal is not loaded.
    attempt: int
    revision: int | None
    # How long the journal was, this entry included: what is left of it once it is not loaded.
    entry_count: int
    entry_index: int | None = None


class Kept(Value, frozen=True, kw_only=True):
    """How long after its end a result and a journal are kept; None: until somebody purges it."""

    completion_ms: int | None = None
    journal_ms: int | None = None


@lru_cache
def kept_for(completion_ms: int | None, journal_ms: int | None) -> Kept:
    """One for all that are kept for as long."""
    return Kept(completion_ms=completion_ms, journal_ms=journal_ms)


class Completed(Value, frozen=True, kw_only=True):
    """What is kept of an invocation that has ended: some 600 bytes and its key, while retained.

    The rest is in its journal. All of it is in the facts by which it began and ended.
    """

    id: InvocationId
    target: Target
    seed: int
    service_type: ServiceType
    handler_type: HandlerType | None = None
    idempotency_key: str | None = None
    limit_key: str | None = None
    restarted_from: InvocationId | None = None
    attempt: int
    revision: int | None = None
    entry_count: int
    result: Result
    completed_by: EndedBy
    created_at_ms: int
    completed_at_ms: int
    kept: Kept = Kept()
    first_lsn: int
    last_lsn: int
    journal_purged: bool = False

    def __repr__(self) -> str:
        return f"<Completed {self.id} {self.target}, {self.entry_count} entries>"

    @property
    def object(self) -> ObjectId | None:
        return self.target.object

    @property
    def completion_retention_ms(self) -> int | None:
        return self.kept.completion_ms

    @property
    def journal_retention_ms(self) -> int | None:
        return self.kept.journal_ms

    @property
    def status(self) -> Literal["completed"]:
        return "completed"


class InvocationRestored(Fact, frozen=True, kw_only=True):
    """One that has ended, as the snapshot holds it. Read at recovery, never appended."""

    completed: Completed


class JournalPurged(InvocationFact, frozen=True, kw_only=True):
    """Its entries may go. That it was, and its result, are kept for a while longer."""


class InvocationPurged(InvocationFact, frozen=True, kw_only=True):
    """All facts of this invocation may go; with a workflow's run, its state and promises too.

    `object` names the workflow key whose state and promises go with it.
    """

    object: ObjectId | None = None


AnyFact = (
    EpochStarted
    | ServiceRegistered
    | CodeLoaded
    | LinkOpened
    | LinkClosed
    | ServicePatched
    | EngineConfigured
    | PromiseCompleted
    | StateEditQueued
    | StateEdited
    | StateRestored
    | InvocationCreated
    | InvocationPending
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
    | InvocationCompleted
    | InvocationRestored
    | JournalPurged
    | InvocationPurged
)


def carried_ref(fact: Fact) -> PayloadRef | None:
    """The payload this fact holds, if it holds one. At most one per fact, by construction."""
    match fact:
        case InvocationCreated():
            return fact.argument
        case EntryAppended() | StateEdited():
            return payload_ref(fact.command)
        case StateEditQueued() | OutputWritten():
            return fact.value
        case NotificationAppended():
            return notified_payload(fact.notification)
        case PromiseCompleted() | InvocationCompleted():
            return getattr(fact.result, "value", None)
        case _:
            return None
