"""The admin API: what is registered, and what people do to invocations and to state.

Like Restate's, for its CLI and whatever else speaks to it, at the bare paths and under the versions
of the API that the CLI knows. Two things differ by nature: handlers live in processes, so nothing
is registered by an address; and where Restate accepts what it then drops, it is refused here.

Source: restate-http-observed.md, "Admin"; restate-semantics.md, 3.1; restate-cli-calls.md.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Router

from nbdurable.errors import (
    ConflictError,
    EngineClosedError,
    HttpError,
    InvocationNotFoundError,
    JournalDamagedError,
    NbdurableError,
    QueryError,
)
from nbdurable.server.answers import (
    Answer,
    Asgi,
    Message,
    Problem,
    RawHeaders,
    Receive,
    Scope,
    Send,
    admin_error,
)
from nbdurable.server.auth import Guard, headers_of
from nbdurable.server.cors import cors_headers, preflight
from nbdurable.server.inputs import closing_if_unread, read_body

logger = logging.getLogger("nbdurable.server")

# The versions of the API that the official CLI knows, which are alike in what is served here.
VERSION_MIN: Final = 2
VERSION_MAX: Final = 4
_VERSIONED: Final = re.compile(r"/v(\d{1,4})(?=/|$)")
_NOT_ALLOWED: Final = 405
_METHODS: Final = b"GET, POST, PATCH, PUT, DELETE"


class Admin:
    """Stateless. Asks who it is, then lets the routes answer.

    Args:
        routes: Of Starlette. What they raise is said as the admin API says it.
        links: What takes WebSockets.
    """

    def __init__(
        self, guard: Guard, body_bytes_max: int, routes: Sequence[BaseRoute], links: Asgi
    ) -> None:
        self._links = links
        self._guard = guard
        self._body_bytes_max = body_bytes_max
        self._router = Router(routes, redirect_slashes=False, default=_no_such_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._links(scope, receive, send)
            return
        raw = scope["headers"]
        headers = headers_of(raw)
        more = cors_headers(self._guard, headers.get("origin"))
        answer = self._refuse(scope, headers, len(raw))
        if answer is not None:
            await closing_if_unread(answer, headers).send(send, more)
            return
        spoken = _Spoken(send, more)
        try:
            body = await read_body(headers, receive, self._body_bytes_max)
            # In an app, Starlette raises what it would else answer itself, in plain text.
            await self._router({**_bare(scope), "app": self}, _read(body, receive), spoken)
        except asyncio.CancelledError:
            # Serving ends, or nobody is there any more to hear it.
            answer = admin_error(503, "the engine is closing; ask again when it has been opened")
        except Exception as error:  # noqa: BLE001 - border: only what it is leaves.
            is_method = isinstance(error, HTTPException) and error.status_code == _NOT_ALLOWED
            answer = self._not_allowed(_bare(scope)) if is_method else answer_of(error)
        if answer is not None and not spoken.began:
            await closing_if_unread(answer, headers).send(send, more)

    def _refuse(self, scope: Scope, headers: dict[str, str], header_count: int) -> Answer | None:
        if scope["method"] == "OPTIONS":
            return preflight(self._guard, headers, _METHODS)
        refusal = self._guard.refuse(headers, header_count)
        if refusal is not None:
            return admin_error(*refusal)
        try:
            # Starlette would read U+FFFD there, which is another key than the one that is meant.
            unquote_to_bytes(scope["query_string"]).decode()
        except UnicodeDecodeError as error:
            return admin_error(400, f"the query of the URL is not UTF-8: {error.reason}")
        match = _VERSIONED.match(scope["path"])
        if match is None or VERSION_MIN <= int(match[1]) <= VERSION_MAX:
            return None
        return admin_error(
            400 if int(match[1]) < VERSION_MIN else 404,
            f"Unsupported Admin API version V{match[1]}. This server supports versions between"
            f" V{VERSION_MIN} and V{VERSION_MAX}.",
        )

    def _not_allowed(self, scope: Scope) -> Answer:
        """Starlette names the methods of the first route alone, and a path may have several."""
        here = [each for each in self._router.routes if each.matches(scope)[0] is not Match.NONE]
        methods = {method for each in here for method in getattr(each, "methods", None) or ()}
        allowed = ", ".join(sorted(methods))
        answer = admin_error(
            _NOT_ALLOWED, f"{scope['path']} does not take {scope['method']}; it takes {allowed}"
        )
        return answer._replace(headers=(*answer.headers, (b"allow", allowed.encode())))


class _Spoken:
    """Mutable: whether an answer has begun. Adds to it what browsers want to hear."""

    def __init__(self, send: Send, more: RawHeaders) -> None:
        self._send = send
        self._more = more
        self.began = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.began = True
            message = {**message, "headers": [*message.get("headers", ()), *self._more]}
        await self._send(message)


def answer_of(error: Exception) -> Answer:
    """What the client is told of an exception, whoever raised it."""
    match error:
        case Problem():
            return error.answer
        case HttpError(status_code=code, message=message):
            return admin_error(code, message)
        case HTTPException(status_code=code, detail=detail):
            return admin_error(code, detail)
        case ConflictError() | InvocationNotFoundError() | QueryError():
            return admin_error(error.code, str(error))
        case EngineClosedError():
            return admin_error(503, str(error))
        case JournalDamagedError():
            logger.error("a request could not be served: %s", error)
            return admin_error(500, "it cannot be read: the log of the serving process says why")
        case NbdurableError():
            logger.error("a request could not be served: %s", error)
            return admin_error(503, "the engine has stopped; the log of its process says why")
        case _:
            logger.error("a request could not be served", exc_info=error)
            return admin_error(500, "internal error; the log of the serving process has it")


def _bare(scope: Scope) -> Scope:
    """Without the version, which the routes need not know of."""
    match = _VERSIONED.match(scope["path"])
    if match is None:
        return scope
    path = scope["path"][match.end() :] or "/"
    raw_path = scope["raw_path"][match.end() :] or b"/"
    return {**scope, "path": path, "raw_path": raw_path}


def _read(body: bytes, receive: Receive) -> Receive:
    """The body again, for a route that asks for it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    await admin_error(404, f"there is nothing at {scope['path']}").send(send)
