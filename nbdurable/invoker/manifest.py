"""From a definition to what the engine knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from nbdurable.core.manifest import (
    DEFAULT_INACTIVITY_MS,
    DEFAULT_RETENTION_MS,
    HandlerManifest,
    ServiceManifest,
)
from nbdurable.core.values import INVOCATION_RETRY_DEFAULT, RetryPolicy, ServiceType
from nbdurable.errors import DefinitionError
from nbdurable.invoker.payloads import ms_of
from nbdurable.sdk.definition import Definition
from nbdurable.sdk.digest import handler_digest
from nbdurable.sdk.handler import Handler
from nbdurable.sdk.options import InvocationRetryPolicy

_TYPES: dict[str, ServiceType] = {
    "service": "service",
    "object": "virtual_object",
    "workflow": "workflow",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestDefaults:
    """What holds for handlers that say nothing, nor do their services."""

    inactivity_timeout_ms: int = DEFAULT_INACTIVITY_MS
    retry: RetryPolicy = INVOCATION_RETRY_DEFAULT


DEFAULTS = ManifestDefaults()


def manifest_of(
    definition: Definition,
    *,
    digest: str | None = None,
    source: str | None = None,
    origin: str | None = None,
    keyed: bool = False,
    defaults: ManifestDefaults = DEFAULTS,
) -> ServiceManifest:
    """`digest` tells revisions apart; by default it is that of the handlers' code.

    Raises:
        DefinitionError: It cannot be served; one line says what to write.
    """
    tag = definition.service_tag
    handlers = tuple(definition.handlers.values())
    _check(definition, handlers)
    return ServiceManifest(
        name=tag.name,
        type=_TYPES[tag.kind],
        handlers=tuple(
            _handler_manifest(definition, handler, defaults, keyed=keyed) for handler in handlers
        ),
        digest=digest or handler_digest(handlers),
        source=source,
        origin=origin,
    )


def _check(definition: Definition, handlers: tuple[Handler[Any, Any], ...]) -> None:
    tag = definition.service_tag
    if not handlers:
        raise DefinitionError(
            f"{tag.kind} '{tag.name}' has no handlers; write: async def {_example(tag.kind)}"
        )
    if tag.kind == "workflow" and not any(handler.kind == "workflow" for handler in handlers):
        raise DefinitionError(
            f"workflow '{tag.name}' has no main handler; write: async def run(ctx, request)"
        )


def _example(kind: str) -> str:
    return "run(ctx, request)" if kind == "workflow" else "greet(ctx, name)"


def _handler_manifest(
    definition: Definition, handler: Handler[Any, Any], defaults: ManifestDefaults, *, keyed: bool
) -> HandlerManifest:
    def said(option: str) -> Any:
        """The handler's setting, else the service's. Zero is a setting."""
        own = getattr(handler, option)
        return getattr(definition, option, None) if own is None else own

    abort_timeout = said("abort_timeout")
    return HandlerManifest(
        name=handler.name,
        type=handler.kind,
        retry=_retry_policy(said("invocation_retry_policy"), defaults.retry),
        inactivity_timeout_ms=_ms_or(said("inactivity_timeout"), defaults.inactivity_timeout_ms),
        abort_timeout_ms=None if abort_timeout is None else ms_of(abort_timeout),
        journal_retention_ms=_ms_or(said("journal_retention"), DEFAULT_RETENTION_MS),
        workflow_retention_ms=_ms_or(said("workflow_retention"), DEFAULT_RETENTION_MS),
        idempotency_retention_ms=_ms_or(said("idempotency_retention"), DEFAULT_RETENTION_MS),
        ingress_private=bool(said("ingress_private")),
        keyed=keyed and handler.kind == "workflow",
        has_input=handler.arity > 1,
    )


def _retry_policy(policy: InvocationRetryPolicy | None, default: RetryPolicy) -> RetryPolicy:
    if policy is None:
        return default
    factor, attempts = policy.exponentiation_factor, policy.max_attempts
    return RetryPolicy(
        initial_interval_ms=_ms_or(policy.initial_interval, default.initial_interval_ms),
        factor=default.factor if factor is None else factor,
        max_interval_ms=_ms_or(policy.max_interval, default.max_interval_ms),
        max_attempts=default.max_attempts if attempts is None else attempts,
        on_max_attempts=policy.on_max_attempts or default.on_max_attempts,
    )


def _ms_or(delta: timedelta | None, default_ms: int) -> int:
    return default_ms if delta is None else ms_of(delta)
