"""How often, how long and how a step or an invocation is tried again.

Durations are `timedelta`, as everywhere at the public edge. None leaves a field to the next wider
policy: the step's, the handler's, the service's, the engine's.
"""

from __future__ import annotations

from dataclasses import dataclass
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
