"""Actions: orders to the shell, carried out after the commit of the facts they follow from.

Actions are never stored: `resume` computes again, from the state, all that is still to be done.
"""

from __future__ import annotations

from nbdurable.core.ids import InvocationId
from nbdurable.core.notifications import AnyNotification
from nbdurable.core.proposals import Timer
from nbdurable.core.values import Result, Value


class Action(Value, frozen=True, kw_only=True, tag=True):
    pass


class AssignRevision(Action, frozen=True, kw_only=True):
    """Tell the link which number the code it offered has. Before any attempt of it is started."""

    link: str
    service: str
    digest: str
    revision: int


class StartAttempt(Action, frozen=True, kw_only=True):
    invocation_id: InvocationId
    seed: int
    attempt: int
    link: str
    revision: int


class DeliverNotification(Action, frozen=True, kw_only=True):
    """The notification's payload, if it has one, is under `lsn`."""

    invocation_id: InvocationId
    attempt: int
    link: str
    lsn: int
    entry_index: int
    notification: AnyNotification


class RetryRun(Action, frozen=True, kw_only=True):
    """Tell the attempt when its failed step is to be tried again."""

    invocation_id: InvocationId
    attempt: int
    link: str
    completion_id: int
    at_ms: int


class StopAttempt(Action, frozen=True, kw_only=True):
    invocation_id: InvocationId
    attempt: int
    link: str
    why: str


class SetTimer(Action, frozen=True, kw_only=True):
    timer: Timer
    at_ms: int


class PublishResult(Action, frozen=True, kw_only=True):
    """The invocation is done: answer everyone who waits for it.

    The result goes along, its bytes under its lsn: by now the invocation may be purged.
    """

    invocation_id: InvocationId
    result: Result


AnyAction = (
    AssignRevision
    | StartAttempt
    | DeliverNotification
    | RetryRun
    | StopAttempt
    | SetTimer
    | PublishResult
)
