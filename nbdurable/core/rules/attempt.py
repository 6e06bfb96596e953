"""What an attempt did: commands, finished and failed steps, its suspension, its failure."""

from __future__ import annotations

from typing import assert_never

from nbdurable.core.actions import RetryRun
from nbdurable.core.commands import OutputCommand
from nbdurable.core.draft import Draft
from nbdurable.core.facts import (
    AttemptFailed,
    InvocationCompleted,
    InvocationPaused,
    InvocationSuspended,
    RunAttemptFailed,
)
from nbdurable.core.notifications import CompletionNotification
from nbdurable.core.proposals import (
    Answer,
    AppendCommand,
    AttemptSteps,
    CompleteRun,
    Done,
    FailAttempt,
    FailRun,
    Stale,
    Suspend,
    WriteOutput,
)
from nbdurable.core.rules.commands import append_command
from nbdurable.core.rules.output import write_output
from nbdurable.core.rules.progress import complete, notify, set_timer, terminal, wake
from nbdurable.core.state import Invocation, OpenRun
from nbdurable.core.values import ErrorReport


def attempt_steps(draft: Draft, proposal: AttemptSteps) -> Answer:
    """Fenced: only the live attempt of this epoch changes anything."""
    inv = draft.live(proposal.invocation_id)
    for step in proposal.steps:
        # Checked before every step, because a step may end the attempt that sent it.
        if inv is None or not _is_live(draft, inv, proposal):
            return Stale()
        match step:
            case AppendCommand(command=OutputCommand(result=result)):
                fact = InvocationCompleted(
                    invocation_id=inv.id,
                    result=result,
                    by="output",
                    attempt=inv.attempt,
                    revision=inv.revision,
                    entry_count=inv.entry_count + 1,
                    entry_index=inv.entry_count,
                )
                complete(draft, inv, fact, step.payload)
            case AppendCommand():
                error = append_command(draft, inv, step.command, step.payload)
                if error is not None:
                    draft.stop(inv, error.message)
                    fail_attempt(draft, inv, error)
            case CompleteRun():
                _complete_run(draft, inv, step)
            case FailRun():
                _fail_run(draft, inv, step)
            case FailAttempt():
                fail_attempt(draft, inv, step.error)
            case Suspend():
                _suspend(draft, inv, step)
            case WriteOutput():
                write_output(draft, inv, step)
            case _:
                assert_never(step)
    return Done()


def _is_live(draft: Draft, inv: Invocation, proposal: AttemptSteps) -> bool:
    return (
        proposal.epoch == draft.state.epoch
        and proposal.seed == inv.seed
        and inv.status == "running"
        and inv.attempt == proposal.attempt
    )


def _complete_run(draft: Draft, inv: Invocation, step: CompleteRun) -> None:
    """The record of a step is made once: a second result for it changes nothing."""
    if step.completion_id not in inv.open:
        return
    notification = CompletionNotification(
        completion_id=step.completion_id, of="Run", result=step.result
    )
    notify(draft, inv, notification, step.payload)


def _fail_run(draft: Draft, inv: Invocation, step: FailRun) -> None:
    """Back off and tell the attempt when to try again, or give up with a terminal error."""
    run = inv.open.get(step.completion_id)
    if not isinstance(run, OpenRun):
        return
    failed = run.failed
    count = 1 if failed is None else failed.failure_count + 1
    first_ms = draft.now_ms if failed is None else failed.first_failed_at_ms
    # A first run that alone took longer than all of them may is not repeated.
    elapsed_ms = step.took_ms if failed is None else draft.now_ms - first_ms
    if step.retry.gives_up(count, elapsed_ms):
        # Source: restate-http-observed.md – the message is the repr of the last exception.
        gave_up = CompleteRun(
            completion_id=step.completion_id, result=terminal(500, step.error.message)
        )
        _complete_run(draft, inv, gave_up)
        return
    retry_after_ms = step.error.retry_after_ms
    delay_ms = step.retry.delay_ms(count) if retry_after_ms is None else retry_after_ms
    at_ms = draft.now_ms + delay_ms
    draft.record(
        RunAttemptFailed(
            invocation_id=inv.id,
            completion_id=step.completion_id,
            failure_count=count,
            error=step.error,
            first_failed_at_ms=first_ms,
            next_retry_at_ms=at_ms,
        )
    )
    assert inv.link is not None
    draft.act(
        RetryRun(
            invocation_id=inv.id,
            attempt=inv.attempt,
            link=inv.link,
            completion_id=step.completion_id,
            at_ms=at_ms,
        )
    )


def fail_attempt(draft: Draft, inv: Invocation, error: ErrorReport) -> None:
    """Back off, or pause, or end: by the handler's policy, with a count that outlives us."""
    handler = draft.state.handler(inv.target, inv.revision)
    assert handler is not None, f"{inv} runs a handler that was never registered"
    policy, count = draft.state.settings.retry_of(handler), inv.failure_count + 1
    spent = policy.gives_up(count, 0)
    delay_ms = policy.delay_ms(count) if error.retry_after_ms is None else error.retry_after_ms
    backs_off = error.heals_by_retry and not spent
    next_retry_at_ms = draft.now_ms + delay_ms if backs_off else None
    draft.record(
        AttemptFailed(
            invocation_id=inv.id,
            attempt=inv.attempt,
            error=error,
            failure_count=count,
            next_retry_at_ms=next_retry_at_ms,
        )
    )
    if next_retry_at_ms is not None:
        set_timer(draft, inv, 0, next_retry_at_ms)
    elif error.heals_by_retry and policy.on_max_attempts == "kill":
        fact = InvocationCompleted(
            invocation_id=inv.id,
            result=terminal(500, error.message),
            by="retries",
            attempt=inv.attempt,
            revision=inv.revision,
            entry_count=inv.entry_count,
        )
        complete(draft, inv, fact)
    elif error.heals_by_retry:
        draft.record(InvocationPaused(invocation_id=inv.id, by="retries"))
    else:
        draft.record(InvocationPaused(invocation_id=inv.id, by="error"))


def _suspend(draft: Draft, inv: Invocation, step: Suspend) -> None:
    """The attempt is over; if anything has come that it did not see, the next begins at once."""
    draft.record(
        InvocationSuspended(invocation_id=inv.id, attempt=inv.attempt, waiting_for=step.waiting_for)
    )
    if inv.is_resumable or inv.notification_count > step.notification_count:
        wake(draft, inv, "what it waits for came as it suspended")
