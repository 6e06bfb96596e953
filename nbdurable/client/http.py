"""The client of an ingress: Restate's own, or that of another engine. The official SDK's calls.

httpx is imported when a client is made: `pip install 'nbdurable[client]'`.

Source: restate-semantics.md, 2 (paths, headers, answers).
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import quote

from nbdurable.client.base import RestateClient, RestateClientSendHandle
from nbdurable.client.calls import Addressed, CallingClient, refuse_address
from nbdurable.errors import HttpError, NbdurableError, SerializationError
from nbdurable.invoker.payloads import ms_of
from nbdurable.invoker.seal import Seal
from nbdurable.invoker.wire import Wire
from nbdurable.sdk.codec import JournalValueCodec
from nbdurable.sdk.handler import Handler
from nbdurable.sdk.serde import BytesSerde

if TYPE_CHECKING:
    import httpx

ERROR_STATUS_MIN = 400


class HttpClient(CallingClient):
    """Calls and sends over HTTP. What the other side refuses is an `HttpError`."""

    def __init__(
        self, client: httpx.AsyncClient, journal_value_codec: JournalValueCodec | None = None
    ) -> None:
        self._client = client
        self._wire = Wire(Seal(_no_key), journal_value_codec)

    def __repr__(self) -> str:
        return f"<HttpClient {self._client.base_url}>"

    async def call_handler(self, handler: Handler[Any, Any], arg: Any, to: Addressed) -> Any:
        written = self._wire.write_argument(handler, arg)
        service = handler.service_tag.name
        to = _typed(to, handler, written.payload)
        response = await self._post("call", service, handler.name, written.payload, None, to)
        return await self._wire.read(handler.handler_io.output_serde, response.content)

    async def send_handler(
        self, handler: Handler[Any, Any], arg: Any, send_delay: timedelta | None, to: Addressed
    ) -> RestateClientSendHandle:
        written = self._wire.write_argument(handler, arg)
        service = handler.service_tag.name
        to = _typed(to, handler, written.payload)
        return await self._send_payload(service, handler.name, written.payload, send_delay, to)

    async def generic_call(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> bytes:
        to = Addressed(key, idempotency_key, headers, scope, limit_key)
        written = self._wire.write(BytesSerde(), arg, f"argument of {handler!r}")
        response = await self._post("call", service, handler, written.payload, None, to)
        return await self._wire.decode(response.content)

    async def generic_send(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> RestateClientSendHandle:
        to = Addressed(key, idempotency_key, headers, scope, limit_key)
        written = self._wire.write(BytesSerde(), arg, f"argument of {handler!r}")
        return await self._send_payload(service, handler, written.payload, send_delay, to)

    async def _send_payload(
        self,
        service: str,
        handler: str,
        payload: bytes,
        send_delay: timedelta | None,
        to: Addressed,
    ) -> RestateClientSendHandle:
        response = await self._post("send", service, handler, payload, send_delay, to)
        answer = json.loads(response.content)
        return RestateClientSendHandle(
            answer["invocationId"],
            response.status_code,
            existing=answer.get("status") == "PreviouslyAccepted",
        )

    async def _post(
        self,
        verb: str,
        service: str,
        handler: str,
        payload: bytes,
        send_delay: timedelta | None,
        to: Addressed,
    ) -> httpx.Response:
        refuse_address(to)
        segments = [service, *(() if to.key is None else (to.key,)), handler]
        if to.scope is not None:
            segments = ["restate", "scope", to.scope, verb, *segments]
        elif verb == "send":
            segments.append("send")
        headers = dict(to.headers or {})
        if payload and not any(name.lower() == "content-type" for name in headers):
            # By name nothing is known of the handler, and most of them read JSON.
            headers["content-type"] = "application/json"
        if to.idempotency_key is not None:
            headers["idempotency-key"] = to.idempotency_key
        if to.limit_key is not None:
            headers["x-restate-limit-key"] = to.limit_key
        delay = None if send_delay is None else {"delay": f"{ms_of(send_delay)}ms"}
        path = "/".join(quoted(segment) for segment in segments)
        response = await self._request(
            self._client, "POST", path, content=payload, headers=headers, params=delay
        )
        self._raise_for(response)
        return response

    async def _request(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        **more: Any,
    ) -> httpx.Response:
        """What httpx raises goes through, for code that was written for the official client."""
        return await client.request(method, path, **more)

    def _raise_for(self, response: httpx.Response) -> None:
        """As the official client does: whatever went wrong, and wherever, is an HttpError."""
        if response.status_code >= ERROR_STATUS_MIN:
            raise HttpError(response.status_code, response.reason_phrase, response.text)


@asynccontextmanager
async def create_client(
    ingress: Optional[str] = None,
    headers: Optional[dict] = None,  # type: ignore[type-arg] # As the official one is annotated.
    journal_value_codec: Optional[JournalValueCodec] = None,
) -> AsyncGenerator[RestateClient, None]:
    """Open a client of an ingress.

    ```python
    async with create_client("http://localhost:8080") as client:
        print(await client.service_call(greet, "Ada"))
    ```

    Args:
        ingress: Its URL.
        headers: Sent with every request, e.g. `{"Authorization": "Bearer …"}`.
        journal_value_codec: The one that the services use; arguments and results go through it.

    Raises:
        HttpError: At a call: the ingress or the handler answered with an error.
    """
    if not ingress:
        raise NbdurableError(
            "create_client() needs the URL of an ingress: create_client('http://localhost:8080');"
            " the client of an engine in this process is engine.client"
        )
    async with new_httpx_client(ingress, headers) as client:
        yield HttpClient(client, journal_value_codec)


def new_httpx_client(url: str, headers: Optional[dict[str, str]]) -> httpx.AsyncClient:
    """One that waits for a handler as long as that takes."""
    try:
        import httpx
    except ImportError as error:
        raise ImportError(
            "a client over HTTP needs httpx; write: pip install 'nbdurable[client]'"
        ) from error
    timeout = httpx.Timeout(None, connect=10.0)
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout)


def _typed(to: Addressed, handler: Handler[Any, Any], payload: bytes) -> Addressed:
    """With the content type that the handler reads; what has no content has none either."""
    accept = handler.handler_io.accept
    given = {name.lower() for name in to.headers or ()}
    if not payload or "content-type" in given:
        return to
    content_type = "application/octet-stream" if "*" in accept else accept
    return to._replace(headers={"content-type": content_type, **(to.headers or {})})


def quoted(segment: str) -> str:
    """A segment stays one, whatever it holds: dots alone would climb the path."""
    return quote(segment, safe="") if segment.strip(".") else segment.replace(".", "%2E")


def _no_key() -> bytes:
    raise SerializationError(
        "is pickled, and pickles are not sent over HTTP",
        root="value",
        fix="Use JSON (the default serde) between processes.",
    )
