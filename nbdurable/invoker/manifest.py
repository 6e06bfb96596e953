"""From a definition to what the engine knows of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from nbdurable.core.manifest import HandlerManifest, ServiceManifest
from nbdurable.core.values import ServiceType
from nbdurable.errors import DefinitionError
from nbdurable.invoker.options import duration_ms, retry_policy
from nbdurable.invoker.schemas import JSON_SERDES, schema_text
from nbdurable.sdk.definition import Definition
from nbdurable.sdk.digest import handler_digest
from nbdurable.sdk.handler import Handler

_TYPES: dict[str, ServiceType] = {
    "service": "service",
    "object": "virtual_object",
    "workflow": "workflow",
}


def manifest_of(
    definition: Definition,
    *,
    digest: str | None = None,
    source: str | None = None,
    origin: str | None = None,
    keyed: bool = False,
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
        handlers=tuple(_handler_manifest(definition, handler, keyed=keyed) for handler in handlers),
        digest=digest or handler_digest(handlers),
        source=source,
        origin=origin,
        description=tag.description,
        metadata=tag.metadata or {},
        state_retention_ms=duration_ms(
            f"state_retention of {tag.name!r}", getattr(definition, "state_retention", None)
        ),
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
    definition: Definition, handler: Handler[Any, Any], *, keyed: bool
) -> HandlerManifest:
    private = handler.ingress_private
    io = handler.handler_io
    return HandlerManifest(
        name=handler.name,
        type=handler.kind,
        retry=retry_policy(handler.invocation_retry_policy or definition.invocation_retry_policy),
        inactivity_timeout_ms=_ms("inactivity_timeout", handler, definition.inactivity_timeout),
        abort_timeout_ms=_ms("abort_timeout", handler, definition.abort_timeout),
        journal_retention_ms=_ms("journal_retention", handler, definition.journal_retention),
        workflow_retention_ms=_ms("workflow_retention", handler, None),
        idempotency_retention_ms=_ms(
            "idempotency_retention", handler, definition.idempotency_retention
        ),
        ingress_private=bool(definition.ingress_private if private is None else private),
        keyed=keyed and handler.kind == "workflow",
        has_input=handler.arity > 1,
        has_output=io.output_type is None or not io.output_type.is_void,
        accept=io.accept,
        content_type=io.content_type,
        reads_json=isinstance(io.input_serde, JSON_SERDES),
        input_schema=schema_text(io.input_type),
        output_schema=schema_text(io.output_type),
        description=handler.description,
        metadata=handler.metadata or {},
    )


def _ms(name: str, handler: Handler[Any, Any], of_service: timedelta | None) -> int | None:
    own: timedelta | None = getattr(handler, name)
    return duration_ms(f"{name} of {handler.name!r}", of_service if own is None else own)
