"""How often, how long and how things are tried again, kept, and run beside each other.

Durations are `timedelta`, as everywhere at the public edge. None leaves a field to the next wider
policy: the step's, the handler's, the service's, the engine's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, Literal, Optional, TypeVar

from nbdurable.sdk.serde import DEFAULT_SERDE, Serde

T = TypeVar("T")


@dataclass
class RunOptions(Generic[T]):
    """Options of one `ctx.run_typed` step.

    A step that runs out of attempts or time fails with a `TerminalError` that carries the message
    of its last failure. As soon as one retry field is set, the unset ones take the defaults named
    here; if none is, a failing step fails the attempt and the invocation's policy decides.
    """

    serde: Serde[T] = DEFAULT_SERDE
    """Writes and reads the step's result."""
    type_hint: Optional[type[T]] = None
    """Type of the result, for the default serde; None takes the action's return annotation."""
    max_attempts: Optional[int] = None
    """The first run counts."""
    max_duration: Optional[timedelta] = None
    """Of all runs together, counted from the first failure. A run that fails later is the last, and
    so is a first one that alone takes longer."""
    initial_retry_interval: Optional[timedelta] = None
    """Wait before the second run; 50 ms by default."""
    max_retry_interval: Optional[timedelta] = None
    """No wait is longer; 10 s by default."""
    retry_interval_factor: Optional[float] = None
    """Each wait is the one before times this; 2 by default."""
    max_retry_duration: Optional[timedelta] = None
    """Old name of `max_duration`, kept for code written for the official SDK."""


@dataclass
class InvocationRetryPolicy:
    """When a failed attempt of a whole invocation is tried again, and what happens in the end."""

    initial_interval: Optional[timedelta] = None
    """Wait before the second attempt."""
    exponentiation_factor: Optional[float] = None
    """Each wait is the one before times this."""
    max_interval: Optional[timedelta] = None
    """No wait is longer."""
    max_attempts: Optional[int] = None
    """The first attempt counts."""
    on_max_attempts: Optional[Literal["pause", "kill"]] = None
    """Pause keeps the journal and waits for a human; kill ends the invocation."""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What holds where a service and its handler say nothing. None leaves the default.

    ```python
    options = EngineOptions(concurrency=8, service_concurrency={"Scraper": 2})
    async with nbdurable.open(services=[scraper], options=options) as engine:
        ...
    ```
    """

    concurrency: Optional[int] = None
    """How many attempts may run at once; who waits or sleeps does not count. None: no limit."""
    service_concurrency: Mapping[str, int] = field(default_factory=dict)
    """The same, of one service."""
    scope_concurrency: Mapping[str, int] = field(default_factory=dict)
    """The same, of a scope (`"tenant"`) or of a limit key in it (`"tenant/user42"`)."""
    retry_policy: Optional[InvocationRetryPolicy] = None
    """Of invocations: 500 ms, factor 2, at most 60 s, 70 attempts, then pause by default."""
    inactivity_timeout: Optional[timedelta] = None
    """An attempt that only waits is suspended after this long; a minute by default."""
    abort_timeout: Optional[timedelta] = None
    """One that shows no progress for this long after that is cut off. None: never."""
    journal_retention: Optional[timedelta] = None
    """How long the journal of a finished invocation is kept; 30 days by default."""
    workflow_retention: Optional[timedelta] = None
    """How long a finished workflow's result, state and promises are; 30 days by default."""
    idempotency_retention: Optional[timedelta] = None
    """How long the result of a call with an idempotency key is; 30 days by default."""
    cleanup_interval: Optional[timedelta] = None
    """How often what has expired is removed; an hour by default."""
