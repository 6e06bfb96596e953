"""How long what has ended is kept, and state that nobody writes to: by hand, and the cleaner.

Source: restate-semantics.md, 1.7 (retention) and 1.5 (purge, purge-journal).
"""

from __future__ import annotations

from nbdurable.core.commands import ClearAllStateCommand
from nbdurable.core.draft import Draft
from nbdurable.core.facts import Completed, InvocationPurged, JournalPurged, StateEdited
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import (
    Answer,
    Cleaned,
    CleanUp,
    Done,
    PurgeInvocation,
    PurgeJournal,
)
from nbdurable.core.rules.control import refuse_unended
from nbdurable.core.values import ObjectId


def purge_invocation(draft: Draft, proposal: PurgeInvocation) -> Answer:
    inv = draft.state.completed.get(proposal.invocation_id)
    if inv is None:
        return refuse_unended(draft, proposal.invocation_id)
    _purge(draft, inv)
    return Done()


def purge_journal(draft: Draft, proposal: PurgeJournal) -> Answer:
    inv = draft.state.completed.get(proposal.invocation_id)
    if inv is None:
        return refuse_unended(draft, proposal.invocation_id)
    if not inv.journal_purged:
        draft.record(JournalPurged(invocation_id=inv.id))
    return Done()


def clean_up(draft: Draft, proposal: CleanUp) -> Answer:
    purged_count = 0
    for inv in list(draft.state.completed.values()):
        if purged_count == proposal.purges_max:
            return Cleaned(purged_count=purged_count, is_done=False)
        age_ms = draft.now_ms - inv.completed_at_ms
        if _is_over(inv.completion_retention_ms, age_ms):
            _purge(draft, inv)
            purged_count += 1
        elif not inv.journal_purged and _is_over(inv.journal_retention_ms, age_ms):
            draft.record(JournalPurged(invocation_id=inv.id))
            purged_count += 1
    for object_id in _forgotten(draft):
        if purged_count == proposal.purges_max:
            return Cleaned(purged_count=purged_count, is_done=False)
        draft.record(StateEdited(object=object_id, command=ClearAllStateCommand()))
        purged_count += 1
    return Cleaned(purged_count=purged_count, is_done=True)


def expire(draft: Draft, invocation_id: InvocationId) -> None:
    """What is kept for no time goes when its timer fires, or when its key is asked for before."""
    inv = draft.state.completed.get(invocation_id)
    if inv is not None and inv.completion_retention_ms == 0:
        _purge(draft, inv)


def _forgotten(draft: Draft) -> list[ObjectId]:
    """Keys whose state nobody has written to for as long as their service keeps it, or uses now."""
    kept_ms = {
        name: service.manifest.state_retention_ms
        for name, service in draft.state.services.items()
        if service.manifest.state_retention_ms is not None
    }
    if not kept_ms:
        return []
    return [
        object_id
        for object_id, obj in draft.state.objects.items()
        if obj.state
        and not obj.is_in_use
        and _is_over(kept_ms.get(object_id.service), draft.now_ms - obj.written_at_ms)
    ]


def _purge(draft: Draft, inv: Completed) -> None:
    is_run = inv.handler_type == "workflow"
    draft.record(InvocationPurged(invocation_id=inv.id, object=inv.object if is_run else None))


def _is_over(retention_ms: int | None, age_ms: int) -> bool:
    return retention_ms is not None and age_ms >= retention_ms
