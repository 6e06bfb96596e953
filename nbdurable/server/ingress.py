"""The ingress: handlers called over HTTP, exactly as Restate answers.

An application of ASGI by hand: between the connection and the engine's client there is no layer
that a call does not need. A client that goes away does not cancel what it has started.

Source: restate-http-observed.md, "Ingress, general" to "Awakeables"; restate-semantics.md, 2.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from nbdurable.client.raw import Ended, RawCall, RawClient
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import Invoked, Refused
from nbdurable.core.values import Failure
from nbdurable.durations import (
    is_within_calendar,
    parse_duration,
    show_exact_time,
    show_time,
)
from nbdurable.errors import EngineClosedError, JournalDamagedError, NbdurableError
from nbdurable.sdk.flow_control import problem_with
from nbdurable.server.answers import (
    Answer,
    Problem,
    RawHeaders,
    Receive,
    Scope,
    Send,
    failed,
    ingress_error,
    json_answer,
    problem,
    succeeded,
)
from nbdurable.server.auth import Guard, headers_of
from nbdurable.server.cors import cors_headers, preflight
from nbdurable.server.inputs import closing_if_unread, read_body, validate_input
from nbdurable.server.paths import (
    ToAwakeable,
    ToHandler,
    ToHealth,
    ToInvocation,
    ToTarget,
    route_of,
)
from nbdurable.server.targets import target_of
from nbdurable.server.waiting import Waiting

logger = logging.getLogger("nbdurable.server")

# Hop by hop, or for us: the handler is told everything else (and where it was called).
_NOT_FORWARDED: Final = frozenset(
    {
        "connection",
        "expect",
        "host",
        "idempotency-key",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-restate-limit-key",
    }
)
_NOT_READY = 470
_WORKFLOW_KEY_IS_ENOUGH: Final = (
    "cannot use the idempotency key with workflow handlers. The handler invocation will already be"
    " idempotent by the workflow key itself."
)


class Ingress:
    """Stateless but for `is_closing`; on the loop that its client was made for.

    Args:
        has_codec: Values go through a codec, which whoever sends them applies.
    """

    def __init__(
        self, client: RawClient, guard: Guard, body_bytes_max: int, *, has_codec: bool = False
    ) -> None:
        self._client = client
        self._guard = guard
        self._body_bytes_max = body_bytes_max
        self._has_codec = has_codec
        self.is_closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope["headers"]
        headers = headers_of(raw)
        try:
            answer = await self._answer(scope, headers, len(raw), receive)
        except Problem as refused:
            answer = closing_if_unread(refused.answer, headers)
        except NbdurableError as error:
            # Of the engine's: what a handler raises comes as a result.
            answer = closing_if_unread(_unavailable(error), headers)
        except asyncio.CancelledError:
            if not self.is_closing:
                return
            answer = _CLOSING
        except Exception:  # border: what went wrong stays with whoever owns the process.
            logger.exception("a request could not be served: %s", scope.get("path"))
            answer = ingress_error(500, "internal error; the log of the serving process has it")
        await answer.send(send, cors_headers(self._guard, headers.get("origin")))

    async def _answer(
        self, scope: Scope, headers: dict[str, str], header_count: int, receive: Receive
    ) -> Answer:
        method: str = scope["method"]
        if method == "OPTIONS":
            return preflight(self._guard, headers, b"GET, POST")
        refusal = self._guard.refuse(headers, header_count)
        if refusal is not None:
            more = ((b"www-authenticate", b"Bearer"),) if refusal.status == 401 else ()  # noqa: PLR2004 - HTTP's.
            return closing_if_unread(ingress_error(*refusal, more), headers)
        route = route_of(scope["raw_path"].decode("ascii"), self._client.services)
        match route:
            case ToHandler():
                if method not in ("POST", "GET"):
                    raise problem(405, "method not allowed")
                return await self._to_handler(route, scope, headers, receive)
            case ToInvocation():
                _only(method, "GET")
                return await self._look(route.verb, route.invocation_id, scope)
            case ToTarget():
                _only(method, "POST")
                body = await read_body(headers, receive, self._body_bytes_max)
                invocation_id = target_of(body, self._client.services)
                if route.verb == "lookup":
                    return json_answer(200, {"invocationId": invocation_id})
                return await self._look(route.verb, invocation_id, scope)
            case ToAwakeable():
                _only(method, "POST")
                body = await read_body(headers, receive, self._body_bytes_max)
                return await self._complete_awakeable(route, body)
            case ToHealth():
                _only(method, "GET")
                return json_answer(200, {"services": list(self._client.services)})

    # -- calls and sends ----------------------------------------------------------------------

    async def _to_handler(
        self, route: ToHandler, scope: Scope, headers: dict[str, str], receive: Receive
    ) -> Answer:
        handler = route.handler
        if handler.ingress_private:
            raise problem(400, "the invoked service is not public")
        query = scope["query_string"]
        delay_ms, limit_key = self._asked(query, route, headers) if query else (None, None)
        limit_key = headers.get("x-restate-limit-key", limit_key)
        if limit_key is not None or route.target.scope is not None:
            _refuse_flow(route.target.scope, limit_key)
        idempotency_key = headers.get("idempotency-key")
        is_run = handler.type == "workflow"
        if is_run and idempotency_key is not None:
            raise problem(400, _WORKFLOW_KEY_IS_ENOUGH)
        body = await read_body(headers, receive, self._body_bytes_max)
        validate_input(handler, headers.get("content-type"), body, is_encoded=self._has_codec)
        call = RawCall(
            target=route.target,
            payload=body,
            headers=self._forwarded(headers, scope["raw_path"], query),
            idempotency_key=idempotency_key,
            limit_key=limit_key,
            start_at_ms=None if delay_ms is None else self._client.now_ms() + delay_ms,
            is_run=is_run,
        )
        if route.is_send:
            return _sent(await self._client.send(call), call.start_at_ms)
        with Waiting(scope):
            ended = await self._client.call(call)
        return _called(ended, handler.content_type)

    def _asked(
        self, query: bytes, route: ToHandler, headers: Mapping[str, str]
    ) -> tuple[int | None, str | None]:
        """What the query says: a delay, and a limit key. Everything else is ignored."""
        asked: dict[str, str] = {}
        for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
            asked.setdefault(name, value)
        limit_key = asked.get("limit-key")
        delay = asked.get("delay")
        if delay is None:
            return None, limit_key
        if not route.is_send:
            raise problem(
                400,
                "cannot use the delay query parameter with calls. The delay is supported only with"
                " sends",
            )
        try:
            delay_ms = parse_duration(delay)
            if not is_within_calendar(self._client.now_ms() + delay_ms):
                raise ValueError("it is longer than the calendar")  # noqa: TRY301 - one handler.
        except ValueError as error:
            raise problem(
                400, f"bad delay query parameter, must be a ISO8601 duration: {error}"
            ) from None
        return delay_ms, limit_key

    def _forwarded(
        self, headers: Mapping[str, str], raw_path: bytes, query: bytes
    ) -> dict[str, str]:
        forwarded = {name: headers[name] for name in headers if name not in _NOT_FORWARDED}
        if self._guard.has_token:
            # It let its sender in here; a journal is no place for it.
            forwarded.pop("authorization", None)
        path = raw_path if not query else b"%s?%s" % (raw_path, query)
        forwarded["x-restate-ingress-path"] = path.decode("latin-1")
        return forwarded

    # -- lookups ------------------------------------------------------------------------------

    async def _look(self, verb: str, invocation_id: InvocationId, scope: Scope) -> Answer:
        if verb == "output":
            found = await self._client.output(invocation_id)
            if found is True:
                raise problem(_NOT_READY, "the invocation exists but has not completed yet")
            if found is False:
                raise problem(404, "invocation not found")
            return _ended(found)
        with Waiting(scope):
            ended = await self._client.attach(invocation_id)
        if ended is None:
            # As Restate does: to whoever attaches it is the invocation that answers so.
            return failed(invocation_id, Failure(code=404, message="not found"))
        return _ended(ended)

    async def _complete_awakeable(self, route: ToAwakeable, body: bytes) -> Answer:
        if route.verb == "resolve":
            done = await self._client.resolve_awakeable(route.awakeable_id, body)
        else:
            try:
                message = body.decode()
            except UnicodeDecodeError as error:
                raise problem(400, f"the reason is not text: {error}") from None
            done = await self._client.reject_awakeable(route.awakeable_id, message)
        if isinstance(done, Refused):
            raise problem(done.code, done.message)
        return Answer(202)


# -- what comes back ----------------------------------------------------------------------------


def _called(came_to: Ended | Invoked | Refused, content_type: str) -> Answer:
    match came_to:
        case Ended():
            return _ended(came_to, content_type)
        case Invoked(invocation_id=invocation_id):
            failure = Failure(code=409, message="the workflow method was already invoked")
            return failed(invocation_id, failure)
        case Refused(code=code, message=message):
            raise problem(code, message)


def _ended(ended: Ended, content_type: str = "application/json") -> Answer:
    expires_at_ms = ended.expires_at_ms
    headers: RawHeaders = ()
    if expires_at_ms is not None:
        headers = ((b"idempotency-expires", show_time(expires_at_ms).encode()),)
    if isinstance(ended.result, Failure):
        return failed(ended.invocation_id, ended.result, headers)
    return succeeded(
        ended.invocation_id, ended.payload, ended.content_type or content_type, headers
    )


def _sent(answer: Invoked | Refused, start_at_ms: int | None) -> Answer:
    if isinstance(answer, Refused):
        raise problem(answer.code, answer.message)
    content: dict[str, str] = {"invocationId": answer.invocation_id}
    if start_at_ms is not None:
        content["executionTime"] = show_exact_time(start_at_ms)
    content["status"] = "PreviouslyAccepted" if answer.existing else "Accepted"
    return json_answer(202, content, ((b"x-restate-id", answer.invocation_id.encode()),))


# Sent, not raised: whoever waited was told nothing yet, and the invocation is unharmed.
_CLOSING: Final = ingress_error(
    503,
    "the engine is closing; the invocation goes on when it is opened again, and can be attached to",
)


def _unavailable(error: NbdurableError) -> Answer:
    if isinstance(error, EngineClosedError):
        return ingress_error(503, str(error))
    logger.error("a request could not be served: %s", error)
    if isinstance(error, JournalDamagedError):
        return ingress_error(500, "it cannot be read: the log of the serving process says why")
    return ingress_error(503, "the engine has stopped; the log of its process says why")


def _only(method: str, allowed: str) -> None:
    if method != allowed:
        raise problem(405, "method not allowed")


def _refuse_flow(scope: str | None, limit_key: str | None) -> None:
    if limit_key is not None and scope is None:
        raise problem(400, "limit-key requires a scope to be set")
    malformed = problem_with(scope, limit_key)
    if malformed is not None:
        raise problem(400, malformed)
