"""The ingress's addresses: from a path to what it asks for.

Two spellings of a call, `/Counter/ada/add[/send]` and `/restate/call|send/Counter/ada/add`, and
three of a lookup: by invocation, by idempotency key, by workflow key. Which segments are a key is
for the service to say, so a path is read with the services at hand.

Source: restate-semantics.md, 2 (paths); restate-http-observed.md, "Ingress, general".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from nbdurable.core.ids import (
    InvocationId,
    keyed_invocation_id,
    parse_invocation_id,
)
from nbdurable.core.manifest import HandlerManifest, ServiceManifest
from nbdurable.core.values import Target
from nbdurable.server.answers import Problem, problem

Services = Mapping[str, ServiceManifest]

_SHAPES: Final = (
    "bad path, expected either /:service-name/:handler or /:object-name/:object-key/:handler"
)
_CALL_SHAPES: Final = (
    "bad path, expected /restate/call/:service/:handler, /restate/send/:service/:handler,"
    " /restate/scope/:scope/call/:service/:handler, /restate/attach/:invocation_id,"
    " /restate/output/:invocation_id, or /restate/lookup"
)
_INVOCATION_SHAPES: Final = (
    "bad path, expected either /restate/invocation/:invocation_id/output or"
    " /restate/invocation/:invocation_id/attach or"
    " /restate/invocation/:invocation_target/:idempotency_key/output or"
    " /restate/invocation/:invocation_target/:idempotency_key/attach"
)
_WORKFLOW_SHAPES: Final = (
    "bad path, expected either /restate/workflow/:workflow_name/:workflow_key/output or"
    " /restate/workflow/:workflow_name/:workflow_key/attach"
)
_AWAKEABLE_SHAPES: Final = (
    "bad path, expected either /restate/awakeables/:id/resolve or /restate/awakeables/:id/reject"
)

Lookup = Literal["attach", "output"]


class ToHandler(NamedTuple):
    """A call, or a send, of a handler that is registered."""

    target: Target
    service: ServiceManifest
    handler: HandlerManifest
    is_send: bool


class ToInvocation(NamedTuple):
    """A look at one invocation, by an id whose invocation may or may not be there."""

    invocation_id: InvocationId
    verb: Lookup


class ToTarget(NamedTuple):
    """The same, or its id only, by what the body of the request says."""

    verb: Literal["attach", "output", "lookup"]


class ToAwakeable(NamedTuple):
    awakeable_id: str
    verb: Literal["resolve", "reject"]


class ToHealth(NamedTuple):
    pass


Route = ToHandler | ToInvocation | ToTarget | ToAwakeable | ToHealth


def route_of(path: str, services: Services) -> Route:
    """What a path asks for. `path` is as it was sent, percent-encoded.

    Raises:
        Problem: 400 when it has no meaning, 404 when what it names is not there.
    """
    segments = path.lstrip("/").removesuffix("/").split("/")
    if len(segments) == 1:
        # Two segments are the least that anything has.
        raise problem(400, f"bad path: /{segments[0]}")
    if segments[0] == "restate":
        return _restate_route(segments[1:], services)
    return _call_route(segments, services)


def _call_route(segments: list[str], services: Services) -> Route:
    """`/{service}[/{key}]/{handler}[/send]`."""
    service = _service(segments[0], services)
    arity = 2 if service.type == "service" else 3
    is_send = len(segments) == arity + 1 and segments[-1] == "send"
    if len(segments) != arity + is_send:
        raise problem(400, _SHAPES)
    return _to_handler(service, segments[1:arity], None, is_send=is_send)


def _restate_route(rest: list[str], services: Services) -> Route:
    match rest:
        case ["health"]:
            return ToHealth()
        case ["call" | "send" as verb, *address]:
            return _spelled_out(verb, address, None, services)
        case ["scope", scope, "call" | "send" as verb, *address]:
            return _spelled_out(verb, address, _decoded(scope, "scope"), services)
        case ["call" | "send" | "scope", *_]:
            raise problem(400, _CALL_SHAPES)
        case ["attach" | "output" | "lookup" as verb]:
            return ToTarget(verb)
        case ["attach" | "output" as verb, invocation_id]:
            return ToInvocation(invocation_id_of(invocation_id), verb)
        case ["invocation", *address]:
            return _by_invocation(address, services)
        case ["workflow", name, key, verb]:
            return ToInvocation(_run_id(name, _decoded(key, "key"), services), _lookup(verb))
        case ["workflow", *_]:
            raise problem(400, _WORKFLOW_SHAPES)
        case ["awakeables" | "a", awakeable_id, "resolve" | "reject" as verb]:
            return ToAwakeable(_decoded(awakeable_id, "awakeable id"), verb)
        case ["awakeables" | "a", _, _]:
            raise problem(404, "not found")
        case ["awakeables" | "a", *_]:
            raise problem(400, _AWAKEABLE_SHAPES)
        case _:
            raise problem(404, "not found")


def _spelled_out(verb: str, address: list[str], scope: str | None, services: Services) -> Route:
    if not address:
        raise problem(400, _CALL_SHAPES)
    service = _service(address[0], services)
    if len(address) != (2 if service.type == "service" else 3):
        raise problem(400, _CALL_SHAPES)
    return _to_handler(service, address[1:], scope, is_send=verb == "send")


def _by_invocation(address: list[str], services: Services) -> Route:
    match address:
        case [invocation_id, verb]:
            return ToInvocation(invocation_id_of(invocation_id), _lookup(verb))
        case [name, *target, idempotency_key, verb] if target:
            service = _service(name, services)
            if len(target) != (1 if service.type == "service" else 2):
                raise problem(400, _INVOCATION_SHAPES)
            key = None if service.type == "service" else _decoded(target[0], "key")
            invocation_id = keyed_invocation_id(
                service.name, key, target[-1], _decoded(idempotency_key, "idempotency key")
            )
            return ToInvocation(invocation_id, _lookup(verb))
        case _:
            raise problem(400, _INVOCATION_SHAPES)


def _to_handler(
    service: ServiceManifest, address: list[str], scope: str | None, *, is_send: bool
) -> ToHandler:
    *key, name = address
    handler = service.handler(_decoded(name, "handler"))
    if handler is None:
        raise problem(
            404,
            f"the service '{service.name}' exists, but the handler '{name}' was not found, check"
            " that the handler exists in the latest registered service version.",
        )
    target = Target(
        service=service.name,
        handler=handler.name,
        key=_decoded(key[0], "key") if key else None,
        scope=scope,
    )
    return ToHandler(target, service, handler, is_send)


def _service(segment: str, services: Services) -> ServiceManifest:
    service = services.get(_decoded(segment, "service"))
    if service is None:
        raise _no_service(segment)
    return service


def _no_service(name: str) -> Problem:
    return problem(
        404,
        f"service '{name}' not found, make sure to register the service before calling it.",
    )


def _run_id(segment: str, key: str, services: Services) -> InvocationId:
    """Of a workflow that is not known nothing is known: its run is looked for, and not found."""
    return run_id(_decoded(segment, "workflow"), key, None, services)


def run_id(name: str, key: str, scope: str | None, services: Services) -> InvocationId:
    """The id of a workflow's run, which its name and key determine."""
    service = services.get(name)
    handlers = () if service is None else service.handlers
    run = next((handler.name for handler in handlers if handler.type == "workflow"), "run")
    return keyed_invocation_id(name, key, run, None, scope)


def invocation_id_of(text: str) -> InvocationId:
    try:
        return parse_invocation_id(text)
    except ValueError as error:
        raise problem(400, str(error)) from None


def _lookup(verb: str) -> Lookup:
    match verb:
        case "attach" | "output":
            return verb
        case _:
            raise problem(404, "not found")


def _decoded(segment: str, what: str) -> str:
    """One segment stays one, whatever it holds: `a%2Fb` is one key."""
    if "%" not in segment:
        return segment
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise problem(400, f"bad path, cannot decode {what}: {error.reason}") from None
