"""From the options of the public edge to the settings and policies of the core.

Everything is checked here, where the name of the option is known: the core would meet a text where
it counts, hours later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta

from nbdurable.core.limits import Limits
from nbdurable.core.records import cannot_hold
from nbdurable.core.settings import DEFAULT_SETTINGS, Settings
from nbdurable.core.values import INVOCATION_RETRY_DEFAULT, RetryPolicy
from nbdurable.errors import DefinitionError
from nbdurable.invoker.payloads import ms_of
from nbdurable.sdk.options import EngineOptions, InvocationRetryPolicy


def settings_of(options: EngineOptions) -> Settings:
    """Raises DefinitionError when an option has a value that cannot be meant."""
    default = DEFAULT_SETTINGS
    settings = Settings(
        limits=Limits(
            engine=_count_or_none("concurrency", options.concurrency),
            services=_counts("service_concurrency", options.service_concurrency),
            scopes=_counts("scope_concurrency", options.scope_concurrency),
        ),
        retry=retry_policy(options.retry_policy, "retry_policy") or INVOCATION_RETRY_DEFAULT,
        inactivity_timeout_ms=_ms_or(
            "inactivity_timeout", options.inactivity_timeout, default.inactivity_timeout_ms
        ),
        abort_timeout_ms=duration_ms("abort_timeout", options.abort_timeout),
        journal_retention_ms=_ms_or(
            "journal_retention", options.journal_retention, default.journal_retention_ms
        ),
        workflow_retention_ms=_ms_or(
            "workflow_retention", options.workflow_retention, default.workflow_retention_ms
        ),
        idempotency_retention_ms=_ms_or(
            "idempotency_retention",
            options.idempotency_retention,
            default.idempotency_retention_ms,
        ),
    )
    unwritable = cannot_hold(settings)
    if unwritable is not None:
        raise DefinitionError(f"the engine's options do not fit: {unwritable}")
    return settings


def cleanup_interval_ms(options: EngineOptions) -> int | None:
    """None leaves it to the engine."""
    interval_ms = duration_ms("cleanup_interval", options.cleanup_interval)
    if interval_ms == 0:
        raise DefinitionError(
            "cleanup_interval is 0, so nothing but cleaning up would be done; write e.g."
            " timedelta(hours=1)"
        )
    return interval_ms


def retry_policy(
    policy: InvocationRetryPolicy | None, name: str = "invocation_retry_policy"
) -> RetryPolicy | None:
    """None leaves it to the engine; a policy in part takes the rest from the server's defaults."""
    default = INVOCATION_RETRY_DEFAULT
    if policy is None:
        return None
    if not isinstance(policy, InvocationRetryPolicy):
        raise DefinitionError(
            f"{name} is {policy!r}; write e.g. InvocationRetryPolicy(max_attempts=3)"
        )
    factor, end = policy.exponentiation_factor, policy.on_max_attempts
    attempts = _count_or_none(f"max_attempts of {name}", policy.max_attempts)
    if end not in (None, "pause", "kill"):
        raise DefinitionError(f"on_max_attempts of {name} is {end!r}; write 'pause' or 'kill'")
    return RetryPolicy(
        initial_interval_ms=_ms_or(
            f"initial_interval of {name}", policy.initial_interval, default.initial_interval_ms
        ),
        factor=default.factor if factor is None else _factor(name, factor),
        max_interval_ms=_ms_or(
            f"max_interval of {name}", policy.max_interval, default.max_interval_ms
        ),
        max_attempts=default.max_attempts if attempts is None else attempts,
        on_max_attempts=end or default.on_max_attempts,
    )


def duration_ms(name: str, delta: timedelta | None) -> int | None:
    """Raises DefinitionError when it is no duration, or a negative one."""
    if delta is None:
        return None
    if not isinstance(delta, timedelta):
        raise DefinitionError(f"{name} is {delta!r}; write: timedelta(seconds={delta!r})")
    if delta < timedelta(0):
        raise DefinitionError(f"{name} is {delta}, and nothing takes less than no time")
    return ms_of(delta)


def _ms_or(name: str, delta: timedelta | None, default_ms: int) -> int:
    ms = duration_ms(name, delta)
    return default_ms if ms is None else ms


def _factor(name: str, factor: object) -> float:
    if isinstance(factor, int | float) and math.isfinite(factor) and factor >= 1:
        return float(factor)
    raise DefinitionError(
        f"exponentiation_factor of {name} is {factor!r}; each wait is the one before times this, so"
        " write a number from 1 up"
    )


def _counts(name: str, counts: Mapping[str, int]) -> dict[str, int]:
    if not isinstance(counts, Mapping):
        raise DefinitionError(
            f"{name} is {counts!r}; write a limit for each name: {{'Scraper': 2}}"
        )
    return {of: _count(f"the concurrency of {of!r}", count) for of, count in counts.items()}


def _count_or_none(name: str, count: int | None) -> int | None:
    return None if count is None else _count(name, count)


def _count(name: str, count: object) -> int:
    if not isinstance(count, int) or isinstance(count, bool):
        raise DefinitionError(f"{name} is {count!r}; write a whole number, at least 1")
    if count < 1:
        raise DefinitionError(f"{name} is {count}, so nothing would ever run; write at least 1")
    return count
