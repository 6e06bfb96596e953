"""All that one attempt needs, put together from the state and the vault."""

from __future__ import annotations

from nbdurable.core.facts import (
    AttemptStarted,
    EntryAppended,
    InvocationCreated,
    NotificationAppended,
)
from nbdurable.core.journal import AttemptStart, FailedRun, JournalEntry
from nbdurable.core.limits import IDLE_MS_MAX
from nbdurable.core.state import EngineState, Invocation
from nbdurable.engine.vault import Vault


def attempt_start(state: EngineState, inv: Invocation, vault: Vault) -> AttemptStart:
    handler = state.handler(inv.target, inv.revision)
    assert handler is not None, f"{inv} was started without a handler"
    assert inv.revision is not None, f"{inv} was started without a revision"
    settings = state.settings
    # It holds a slot that those it waits for may need.
    has_slots = bool(settings.limits) or inv.link in state.slots
    idle_ms_max = IDLE_MS_MAX if has_slots else settings.inactivity_ms_of(handler)
    argument = b""
    journal: list[JournalEntry] = []
    copied_count, has_begun = 0, False
    for _, _, fact, payload in vault.journal(inv):
        held = payload if isinstance(payload, bytes) else None
        match fact:
            case AttemptStarted():
                has_begun = True
            case EntryAppended():
                copied_count += not has_begun
                journal.append(JournalEntry(fact.entry_index, fact.command, held))
            case NotificationAppended():
                journal.append(JournalEntry(fact.entry_index, fact.notification, held))
            case InvocationCreated():
                argument = held or b""
            case _:
                pass
    return AttemptStart(
        epoch=state.epoch,
        invocation_id=inv.id,
        attempt=inv.attempt,
        target=inv.target,
        revision=inv.revision,
        argument=argument,
        headers=inv.headers,
        idempotency_key=inv.idempotency_key,
        seed=inv.seed,
        keyed=handler.keyed,
        inactivity_timeout_ms=min(settings.inactivity_ms_of(handler), idle_ms_max),
        abort_timeout_ms=settings.abort_ms_of(handler),
        journal=tuple(journal),
        state=_state_of(state, inv, vault),
        failed_runs=tuple(
            FailedRun(completion_id, run.failed.next_retry_at_ms)
            for completion_id, run in inv.open_runs.items()
            if run.failed is not None
        ),
        copied_count=copied_count,
        accepted=inv.accepted,
        limit_key=inv.limit_key,
        runs=_runs_of(state),
    )


def _runs_of(state: EngineState) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, handler.name)
        for name, service in state.services.items()
        if service.manifest.type == "workflow"
        for handler in service.manifest.handlers
        if handler.type == "workflow"
    )


def _state_of(state: EngineState, inv: Invocation, vault: Vault) -> dict[str, bytes]:
    """All state of the key, as of the attempt's start: what Restate calls eager state."""
    obj = None if inv.object is None else state.objects.get(inv.object)
    if obj is None:
        return {}
    held = {name: ref.lsn for name, ref in obj.state.items() if ref.bytes}
    values = dict(zip(held, vault.payloads(list(held.values())), strict=True))
    return {name: values.get(name, b"") for name in obj.state}
