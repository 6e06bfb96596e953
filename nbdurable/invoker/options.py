"""From the options of the public edge to the settings and policies of the core."""

from __future__ import annotations

from datetime import timedelta

from nbdurable.core.limits import Limits
from nbdurable.core.records import cannot_hold
from nbdurable.core.settings import DEFAULT_SETTINGS, Settings
from nbdurable.core.values import INVOCATION_RETRY_DEFAULT, RetryPolicy
from nbdurable.errors import DefinitionError
from nbdurable.invoker.payloads import ms_of
from nbdurable.sdk.options import EngineOptions, InvocationRetryPolicy


def settings_of(options: EngineOptions) -> Settings:
    """Raises DefinitionError when an option has a value that the journal cannot hold."""
    default = DEFAULT_SETTINGS
    limits = Limits(
        engine=options.concurrency,
        services=dict(options.service_concurrency),
        scopes=dict(options.scope_concurrency),
    )
    for name, bound in _bounds(options):
        if bound < 1:
            raise DefinitionError(f"{name} is {bound}, so nothing would ever run; write at least 1")
    settings = Settings(
        limits=limits,
        retry=retry_policy(options.retry_policy) or INVOCATION_RETRY_DEFAULT,
        inactivity_timeout_ms=_ms_or(options.inactivity_timeout, default.inactivity_timeout_ms),
        abort_timeout_ms=None if options.abort_timeout is None else ms_of(options.abort_timeout),
        journal_retention_ms=_ms_or(options.journal_retention, default.journal_retention_ms),
        workflow_retention_ms=_ms_or(options.workflow_retention, default.workflow_retention_ms),
        idempotency_retention_ms=_ms_or(
            options.idempotency_retention, default.idempotency_retention_ms
        ),
    )
    unwritable = cannot_hold(settings)
    if unwritable is not None:
        raise DefinitionError(f"the engine's options do not fit: {unwritable}")
    return settings


def retry_policy(policy: InvocationRetryPolicy | None) -> RetryPolicy | None:
    """None leaves it to the engine; a policy in part takes the rest from the server's defaults."""
    default = INVOCATION_RETRY_DEFAULT
    if policy is None:
        return None
    factor, attempts = policy.exponentiation_factor, policy.max_attempts
    return RetryPolicy(
        initial_interval_ms=_ms_or(policy.initial_interval, default.initial_interval_ms),
        factor=default.factor if factor is None else factor,
        max_interval_ms=_ms_or(policy.max_interval, default.max_interval_ms),
        max_attempts=default.max_attempts if attempts is None else attempts,
        on_max_attempts=policy.on_max_attempts or default.on_max_attempts,
    )


def _bounds(options: EngineOptions) -> list[tuple[str, int]]:
    named = {**options.service_concurrency, **options.scope_concurrency}
    bounds = [(f"the concurrency of '{name}'", bound) for name, bound in named.items()]
    if options.concurrency is not None:
        bounds.append(("concurrency", options.concurrency))
    return bounds


def _ms_or(delta: timedelta | None, default_ms: int) -> int:
    return default_ms if delta is None else ms_of(delta)
