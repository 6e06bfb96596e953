"""Services, handlers and deployments as the admin API shows them.

Source: restate-http-observed.md, "Admin"; restate-cli-calls.md, "Fields that must be present".
"""

from __future__ import annotations

import json
from typing import Any, Final

from nbdurable import __version__
from nbdurable.client.questions import Deployment
from nbdurable.core.manifest import HandlerManifest, ServiceManifest
from nbdurable.core.settings import Settings
from nbdurable.core.values import RetryPolicy
from nbdurable.durations import show_duration, show_exact_time

_SERVICE_TYPES: Final = {
    "service": "Service",
    "virtual_object": "VirtualObject",
    "workflow": "Workflow",
}
_HANDLER_TYPES: Final = {"exclusive": "Exclusive", "shared": "Shared", "workflow": "Workflow"}

# What is left out is shown by the CLI as Restate's default, and that would not be true.
_NEVER_MS: Final = 100 * 365 * 86_400_000

# Those of the service protocol that the official SDK of our names speaks (restate-semantics.md, 5).
_PROTOCOL_MIN, _PROTOCOL_MAX = 5, 7


def service_of(deployment: Deployment, settings: Settings) -> dict[str, Any]:
    """What holds for the service, where its handlers agree; where one differs, it says so."""
    manifest = deployment.manifest
    first = manifest.handlers[0]
    options = _options(manifest, first, settings)
    return {
        "name": manifest.name,
        "ty": _SERVICE_TYPES[manifest.type],
        "handlers": [
            _handler(manifest, handler, settings, options) for handler in manifest.handlers
        ],
        **_told(manifest),
        **_state_kept(manifest),
        "deployment_id": deployment.id,
        "revision": deployment.revision,
        "public": any(not handler.ingress_private for handler in manifest.handlers),
        **options,
        "enable_lazy_state": False,
    }


def handler_of(
    manifest: ServiceManifest, handler: HandlerManifest, settings: Settings
) -> dict[str, Any]:
    options = _options(manifest, manifest.handlers[0], settings)
    return _handler(manifest, handler, settings, options)


def deployment_of(deployment: Deployment, services: list[dict[str, Any]]) -> dict[str, Any]:
    """Its address is made up: the code is in a process that has none, or is loaded nowhere."""
    where = deployment.link or "not-loaded"
    return {
        "id": deployment.id,
        "uri": f"nbdurable://{where}/{deployment.manifest.name}/{deployment.revision}",
        "protocol_type": "BidiStream",
        "http_version": "HTTP/2.0",
        "created_at": show_exact_time(deployment.registered_at_ms),
        "min_protocol_version": _PROTOCOL_MIN,
        "max_protocol_version": _PROTOCOL_MAX,
        "sdk_version": f"nbdurable/{__version__}",
        "services": services,
    }


def brief_service_of(deployment: Deployment) -> dict[str, Any]:
    return {"name": deployment.manifest.name, "revision": deployment.revision}


def input_words(handler: HandlerManifest) -> str:
    """What a handler takes, in the words of Restate's server."""
    if not handler.has_input:
        return "none"
    return _words(handler.accept, handler.input_schema)


def output_words(handler: HandlerManifest) -> str:
    if not handler.has_output:
        return "none"
    return _words(handler.content_type, handler.output_schema)


def is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip() == "application/json"


def _words(content_type: str, schema_text: str | None) -> str:
    if not is_json(content_type):
        return content_type
    schema = True if schema_text is None else json.loads(schema_text)
    if not isinstance(schema, dict):
        return "JSON"
    if "title" in schema:
        return f"JSON '{schema['title']}'"
    return f"JSON {schema['type']}" if isinstance(schema.get("type"), str) else "JSON"


def _handler(
    manifest: ServiceManifest,
    handler: HandlerManifest,
    settings: Settings,
    of_service: dict[str, Any],
) -> dict[str, Any]:
    own = _options(manifest, handler, settings)
    described: dict[str, Any] = {"name": handler.name}
    if handler.type is not None:
        described["ty"] = _HANDLER_TYPES[handler.type]
    described |= _told(handler)
    described |= {
        "public": not handler.ingress_private,
        "input_description": input_words(handler),
        "output_description": output_words(handler),
    }
    for name, text in (
        ("input_json_schema", handler.input_schema),
        ("output_json_schema", handler.output_schema),
    ):
        if text is not None:
            described[name] = json.loads(text)
    return described | {name: value for name, value in own.items() if value != of_service.get(name)}


def _told(described: ServiceManifest | HandlerManifest) -> dict[str, Any]:
    """What its author has written about it, if anything."""
    told: dict[str, Any] = {}
    if described.description is not None:
        told["documentation"] = described.description
    if described.metadata:
        told["metadata"] = dict(described.metadata)
    return told


def _state_kept(manifest: ServiceManifest) -> dict[str, Any]:
    """Restate has no such option, so it is there only where somebody uses it."""
    kept_ms = manifest.state_retention_ms
    return {} if kept_ms is None else {"state_retention": show_duration(kept_ms)}


def _options(
    manifest: ServiceManifest, handler: HandlerManifest, settings: Settings
) -> dict[str, Any]:
    """What holds, whoever has said it."""
    kept = {
        "idempotency_retention": _or(
            handler.idempotency_retention_ms, settings.idempotency_retention_ms
        ),
        "journal_retention": _or(handler.journal_retention_ms, settings.journal_retention_ms),
        "inactivity_timeout": settings.inactivity_ms_of(handler),
        "abort_timeout": _or(settings.abort_ms_of(handler), _NEVER_MS),
    }
    if manifest.type == "workflow":
        run = next(one for one in manifest.handlers if one.type == "workflow")
        kept["workflow_completion_retention"] = _or(
            run.workflow_retention_ms, settings.workflow_retention_ms
        )
    return {
        **{name: show_duration(ms) for name, ms in kept.items()},
        "retry_policy": _retry(settings.retry_of(handler)),
    }


def _or(own_ms: int | None, default_ms: int) -> int:
    return default_ms if own_ms is None else own_ms


def _retry(policy: RetryPolicy) -> dict[str, Any]:
    return {
        "initial_interval": show_duration(policy.initial_interval_ms),
        "exponentiation_factor": policy.factor,
        "max_attempts": policy.max_attempts,
        "max_interval": show_duration(policy.max_interval_ms),
        "on_max_attempts": policy.on_max_attempts.capitalize(),
    }
