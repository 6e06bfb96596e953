"""What travels over an attached link: frozen values, one to a message, as MessagePack.

Up go proposals, questions and what attempts did; down come orders and answers. Payloads are bytes
that neither end looks into here, and nothing is ever unpickled.

What an attempt did names its epoch, invocation and attempt, and is stale unless these are the live
ones. Down, order says the same: all that is for an attempt comes between its start and its stop.
"""

from __future__ import annotations

from typing import Final

import msgspec

from nbdurable.core.ids import InvocationId
from nbdurable.core.journal import AttemptStart, FailedRun, JournalEntry
from nbdurable.core.proposals import (
    AcceptMismatch,
    AttemptSteps,
    CancelInvocation,
    CleanUp,
    CompleteAwakeable,
    CompletePromise,
    EditState,
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
    """What an attempt did. It is not answered, unless it is stale: then the attempt is stopped."""

    steps: AttemptSteps


class Propose(Frame, frozen=True, kw_only=True):
    id: int
    proposal: ClientProposal


class Ask(Frame, frozen=True, kw_only=True):
    """`question` is one of the client's, which is not known in this room."""

    id: int
    question: msgspec.Raw


class Attach(Frame, frozen=True, kw_only=True):
    id: int
    invocation_id: InvocationId


class Watch(Frame, frozen=True, kw_only=True):
    """Answered again and again, until it is left."""

    id: int
    invocation_id: InvocationId


class Leave(Frame, frozen=True, kw_only=True):
    """Nobody waits for this answer any more."""

    id: int


Up = Hello | Did | Propose | Ask | Attach | Watch | Leave


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
_up = msgspec.msgpack.Decoder(Up)
_down = msgspec.msgpack.Decoder(Down)


def decode_up(message: bytes) -> Up:
    """Raises MsgspecError for what is none."""
    frame: Up = _up.decode(message)
    return frame


def decode_down(message: bytes) -> Down:
    """Raises MsgspecError for what is none."""
    frame: Down = _down.decode(message)
    return frame
