"""What is known of an invocation in the moment it was created, and for good once it has ended.

Whoever folds the log and whoever makes the snapshot of what has ended make it by these.
"""

from __future__ import annotations

import msgspec

from nbdurable.core.facts import Completed, InvocationCompleted, InvocationCreated, kept_for
from nbdurable.core.state import NO_HEADERS, Invocation
from nbdurable.core.values import Result, Success, with_shared_names


def invocation_of(created: InvocationCreated, lsn: int, at_ms: int) -> Invocation:
    """As it is in the moment it was created, before it has its place in line."""
    return Invocation(
        id=created.invocation_id,
        target=with_shared_names(created.target),
        status="scheduled",
        seed=created.seed,
        service_type=created.service_type,
        handler_type=created.handler_type,
        headers=created.headers or NO_HEADERS,
        idempotency_key=created.idempotency_key,
        limit_key=created.limit_key,
        caller=created.caller,
        start_at_ms=created.start_at_ms,
        created_at_ms=at_ms,
        modified_at_ms=at_ms,
        first_lsn=lsn,
        last_lsn=lsn,
        completion_retention_ms=created.completion_retention_ms,
        journal_retention_ms=created.journal_retention_ms,
        restarted_from=created.restarted_from,
        home=created.link,
    )


def completed_of(inv: Invocation, fact: InvocationCompleted, lsn: int, at_ms: int) -> Completed:
    """What is known of it for good: of its creation and its end, and of nothing in between."""
    return Completed(
        id=inv.id,
        target=inv.target,
        seed=inv.seed,
        service_type=inv.service_type,
        handler_type=inv.handler_type,
        idempotency_key=inv.idempotency_key,
        limit_key=inv.limit_key,
        restarted_from=inv.restarted_from,
        attempt=fact.attempt,
        revision=fact.revision,
        entry_count=fact.entry_count,
        result=stored(fact.result, lsn),
        completed_by=fact.by,
        created_at_ms=inv.created_at_ms,
        completed_at_ms=at_ms,
        kept=kept_for(inv.completion_retention_ms, inv.journal_retention_ms),
        first_lsn=inv.first_lsn,
        last_lsn=lsn,
    )


def stored(result: Result, lsn: int) -> Result:
    """With the lsn under which its bytes are found."""
    match result:
        case Success(value=ref):
            return Success(value=msgspec.structs.replace(ref, lsn=lsn))
        case failure:
            return failure
