"""The link that runs attempts, as each of them sees it."""

from __future__ import annotations

import contextvars
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import AttemptSteps
from nbdurable.core.values import Target
from nbdurable.engine.ports import Clock
from nbdurable.invoker.pool import StepPool

if TYPE_CHECKING:
    from nbdurable.invoker.attempt import Attempt


class Host(Protocol):
    """What an attempt needs of the link that runs it."""

    clock: Clock
    # Suspend wherever that is possible, so that every await is replayed: for tests.
    always_replay: bool

    @property
    def pool(self) -> StepPool: ...

    def propose(self, steps: AttemptSteps) -> None: ...

    def suspend_later(self, suspension: AttemptSteps, after_s: float) -> None: ...

    def inherit(self, children: Sequence[InvocationId], context: contextvars.Context) -> None: ...

    def is_run(self, target: Target) -> bool: ...

    def ended(self, attempt: Attempt) -> None: ...

    def thread_runs(self, change: int) -> None: ...
