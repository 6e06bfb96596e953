"""Slots under the limits: who waits for one gets it as soon as it is free."""

from __future__ import annotations

from itertools import islice

from nbdurable.core.draft import Draft
from nbdurable.core.facts import (
    AttemptFailed,
    AttemptLost,
    EngineConfigured,
    InvocationCompleted,
    InvocationPaused,
    InvocationSuspended,
)
from nbdurable.core.rules.progress import place_for, wake
from nbdurable.core.state import Invocation

_FREES = (
    AttemptFailed,
    AttemptLost,
    EngineConfigured,
    InvocationCompleted,
    InvocationPaused,
    InvocationSuspended,
)


def start_waiting(draft: Draft) -> None:
    """After every decision: fill the slots it has freed, in the order they were waited for."""
    if not any(isinstance(record.fact, _FREES) for record in draft.records):
        return
    while (first := _first(draft)) is not None:
        wake(draft, first, "a slot is free")


def _first(draft: Draft) -> Invocation | None:
    """Of each group that needs the same, its first; and of these the one that waits longest."""
    state = draft.state
    heads = [
        state.invocations[invocation_id]
        for bucket, waiting in state.ready.items()
        # Where links run some keys only, those of one group do not need the same.
        for invocation_id in (
            waiting if state.services[bucket.service].only else islice(waiting, 1)
        )
    ]
    may = [inv for inv in heads if not state.is_full(inv) and place_for(draft, inv) is not None]
    return min(may, key=lambda inv: inv.last_lsn, default=None)
