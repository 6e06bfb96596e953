"""The engine machine: `decide` turns a proposal into facts and actions; `resume` starts anew.

    proposal --decide--> facts --commit--> actions
                           |
                           +--evolve--> state --resume--> actions   (after a crash)

It owns the state. It never waits, never asks the time, never makes an id, never sees a payload.
Every rule is in `rules/`, one file per area; the table below says which.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from nbdurable.core.actions import AnyAction, SetTimer
from nbdurable.core.draft import Decision, Draft
from nbdurable.core.evolve import evolve
from nbdurable.core.facts import StateRestored
from nbdurable.core.proposals import (
    AcceptMismatch,
    Answer,
    AttemptSteps,
    CancelInvocation,
    CleanUp,
    CloseLink,
    CompleteAwakeable,
    CompletePromise,
    ConfigureEngine,
    EditState,
    Invoke,
    KillInvocation,
    LoadCode,
    OpenLink,
    PatchService,
    PauseInvocation,
    Proposal,
    PurgeInvocation,
    PurgeJournal,
    RestartInvocation,
    ResumeInvocation,
    SendSignal,
    StartEpoch,
    Timer,
    TimerFired,
)
from nbdurable.core.records import Record
from nbdurable.core.rules import (
    attempt,
    control,
    deployment,
    editing,
    external,
    invoke,
    patching,
    restart,
    retention,
)
from nbdurable.core.rules.limits import start_waiting
from nbdurable.core.state import EngineState

Rule = Callable[[Draft, Any], Answer]

RULES: Final[dict[type[Proposal], Rule]] = {
    Invoke: invoke.invoke,
    AttemptSteps: attempt.attempt_steps,
    TimerFired: external.timer_fired,
    CompletePromise: external.complete_promise_from_client,
    CompleteAwakeable: external.complete_awakeable,
    SendSignal: external.send_signal_from_client,
    CancelInvocation: control.cancel_invocation,
    KillInvocation: control.kill_invocation,
    PauseInvocation: control.pause_invocation,
    ResumeInvocation: control.resume_invocation,
    AcceptMismatch: control.accept_mismatch,
    RestartInvocation: restart.restart_invocation,
    PurgeInvocation: retention.purge_invocation,
    PurgeJournal: retention.purge_journal,
    CleanUp: retention.clean_up,
    EditState: editing.edit_state,
    PatchService: patching.patch_service,
    StartEpoch: deployment.start_epoch,
    ConfigureEngine: deployment.configure_engine,
    OpenLink: deployment.open_link,
    LoadCode: deployment.load_code,
    CloseLink: deployment.close_link,
}


class EngineMachine:
    """Mutable through its state; owned by the engine thread."""

    def __init__(self, state: EngineState | None = None) -> None:
        self.state = EngineState() if state is None else state

    def decide(self, proposal: Proposal, now_ms: int) -> Decision:
        """Decide one proposal. Its facts are already in the state; commit them before acting."""
        draft = Draft(self.state, now_ms)
        answer = RULES[type(proposal)](draft, proposal)
        start_waiting(draft)
        return Decision(draft.records, draft.actions, answer)

    def resume(self) -> list[AnyAction]:
        """All that is still to be done in this state: timers. Attempts begin as code is loaded."""
        return [
            SetTimer(timer=Timer(invocation_id=inv.id, completion_id=completion_id), at_ms=at_ms)
            for inv in self.state.live()
            for completion_id, at_ms in [
                *inv.sleeping.items(),
                *([(0, inv.start_at_ms)] if inv.status == "scheduled" and inv.start_at_ms else []),
                *([(0, inv.next_retry_at_ms)] if inv.next_retry_at_ms is not None else []),
            ]
        ]


def fold(records: Iterable[Record], states: Iterable[StateRestored] | None = None) -> EngineState:
    """The state that these facts made.

    A log that leaves out the journals of finished invocations does not say what they wrote into
    their objects: then `states` does, for all objects. When they did is taken from the first fact
    that is left from then on, so that nothing seems older than it is.
    """
    state = EngineState()
    lsns, times_ms = array("q"), array("q")
    for record in records:
        evolve(state, record.lsn, record.at_ms, record.fact)
        lsns.append(record.lsn)
        times_ms.append(record.at_ms)
    if states is None:
        return state
    for obj in state.objects.values():
        obj.state.clear()
    for restored in states:
        since = bisect_left(lsns, max(ref.lsn for ref in restored.entries.values()))
        written_at_ms = times_ms[since] if since < len(times_ms) else 0
        evolve(state, 0, 0, msgspec.structs.replace(restored, written_at_ms=written_at_ms))
    return state
