"""What is said to a client: results, and what went wrong, in Restate's words and shapes.

Tracebacks are never among them: they stay in the journal, for those who own the code.

Source: restate-http-observed.md, "Ingress, general" (bodies and headers) and "Admin" (bodies).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, NamedTuple

import msgspec

from nbdurable.core.values import Failure

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
RawHeaders = tuple[tuple[bytes, bytes], ...]

_JSON: Final = (b"content-type", b"application/json")
CLOSE: Final = (b"connection", b"close")
_FROM_INGRESS: Final = (b"x-restate-error-source", b"ingress")
_FROM_INVOCATION: Final = (b"x-restate-error-source", b"invocation")
# These have no body, and saying how long it is would be wrong.
_BODILESS: Final = frozenset({204, 304})
# A code beyond these is no HTTP status; below, it is none that ends an answer.
_STATUS_MIN, _STATUS_MAX = 200, 999

_encode = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """A whole response, ready to be sent."""

    status: int
    headers: RawHeaders = ()
    body: bytes = b""

    async def send(self, send: Send, more_headers: RawHeaders = ()) -> None:
        bodiless = self.status in _BODILESS
        length = () if bodiless else ((b"content-length", b"%d" % len(self.body)),)
        headers = [*self.headers, *more_headers, *length]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if bodiless else self.body})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As a response of Starlette's."""
        await self.send(send)


class Problem(Exception):
    """The request cannot be served; this is what its client is told."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def json_answer(status: int, content: object, headers: RawHeaders = ()) -> Answer:
    return Answer(status, (_JSON, *headers), _encode(content))


def ingress_error(status: int, message: str, headers: RawHeaders = ()) -> Answer:
    content = {"code": status, "message": message, "source": "ingress"}
    return json_answer(status, content, (_FROM_INGRESS, *headers))


def problem(status: int, message: str, headers: RawHeaders = ()) -> Problem:
    return Problem(ingress_error(status, message, headers))


def admin_error(status: int, message: str, restate_code: str | None = None) -> Answer:
    return json_answer(status, {"message": message, "restate_code": restate_code})


def failed(invocation_id: str, failure: Failure, headers: RawHeaders = ()) -> Answer:
    """A terminal error, under its own code as far as that is a status.

    Informational ones (1xx) would not end the answer; Restate sends them, and clients break.
    """
    content: dict[str, Any] = {"code": failure.code, "message": failure.message}
    if failure.metadata:
        content["metadata"] = failure.metadata
    content["source"] = "invocation"
    is_status = _STATUS_MIN <= failure.code <= _STATUS_MAX
    status = failure.code if is_status else 500
    identity = (b"x-restate-id", invocation_id.encode())
    return json_answer(status, content, (identity, _FROM_INVOCATION, *headers))


def succeeded(
    invocation_id: str, payload: bytes, content_type: str, headers: RawHeaders = ()
) -> Answer:
    identity = (b"x-restate-id", invocation_id.encode())
    if not payload:
        return Answer(200, (identity, *headers))
    return Answer(200, (identity, (b"content-type", value_of(content_type)), *headers), payload)


def value_of(text: str) -> bytes:
    """As the value of a header: what handlers say of themselves must not become another header."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown.strip().encode("latin-1", "replace")
