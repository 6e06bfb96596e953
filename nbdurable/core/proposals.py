"""Proposals: what somebody wants to happen. The engine answers each one, once, after the commit.

Bytes travel beside the refs that describe them, in fields named `payload`; the core hands them
on to the records and never looks inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from nbdurable.core.commands import AnyCommand
from nbdurable.core.facts import Caller
from nbdurable.core.futures import FutureTree
from nbdurable.core.ids import InvocationId
from nbdurable.core.manifest import ServiceManifest, ServicePatch
from nbdurable.core.restart import PrefixEntry
from nbdurable.core.settings import Settings
from nbdurable.core.values import (
    NOBODY,
    Answered,
    ErrorReport,
    ObjectId,
    OutputStream,
    PayloadRef,
    Result,
    RetryPolicy,
    Target,
    Value,
)


class Proposal(Value, frozen=True, kw_only=True, tag=True):
    pass


# -- from clients and timers ------------------------------------------------------------------


class Invoke(Proposal, frozen=True, kw_only=True):
    """Ids and seed are made by whoever asks, so that asking twice is asking once."""

    invocation_id: InvocationId
    seed: int
    target: Target
    argument: PayloadRef
    payload: bytes
    headers: Mapping[str, str] = {}
    idempotency_key: str | None = None
    limit_key: str | None = None
    start_at_ms: int | None = None
    caller: Caller | None = None
    # Where it is asked for and run rather than elsewhere, if its code is in both places.
    link: str | None = None


class CompletePromise(Proposal, frozen=True, kw_only=True):
    service: str
    key: str
    promise: str
    result: Result
    payload: bytes | None = None
    by: str = NOBODY
    scope: str | None = None
    comment: str | None = None

    @property
    def object(self) -> ObjectId:
        return ObjectId(service=self.service, key=self.key, scope=self.scope)


class StateValue(Value, frozen=True, kw_only=True):
    name: str
    value: PayloadRef
    payload: bytes


class EditState(Proposal, frozen=True, kw_only=True):
    """Give a key exactly this state, as soon as nobody holds its lock.

    `version` is that of the state the edit was made from; None edits whatever is there.
    """

    object: ObjectId
    values: tuple[StateValue, ...]
    version: str | None = None


class PatchService(Proposal, frozen=True, kw_only=True):
    service: str
    patch: ServicePatch


class CompleteAwakeable(Proposal, frozen=True, kw_only=True):
    awakeable_id: str
    result: Result
    payload: bytes | None = None
    answered: Answered | None = None


class SendSignal(Proposal, frozen=True, kw_only=True):
    """A value under a name, for whoever in that invocation waits for the next of this name."""

    invocation_id: InvocationId
    name: str
    result: Result
    payload: bytes | None = None


class CancelInvocation(Proposal, frozen=True, kw_only=True):
    invocation_id: InvocationId


class KillInvocation(Proposal, frozen=True, kw_only=True):
    invocation_id: InvocationId


class PauseInvocation(Proposal, frozen=True, kw_only=True):
    invocation_id: InvocationId


class ResumeInvocation(Proposal, frozen=True, kw_only=True):
    """On the revision it has, unless another (or the latest) is named."""

    invocation_id: InvocationId
    revision: int | Literal["keep", "latest"] = "keep"


class AcceptMismatch(Proposal, frozen=True, kw_only=True):
    """What is recorded stands for what the code asks now; go on behind it."""

    invocation_id: InvocationId


class RestartInvocation(Proposal, frozen=True, kw_only=True):
    """A new invocation with the input of a completed one, and perhaps the beginning of its journal.

    `seed` tells which life was read, `new_seed` and `new_invocation_id` are drawn by whoever asks.
    The prefix, what comes before `from_entry`, is read by the shell (see `restart.py`), for the
    core keeps no finished journals.
    """

    invocation_id: InvocationId
    seed: int
    new_invocation_id: InvocationId
    new_seed: int
    argument: PayloadRef
    headers: Mapping[str, str] = {}
    from_entry: int = 1
    prefix: tuple[PrefixEntry, ...] = ()
    revision: int | Literal["keep", "latest"] = "latest"


class PurgeInvocation(Proposal, frozen=True, kw_only=True):
    invocation_id: InvocationId


class PurgeJournal(Proposal, frozen=True, kw_only=True):
    """Forget what it did; that it was, and its result, stay."""

    invocation_id: InvocationId


class CleanUp(Proposal, frozen=True, kw_only=True):
    """Purge what has been kept for long enough, state too.

    One commit of some hundred facts is no stall.
    """

    purges_max: int = 500


class TimerFired(Proposal, frozen=True, kw_only=True):
    timer: Timer


class Timer(Value, frozen=True, kw_only=True):
    """One thing that becomes due. `completion_id` 0 is the invocation's own start or retry."""

    invocation_id: InvocationId
    completion_id: int = 0


# -- from links -------------------------------------------------------------------------------


class StartEpoch(Proposal, frozen=True, kw_only=True):
    owner: str
    version: str


class OpenLink(Proposal, frozen=True, kw_only=True):
    """`slots`: how many attempts may run over there at once; None sets no bound."""

    link: str
    slots: int | None = None


class LoadCode(Proposal, frozen=True, kw_only=True):
    """`pin` keeps every live invocation on the revision it has.

    `again`: it was loaded before the link or the epoch ended, so it is the revision that it was,
    and nothing moves to it. `keys`: what may be run over this link; None sets no bound.
    """

    link: str
    manifest: ServiceManifest
    pin: bool = False
    again: bool = False
    keys: tuple[str, ...] | None = None


class ConfigureEngine(Proposal, frozen=True, kw_only=True):
    settings: Settings


class CloseLink(Proposal, frozen=True, kw_only=True):
    link: str


# -- from attempts ----------------------------------------------------------------------------


class Step(Value, frozen=True, kw_only=True, tag=True):
    """One thing an attempt did. Several travel together and are committed together."""


class AppendCommand(Step, frozen=True, kw_only=True):
    command: AnyCommand
    payload: bytes | None = None


class CompleteRun(Step, frozen=True, kw_only=True):
    completion_id: int
    result: Result
    payload: bytes | None = None


class FailRun(Step, frozen=True, kw_only=True):
    """A step that has a retry policy of its own raised. Units: took_ms – of this one run."""

    completion_id: int
    error: ErrorReport
    retry: RetryPolicy
    took_ms: int = 0


class FailAttempt(Step, frozen=True, kw_only=True):
    error: ErrorReport


class Suspend(Step, frozen=True, kw_only=True):
    """`notification_count`: how many the attempt was given. The engine may know more by now."""

    waiting_for: FutureTree
    notification_count: int


class WriteOutput(Step, frozen=True, kw_only=True):
    """What the handler has printed, or the step with this `completion_id`."""

    stream: OutputStream
    payload: bytes
    completion_id: int | None = None


AnyStep = AppendCommand | CompleteRun | FailRun | FailAttempt | Suspend | WriteOutput


class AttemptSteps(Proposal, frozen=True, kw_only=True):
    """Of another epoch, life or attempt than the live one, it is `Stale` and changes nothing."""

    epoch: int
    invocation_id: InvocationId
    seed: int
    attempt: int
    steps: tuple[AnyStep, ...]


# -- answers ----------------------------------------------------------------------------------


class Answer(Value, frozen=True, kw_only=True, tag=True):
    pass


class Done(Answer, frozen=True, kw_only=True):
    pass


class Invoked(Answer, frozen=True, kw_only=True):
    """`existing` when the id was taken before: by the same key, or by the same workflow's run."""

    invocation_id: InvocationId
    existing: bool = False


class Loaded(Answer, frozen=True, kw_only=True):
    revision: int
    is_new: bool
    moved: tuple[InvocationId, ...] = ()
    staying: tuple[InvocationId, ...] = ()


class Cleaned(Answer, frozen=True, kw_only=True):
    """`is_done` is false when there was more than one decision should hold: ask again."""

    purged_count: int
    is_done: bool


class Refused(Answer, frozen=True, kw_only=True):
    """`code` is the HTTP status that says the same."""

    code: int
    message: str


class Stale(Answer, frozen=True, kw_only=True):
    pass
