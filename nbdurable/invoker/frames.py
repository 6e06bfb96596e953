"""What travels over an attached link: frozen values, one to a message, as MessagePack.

Up go proposals, questions and what attempts did; down come orders and answers. Payloads are bytes
that neither end looks into here, and nothing is ever unpickled.

What an attempt did names its epoch, invocation and attempt, and is stale unless these are the live
ones. Down, order says the same: all that is for an attempt comes between its start and its stop.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from nbdurable.core.commands import payload_ref
from nbdurable.core.ids import InvocationId, digest_of
from nbdurable.core.journal import AttemptStart, FailedRun, JournalEntry
from nbdurable.core.proposals import (
    AcceptMismatch,
    AnyStep,
    AppendCommand,
    AttemptSteps,
    CancelInvocation,
    CleanUp,
    CompleteAwakeable,
    CompletePromise,
    CompleteRun,
    EditState,
    FailAttempt,
    Invoke,
    KillInvocation,
    LoadCode,
    PatchService,
    PauseInvocation,
    PurgeInvocation,
    PurgeJournal,
    RestartInvocation,
    ResumeInvocation,
    SendSignal,
)
from nbdurable.core.values import ErrorReport, PayloadRef, Result, Success

T = TypeVar("T")

# What an owner and an attached process must agree on. Another number is refused with a sentence.
PROTOCOL: Final = 1

# Epochs, timers and links are the owner's own affair.
ClientProposal = (
    Invoke
    | CompletePromise
    | EditState
    | PatchService
    | CompleteAwakeable
    | SendSignal
    | CancelInvocation
    | KillInvocation
    | PauseInvocation
    | ResumeInvocation
    | AcceptMismatch
    | RestartInvocation
    | PurgeInvocation
    | PurgeJournal
    | CleanUp
    | LoadCode
)


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True, gc=False):
    pass


# -- up: from the attached process to the owner -------------------------------------------------


class Hello(Frame, frozen=True, kw_only=True):
    """The first frame. `slots` is how many attempts may run here at once; None sets no bound."""

    protocol: int
    version: str
    pid: int
    program: str
    slots: int | None = None


class Did(Frame, frozen=True, kw_only=True):
    """What an attempt did: AttemptSteps. Not answered; one that is stale is stopped."""

    steps: msgspec.Raw


class Propose(Frame, frozen=True, kw_only=True):
    """`proposal` is a ClientProposal, unless somebody gave it a number for a text."""

    id: int
    proposal: msgspec.Raw


class Ask(Frame, frozen=True, kw_only=True):
    """`question` is one of the client's, which is not known in this room."""

    id: int
    question: msgspec.Raw


class Query(Frame, frozen=True, kw_only=True):
    """`question` is a SELECT and its parameters, as the body of `POST /query`."""

    id: int
    question: bytes
    time_ms: int
    rows_max: int
    bytes_max: int


class Attach(Frame, frozen=True, kw_only=True):
    id: int
    invocation_id: InvocationId


class Watch(Frame, frozen=True, kw_only=True):
    """A question that is answered again and again, until it is left."""

    id: int
    question: msgspec.Raw


class Leave(Frame, frozen=True, kw_only=True):
    """Nobody waits for this answer any more."""

    id: int


Up = Hello | Did | Propose | Ask | Query | Attach | Watch | Leave


# -- down: from the owner to the attached process -----------------------------------------------


class Welcome(Frame, frozen=True, kw_only=True):
    """The answer to Hello. `link` is what the journal calls this connection."""

    epoch: int
    link: str


class AssignRevision(Frame, frozen=True, kw_only=True):
    service: str
    digest: str
    revision: int


class StartAttempt(Frame, frozen=True, kw_only=True):
    start: AttemptStart


class Deliver(Frame, frozen=True, kw_only=True):
    invocation_id: InvocationId
    attempt: int
    entries: tuple[JournalEntry, ...]


class RetryRun(Frame, frozen=True, kw_only=True):
    invocation_id: InvocationId
    attempt: int
    failed: FailedRun


class StopAttempt(Frame, frozen=True, kw_only=True):
    invocation_id: InvocationId
    attempt: int
    why: str


class StopAll(Frame, frozen=True, kw_only=True):
    why: str


class Told(Frame, frozen=True, kw_only=True):
    """What was answered; whoever asked knows its type."""

    id: int
    value: msgspec.Raw


class Raised(Frame, frozen=True, kw_only=True):
    """An exception instead of an answer: the name of its class, and what it says."""

    id: int
    name: str
    message: str
    status: int


Order = AssignRevision | StartAttempt | Deliver | RetryRun | StopAttempt | StopAll
Reply = Told | Raised
Down = Welcome | Order | Reply

# Of the owner's admin address.
LINK_PATH: Final = "/nbdurable/link"

encode: Final = msgspec.msgpack.Encoder().encode
_up: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(Up)
_proposal: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(ClientProposal)
_steps = msgspec.msgpack.Decoder(AttemptSteps)
_down: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(Down)


def decode_up(message: bytes) -> Up:
    """Raises MsgspecError for what is none."""
    frame: Up = decoded(_up, message)
    return frame


def decode_steps(message: msgspec.Raw) -> AttemptSteps:
    """Steps that the journal could not hold end their attempt, as those of this process do.

    Raises:
        MsgspecError: Nobody can say whose they are.
    """
    try:
        steps: AttemptSteps = decoded(_steps, message)
        for step in steps.steps:
            _check_step(step)
        return steps
    except msgspec.ValidationError as error:
        whose = decoded(_whose, message)
        report = ErrorReport(
            code=400, message=f"it cannot be recorded: {error}", heals_by_retry=False
        )
        return AttemptSteps(
            epoch=whose.epoch,
            invocation_id=whose.invocation_id,
            seed=whose.seed,
            attempt=whose.attempt,
            steps=(FailAttempt(error=report),),
        )


class _Whose(msgspec.Struct):
    epoch: int
    invocation_id: InvocationId
    seed: int
    attempt: int


_whose: Final = msgspec.msgpack.Decoder(_Whose)


def decode_proposal(message: msgspec.Raw) -> ClientProposal:
    """Raises MsgspecError for what is none."""
    proposal: ClientProposal = decoded(_proposal, message)
    match proposal:
        case Invoke(argument=ref, payload=payload):
            _check(ref, payload)
        case CompletePromise() | CompleteAwakeable() | SendSignal():
            _check(_of(proposal.result), proposal.payload)
        case EditState(values=values):
            for value in values:
                _check(value.value, value.payload)
        case _:
            pass
    return proposal


def _check_step(step: AnyStep) -> None:
    match step:
        case AppendCommand(command=command, payload=payload):
            _check(payload_ref(command), payload)
        case CompleteRun(result=result, payload=payload):
            _check(_of(result), payload)
        case _:
            pass


def _of(result: Result) -> PayloadRef | None:
    return result.value if isinstance(result, Success) else None


def _check(ref: PayloadRef | None, payload: bytes | None) -> None:
    """What is recorded of a payload is true of the one beside it: it is looked for by that later.

    Raises:
        ValidationError: It is not.
    """
    if ref is None or payload is None:
        is_so = ref is None and not payload
    else:
        is_so = (ref.bytes, ref.digest, ref.lsn) == (len(payload), digest_of(payload), 0)
    if not is_so:
        raise msgspec.ValidationError("its payload is not the one that it describes")


def decode_down(message: bytes) -> Down:
    """Raises MsgspecError for what is none."""
    frame: Down = decoded(_down, message)
    return frame


def decoded(decoder: msgspec.msgpack.Decoder[T], message: bytes | msgspec.Raw) -> T:
    """Raises MsgspecError for what is none, also where msgspec itself raises something else."""
    try:
        return decoder.decode(message)
    except RecursionError as error:
        raise msgspec.DecodeError("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"a text of it is no UTF-8: {error}") from error
