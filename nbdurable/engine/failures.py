"""Failures, said to the log: a script has no view of its journal, and a retry is silent.

Each is said once, not at every retry. A surface that shows failures itself opens its engine with
`logs_failures=False`: the logger is everybody's, and turning it off would silence other engines.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from nbdurable.core.facts import AttemptFailed, InvocationCompleted, RunAttemptFailed
from nbdurable.core.ids import InvocationId
from nbdurable.core.records import Record
from nbdurable.core.state import EngineState
from nbdurable.core.values import ErrorReport

logger = logging.getLogger("nbdurable.failures")


class Failures:
    """Mutable: what was said last of each invocation. Owned by the engine thread."""

    def __init__(self) -> None:
        self._said: dict[InvocationId, str] = {}

    def say(self, records: Sequence[Record], state: EngineState) -> None:
        for _, at_ms, fact, _ in records:
            match fact:
                case AttemptFailed(error=error, next_retry_at_ms=retry_at_ms):
                    self._say_one(state, fact.invocation_id, error, at_ms, retry_at_ms)
                case RunAttemptFailed(error=error, next_retry_at_ms=retry_at_ms):
                    self._say_one(state, fact.invocation_id, error, at_ms, retry_at_ms)
                case InvocationCompleted():
                    self._said.pop(fact.invocation_id, None)
                case _:
                    pass

    def _say_one(
        self,
        state: EngineState,
        invocation_id: InvocationId,
        error: ErrorReport,
        at_ms: int,
        retry_at_ms: int | None,
    ) -> None:
        inv = state.find(invocation_id)
        if inv is None:
            return
        # Once while it is retried, and once more when it is not.
        saying = f"{retry_at_ms is None}: {error.message}"
        if self._said.get(invocation_id) == saying:
            return
        self._said[invocation_id] = saying
        step = f", step {error.command_name!r}," if error.command_name else ""
        if retry_at_ms is not None:
            outcome = f"is tried again in {(retry_at_ms - at_ms) / 1000:.1f} s, and so on"
        elif inv.status == "paused":
            outcome = f"is paused; correct the code and start again, or resume({invocation_id!r})"
        else:
            outcome = "has ended"
        logger.warning(
            "%s%s failed and %s:\n%s",
            inv.target,
            step,
            outcome,
            _shown(error),
            extra={"invocation_id": inv.id, "target": str(inv.target)},
        )


def _shown(error: ErrorReport) -> str:
    return (error.stacktrace or error.message).rstrip()
