"""What people do to an invocation: cancel, kill, pause, resume, purge.

Source: restate-semantics.md, 1.5; restate-http-observed.md, "Admin" (codes and texts).
"""

from __future__ import annotations

from nbdurable.core.draft import Draft
from nbdurable.core.facts import Caller, InvocationCompleted, InvocationPaused, InvocationPurged
from nbdurable.core.ids import CANCEL_SIGNAL, InvocationId
from nbdurable.core.proposals import (
    Answer,
    CancelInvocation,
    Done,
    KillInvocation,
    PauseInvocation,
    PurgeInvocation,
    Refused,
    ResumeInvocation,
)
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
from nbdurable.core.values import ABANDONED

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
    if inv.status in ("paused", "backing-off", "suspended"):
        wake(draft, inv, "it was resumed")
        return Done()
    return Refused(code=409, message=f"it is {inv.status}, there is nothing to resume")


def purge_invocation(draft: Draft, proposal: PurgeInvocation) -> Answer:
    inv = draft.state.completed.get(proposal.invocation_id)
    if inv is None:
        return refuse_unended(draft, proposal.invocation_id)
    is_run = inv.handler_type == "workflow"
    draft.record(InvocationPurged(invocation_id=inv.id, object=inv.object if is_run else None))
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
