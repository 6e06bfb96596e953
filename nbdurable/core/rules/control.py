"""What people do to an invocation that has not ended: cancel, kill, pause, resume, accept.

Source: restate-semantics.md, 1.5; restate-http-observed.md, "Admin" (codes and texts).
"""

from __future__ import annotations

from nbdurable.core.draft import Draft
from nbdurable.core.facts import (
    Caller,
    InvocationCompleted,
    InvocationMoved,
    InvocationPaused,
    MismatchAccepted,
)
from nbdurable.core.ids import CANCEL_SIGNAL, InvocationId
from nbdurable.core.proposals import (
    AcceptMismatch,
    Answer,
    CancelInvocation,
    Done,
    KillInvocation,
    PauseInvocation,
    Refused,
    ResumeInvocation,
)
from nbdurable.core.rules.deployment import named_revision
from nbdurable.core.rules.progress import (
    VOID,
    complete,
    complete_future,
    refuse_ended,
    signal,
    terminal,
    wake,
)
from nbdurable.core.state import Invocation, Waiter
from nbdurable.core.values import ABANDONED, MISMATCH_CODE

_NOT_BEGUN = ("scheduled", "pending")


def cancel_invocation(draft: Draft, proposal: CancelInvocation) -> Answer:
    inv = draft.live(proposal.invocation_id)
    if inv is None:
        return refuse_ended(draft, proposal.invocation_id)
    cancel(draft, inv)
    return Done()


def cancel(draft: Draft, inv: Invocation) -> None:
    """Cooperative: the handler sees a terminal 409 at its await. What has not begun just ends."""
    if inv.attempt == 0:
        _end(draft, inv, "canceled", "cancelled")
        return
    signal(draft, inv, CANCEL_SIGNAL, VOID)
    # In the same commit: no attempt, whichever comes, runs again what the cancellation ended.
    for completion_id in list(inv.open_runs):
        abandoned = Waiter(inv.id, inv.seed, completion_id, "Run")
        complete_future(draft, abandoned, terminal(409, ABANDONED))
    if inv.status in ("paused", "backing-off"):
        wake(draft, inv, "it was cancelled")


def kill_invocation(draft: Draft, proposal: KillInvocation) -> Answer:
    inv = draft.live(proposal.invocation_id)
    if inv is None:
        return refuse_ended(draft, proposal.invocation_id)
    doomed = [inv]
    while doomed:
        inv = doomed.pop()
        doomed += _called_children(draft, inv)
        draft.stop(inv, "it was killed")
        _end(draft, inv, "killed", "killed")
    return Done()


def _called_children(draft: Draft, inv: Invocation) -> list[Invocation]:
    """Called children die with it; sends live on (design, section 6.10).

    What it attached to or latched on to is not its child, though it waits for it.
    """
    called = []
    for completion_id, child_id in inv.open_calls.items():
        caller = Caller(invocation_id=inv.id, seed=inv.seed, completion_id=completion_id)
        child = draft.live(child_id)
        if child is not None and child.caller == caller:
            called.append(child)
    return called


def pause_invocation(draft: Draft, proposal: PauseInvocation) -> Answer:
    inv = draft.live(proposal.invocation_id)
    if inv is None:
        return refuse_ended(draft, proposal.invocation_id)
    if inv.status == "paused":
        return Done()
    if inv.status in _NOT_BEGUN:
        return Refused(code=409, message=f"it is {inv.status}, there is nothing to pause yet")
    draft.stop(inv, "it was paused")
    draft.record(InvocationPaused(invocation_id=inv.id, by="user"))
    return Done()


def resume_invocation(draft: Draft, proposal: ResumeInvocation) -> Answer:
    inv = draft.live(proposal.invocation_id)
    if inv is None:
        return refuse_ended(draft, proposal.invocation_id)
    revision = named_revision(draft, inv.target, inv.revision, proposal.revision)
    if isinstance(revision, Refused):
        return revision
    if inv.status in ("paused", "backing-off", "suspended"):
        if revision is not None and revision != inv.revision:
            draft.record(InvocationMoved(invocation_id=inv.id, revision=revision))
        wake(draft, inv, "it was resumed")
        return Done()
    return Refused(code=409, message=f"it is {inv.status}, there is nothing to resume")


def accept_mismatch(draft: Draft, proposal: AcceptMismatch) -> Answer:
    """The recorded result stands for what the code asks now; only of the same kind of entry."""
    inv = draft.live(proposal.invocation_id)
    if inv is None:
        return refuse_ended(draft, proposal.invocation_id)
    error = inv.last_error
    if inv.status != "paused" or error is None or error.code != MISMATCH_CODE:
        return Refused(code=409, message="it is not paused by a journal mismatch")
    if error.command_index is None or not error.can_accept:
        return Refused(
            code=409,
            message="this mismatch cannot be accepted, because nothing recorded could stand for"
            " what the code asks. Resume it on an earlier revision, or end it and start it anew.",
        )
    draft.record(MismatchAccepted(invocation_id=inv.id, command_index=error.command_index))
    wake(draft, inv, "its mismatch was accepted")
    return Done()


def _end(draft: Draft, inv: Invocation, message: str, by: str) -> None:
    assert by in ("killed", "cancelled")
    fact = InvocationCompleted(
        invocation_id=inv.id,
        result=terminal(409, message),
        by="killed" if by == "killed" else "cancelled",
        attempt=inv.attempt,
        revision=inv.revision,
        entry_count=inv.entry_count,
    )
    complete(draft, inv, fact)


def refuse_unended(draft: Draft, invocation_id: InvocationId) -> Refused:
    """Why what is for completed invocations cannot be done to this one."""
    if invocation_id in draft.state.invocations:
        return Refused(code=409, message=f"The invocation '{invocation_id}' is not yet completed.")
    return refuse_ended(draft, invocation_id)
