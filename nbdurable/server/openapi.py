"""One service as OpenAPI 3.1: what can be called, with what, and what comes back.

A schema of a handler's may define further ones under `$defs`; in a document of many schemas they
are components of their own, and references to them are pointed there.

Source: restate-semantics.md, 3.1 (`/services/{s}/openapi`); the paths are those of `paths.py`.
"""

from __future__ import annotations

import json
from typing import Any, Final

from nbdurable.core.manifest import HandlerManifest, ServiceManifest
from nbdurable.server.descriptions import is_json

_ERROR: Final = {
    "type": "object",
    "title": "Error",
    "description": "Why there is no result. `source` tells a failure of the handler from a request"
    " that could not be served.",
    "properties": {
        "code": {"type": "number"},
        "message": {"type": "string"},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        "source": {"type": "string", "enum": ["ingress", "invocation"]},
    },
    "required": ["message", "source"],
    "additionalProperties": False,
}
_SENT: Final = {
    "type": "object",
    "title": "Sent",
    "properties": {
        "invocationId": {"type": "string"},
        "status": {"type": "string", "enum": ["Accepted", "PreviouslyAccepted"]},
        "executionTime": {
            "type": "string",
            "format": "date-time",
            "description": "When it will begin, if it was sent with a delay.",
        },
    },
    "required": ["invocationId", "status"],
    "additionalProperties": False,
}
_PARAMETERS: Final[dict[str, Any]] = {
    "key": {"name": "key", "in": "path", "required": True, "schema": {"type": "string"}},
    "idempotencyKey": {
        "name": "idempotency-key",
        "in": "header",
        "required": False,
        "description": "A repeated call with the same key gets the result of the first.",
        "schema": {"type": "string"},
    },
    "delay": {
        "name": "delay",
        "in": "query",
        "required": False,
        "description": "How long to wait before it begins: 10s, 1h 30m, PT10S.",
        "example": "10s",
        "schema": {"type": "string"},
    },
}


def openapi_of(manifest: ServiceManifest, revision: int, ingress_url: str) -> dict[str, Any]:
    schemas: dict[str, Any] = {"Error": _ERROR, "Sent": _SENT}
    paths: dict[str, Any] = {}
    for handler in manifest.handlers:
        if handler.ingress_private:
            continue
        address = "/".join(_address(manifest, handler))
        paths[f"/restate/call/{address}"] = {"post": _call(manifest, handler, schemas)}
        paths[f"/restate/send/{address}"] = {"post": _send(manifest, handler, schemas)}
    if manifest.type == "workflow":
        paths |= _lookups(manifest, schemas)
    info: dict[str, Any] = {"title": manifest.name, "version": str(revision)}
    if manifest.description is not None:
        info["description"] = manifest.description
    return {
        "openapi": "3.1.0",
        "info": info,
        "servers": [{"url": ingress_url, "description": "Ingress"}],
        "paths": paths,
        "components": {
            "parameters": _PARAMETERS,
            "responses": {
                "Error": {
                    "description": "An error",
                    "content": {"application/json": {"schema": _ref("Error")}},
                },
                "Sent": {
                    "description": "It will be run",
                    "content": {"application/json": {"schema": _ref("Sent")}},
                },
            },
            "schemas": schemas,
        },
    }


def _address(manifest: ServiceManifest, handler: HandlerManifest) -> list[str]:
    key = [] if manifest.type == "service" else ["{key}"]
    return [manifest.name, *key, handler.name]


def _call(
    manifest: ServiceManifest, handler: HandlerManifest, schemas: dict[str, Any]
) -> dict[str, Any]:
    return {
        "operationId": handler.name,
        "summary": handler.name,
        "description": handler.description
        or f"Call {handler.name} of {manifest.name} and wait for its result",
        "parameters": _parameters(manifest, handler),
        **_request(handler, schemas),
        "responses": _result(handler, schemas),
    }


def _send(
    manifest: ServiceManifest, handler: HandlerManifest, schemas: dict[str, Any]
) -> dict[str, Any]:
    return {
        "operationId": f"{handler.name}Send",
        "summary": handler.name,
        "description": f"Have {handler.name} of {manifest.name} run, now or later",
        "tags": ["Send"],
        "parameters": [*_parameters(manifest, handler), _parameter("delay")],
        **_request(handler, schemas),
        "responses": {
            "202": {"$ref": "#/components/responses/Sent"},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }


def _lookups(manifest: ServiceManifest, schemas: dict[str, Any]) -> dict[str, Any]:
    """A workflow is looked up by its key, which those who started it know."""
    run = next(handler for handler in manifest.handlers if handler.type == "workflow")
    return {
        f"/restate/workflow/{manifest.name}/{{key}}/{verb}": {
            "get": {
                "operationId": f"{run.name}{verb.capitalize()}",
                "summary": run.name,
                "description": told,
                "tags": [verb.capitalize()],
                "parameters": [_parameter("key")],
                "responses": _result(run, schemas),
            }
        }
        for verb, told in (
            ("attach", f"Wait for the result of a run of {manifest.name}"),
            ("output", f"The result of a run of {manifest.name}; 470 as long as it runs"),
        )
    }


def _parameters(manifest: ServiceManifest, handler: HandlerManifest) -> list[dict[str, str]]:
    key = [] if manifest.type == "service" else [_parameter("key")]
    # A workflow's key is all it needs to run once.
    idempotency = [] if handler.type == "workflow" else [_parameter("idempotencyKey")]
    return [*key, *idempotency]


def _parameter(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/parameters/{name}"}


def _request(handler: HandlerManifest, schemas: dict[str, Any]) -> dict[str, Any]:
    if not handler.has_input:
        return {}
    schema = _shared(f"{handler.name}Request", handler.accept, handler.input_schema, schemas)
    return {"requestBody": {"required": False, "content": {handler.accept: {"schema": schema}}}}


def _result(handler: HandlerManifest, schemas: dict[str, Any]) -> dict[str, Any]:
    success: dict[str, Any] = {"description": "Its result"}
    if handler.has_output:
        schema = _shared(
            f"{handler.name}Response", handler.content_type, handler.output_schema, schemas
        )
        success["content"] = {handler.content_type: {"schema": schema}}
    return {"200": success, "default": {"$ref": "#/components/responses/Error"}}


def _shared(
    name: str, content_type: str, schema_text: str | None, schemas: dict[str, Any]
) -> dict[str, Any]:
    """A reference to the component that the schema becomes, with those it is made of."""
    schema = json.loads(schema_text) if schema_text is not None and is_json(content_type) else {}
    if not isinstance(schema, dict):
        schema = {}
    parts = schema.pop("$defs", {})
    for part, definition in parts.items():
        schemas[f"{name}.{part}"] = _pointed(definition, name)
    schemas[name] = _pointed(schema, name)
    return _ref(name)


def _pointed(schema: object, name: str) -> object:
    match schema:
        case {"$ref": str(reference), **rest}:
            moved = reference.replace("#/$defs/", f"#/components/schemas/{name}.")
            return {"$ref": moved, **{key: _pointed(part, name) for key, part in rest.items()}}
        case dict():
            return {key: _pointed(part, name) for key, part in schema.items()}
        case list():
            return [_pointed(part, name) for part in schema]
        case _:
            return schema


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}
