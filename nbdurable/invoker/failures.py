"""Failures of handlers that run here, said to the log of this process and not of the engine's.

The engine says them with what becomes of each (`engine/failures.py`), but where it is in another
process, nobody looks there who has started this one.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Final

from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import AttemptSteps, FailAttempt, FailRun
from nbdurable.core.values import Target

logger = logging.getLogger("nbdurable.failures")

# What was said last is remembered of so many invocations, so that a retry does not say it again.
SAID_MAX: Final = 1_000


class FailuresHere:
    """Mutable: what was said last of each invocation. Owned by the handler thread."""

    def __init__(self) -> None:
        self._said: OrderedDict[InvocationId, str] = OrderedDict()

    def say(self, target: Target, steps: AttemptSteps) -> None:
        for step in steps.steps:
            if not isinstance(step, FailAttempt | FailRun):
                continue
            error = step.error
            if self._said.get(steps.invocation_id) == error.message:
                continue
            self._said[steps.invocation_id] = error.message
            while len(self._said) > SAID_MAX:
                self._said.popitem(last=False)
            of_step = f", step {error.command_name!r}," if error.command_name else ""
            outcome = (
                "is tried again as its retry policy says"
                if error.heals_by_retry
                else "is paused; correct the code and resume it"
            )
            shown = (error.stacktrace or error.message).rstrip()
            logger.warning("%s%s failed and %s:\n%s", target, of_step, outcome, shown)
