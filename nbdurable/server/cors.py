"""What browsers ask before they send, and want to hear before they show: only of origins we name.

Restate mirrors whatever origin asks (restate-http-observed.md, "Ingress, general"). That lets every
page a person visits call what runs on their machine, so it is not followed (design, section 9).
"""

from __future__ import annotations

from collections.abc import Mapping

from nbdurable.server.answers import Answer, RawHeaders, ingress_error
from nbdurable.server.auth import Guard


def preflight(guard: Guard, headers: Mapping[str, str], methods: bytes) -> Answer:
    """A browser asks first. It brings no token, and learns nothing but whether it may."""
    refusal = guard.refuse_host(headers) or guard.refuse_origin(headers)
    if refusal is not None:
        return ingress_error(*refusal)
    if not guard.may_call(headers.get("origin")):
        return Answer(200, ((b"allow", methods),))
    granted = [(b"access-control-allow-methods", methods), (b"access-control-max-age", b"600")]
    asked = headers.get("access-control-request-headers")
    if asked:
        granted.append((b"access-control-allow-headers", asked.encode("latin-1")))
    if "access-control-request-private-network" in headers:
        granted.append((b"access-control-allow-private-network", b"true"))
    return Answer(200, tuple(granted))


def cors_headers(guard: Guard, origin: str | None) -> RawHeaders:
    """Nothing, for whoever the options do not name."""
    if origin is None or not guard.may_call(origin):
        return ()
    return (
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"vary", b"origin"),
        (
            b"access-control-expose-headers",
            b"x-restate-id, x-restate-error-source, idempotency-expires",
        ),
    )
