"""How long what has ended is kept: purges by hand, and the cleaner.

Source: restate-semantics.md, 1.7 (retention) and 1.5 (purge, purge-journal).
"""

from __future__ import annotations

from nbdurable.core.draft import Draft
from nbdurable.core.facts import Completed, InvocationPurged, JournalPurged
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
    return Cleaned(purged_count=purged_count, is_done=True)


def expire(draft: Draft, invocation_id: InvocationId) -> None:
    """What is kept for no time goes when its timer fires, or when its key is asked for before."""
    inv = draft.state.completed.get(invocation_id)
    if inv is not None and inv.completion_retention_ms == 0:
        _purge(draft, inv)


def _purge(draft: Draft, inv: Completed) -> None:
    is_run = inv.handler_type == "workflow"
    draft.record(InvocationPurged(invocation_id=inv.id, object=inv.object if is_run else None))


def _is_over(retention_ms: int | None, age_ms: int) -> bool:
    return retention_ms is not None and age_ms >= retention_ms
