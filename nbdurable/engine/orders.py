"""Carrying out what was decided for an attempt, over the link to where it runs."""

from __future__ import annotations

from nbdurable.core.actions import DeliverNotification, RetryRun, StartAttempt, StopAttempt
from nbdurable.core.journal import FailedRun, JournalEntry
from nbdurable.core.proposals import AttemptSteps, FailAttempt
from nbdurable.core.state import EngineState, Invocation
from nbdurable.core.values import ErrorReport, Failure
from nbdurable.engine.ports import Link
from nbdurable.engine.starts import attempt_start
from nbdurable.engine.vault import Vault
from nbdurable.errors import JournalDamagedError

Order = StartAttempt | DeliverNotification | RetryRun | StopAttempt


def give(link: Link, order: Order, state: EngineState, vault: Vault) -> AttemptSteps | None:
    """Give an order, or return what to propose instead.

    What cannot be read pauses who needs it, and names the file; nobody else is harmed.
    """
    invocation_id, attempt = order.invocation_id, order.attempt
    inv = state.invocations.get(invocation_id)
    match order:
        case StartAttempt():
            # A later decision of the same batch may have ended it before it began.
            running = ("running", attempt, order.seed)
            if inv is None or (inv.status, inv.attempt, inv.seed) != running:
                return None
            try:
                link.start_attempt(attempt_start(state, inv, vault))
            except JournalDamagedError as error:
                return _pause(state, inv, attempt, error)
        case DeliverNotification():
            try:
                payload = _payload_of(order, vault)
            except JournalDamagedError as error:
                # A later decision of the same batch may have begun another life.
                if inv is None or inv.first_lsn > order.lsn:
                    return None
                link.stop_attempt(invocation_id, attempt, "it waits for what is lost")
                return _pause(state, inv, attempt, error)
            entry = JournalEntry(order.entry_index, order.notification, payload)
            link.deliver(invocation_id, attempt, [entry])
        case RetryRun(completion_id=completion_id, at_ms=at_ms):
            link.retry_run(invocation_id, attempt, FailedRun(completion_id, at_ms))
        case StopAttempt(why=why):
            link.stop_attempt(invocation_id, attempt, why)
    return None


def _payload_of(delivery: DeliverNotification, vault: Vault) -> bytes | None:
    result = delivery.notification.result
    if isinstance(result, Failure) or not result.value.bytes:
        return None
    return vault.payload(delivery.lsn)


def _pause(
    state: EngineState, inv: Invocation, attempt: int, error: JournalDamagedError
) -> AttemptSteps:
    report = ErrorReport(
        code=500, message=str(error), type_name="JournalDamagedError", heals_by_retry=False
    )
    return AttemptSteps(
        epoch=state.epoch,
        invocation_id=inv.id,
        seed=inv.seed,
        attempt=attempt,
        steps=(FailAttempt(error=report),),
    )
