"""`connect()`: the client of an engine somewhere else, by Restate's HTTP API and nothing more.

The other side is an engine that is served, or a Restate server: what both offer is offered here,
under the names that the client of an engine in this process has for it, with the same exceptions.
For what belongs to one project (views, promises, code) join its engine: `nbdurable.open()`.

Source: restate-http-observed.md, "Ingress, general", "Awakeables", "Admin", "SQL".
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

from nbdurable.client.calls import Addressed, refuse_address
from nbdurable.client.found_json import FOUND_TYPE, found_of, question_json
from nbdurable.client.http import ERROR_STATUS_MIN, HttpClient, new_httpx_client, quoted
from nbdurable.client.query import Found, Parameters
from nbdurable.client.waited import SyncRestateClient, waited
from nbdurable.errors import (
    ConflictError,
    HttpError,
    InvocationNotFoundError,
    InvocationNotReadyError,
    LinkLostError,
    QueryError,
    TerminalError,
)
from nbdurable.sdk.codec import JournalValueCodec
from nbdurable.sdk.context import HandlerType
from nbdurable.sdk.handler import handler_from_callable
from nbdurable.sdk.serde import DEFAULT_SERDE, Serde

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

# Restate's; the admin API of an engine that is served elsewhere has to be named.
ADMIN_PORT: Final = 9070
_NOT_FOUND, _CONFLICT, _NOT_READY = 404, 409, 470
# Restate says 400 of what it cannot parse, and 500 of a table or an id that is none.
_WRONG_QUERY: Final = frozenset({400, 500})
_ALREADY_INVOKED: Final = "the workflow method was already invoked"
_JSON: Final = {"content-type": "application/json"}

# A target as Restate takes it in a body.
Named: TypeAlias = dict[str, str]


class ConnectedClient(HttpClient):
    """Calls, sends, results, and a person's verbs. Stateless but for its connections."""

    def __init__(
        self,
        ingress: httpx.AsyncClient,
        admin: httpx.AsyncClient,
        journal_value_codec: JournalValueCodec | None = None,
    ) -> None:
        super().__init__(ingress, journal_value_codec)
        self._admin = admin

    def __repr__(self) -> str:
        return f"<ConnectedClient {self._client.base_url}>"

    # -- results ------------------------------------------------------------------------------

    async def attach(self, invocation_id: str, serde: Serde[Any] = DEFAULT_SERDE) -> Any:
        """Wait for the result. Cancelling the wait leaves the invocation alone.

        Raises:
            InvocationNotFoundError: There is no such invocation.
            TerminalError: The invocation failed, was cancelled or killed.
        """
        return await self._result(f"restate/invocation/{quoted(invocation_id)}", "attach", serde)

    async def output(self, invocation_id: str, serde: Serde[Any] = DEFAULT_SERDE) -> Any:
        """The result if there is one by now, else InvocationNotReadyError."""
        return await self._result(f"restate/invocation/{quoted(invocation_id)}", "output", serde)

    async def workflow_attach(
        self,
        workflow: str | HandlerType[Any, Any],
        key: str,
        serde: Serde[Any] | None = None,
        scope: str | None = None,
    ) -> Any:
        """Wait for the result of a workflow's run."""
        of, output_serde = _run_of(workflow, key, scope)
        return await self._result(of, "attach", serde or output_serde)

    async def workflow_output(
        self,
        workflow: str | HandlerType[Any, Any],
        key: str,
        serde: Serde[Any] | None = None,
        scope: str | None = None,
    ) -> Any:
        """The result of a workflow's run if there is one by now."""
        of, output_serde = _run_of(workflow, key, scope)
        return await self._result(of, "output", serde or output_serde)

    # -- people's verbs -----------------------------------------------------------------------

    async def cancel(self, invocation_id: str) -> None:
        """The handler sees a TerminalError with code 409 at its await, and may compensate."""
        await self._tell(invocation_id, "cancel")

    async def kill(self, invocation_id: str) -> None:
        """End it now, without running any of its code."""
        await self._tell(invocation_id, "kill")

    async def pause(self, invocation_id: str) -> None:
        await self._tell(invocation_id, "pause")

    async def resume(self, invocation_id: str) -> None:
        """Try again now what is paused or backs off."""
        await self._tell(invocation_id, "resume")

    async def purge(self, invocation_id: str) -> None:
        """Forget a completed invocation; with a workflow's run, its state and promises too."""
        await self._tell(invocation_id, "purge")

    async def resolve_awakeable(
        self, awakeable_id: str, value: Any = None, serde: Serde[Any] = DEFAULT_SERDE
    ) -> None:
        payload = self._wire.write(serde, value, "awakeable's value").payload
        path = f"restate/awakeables/{quoted(awakeable_id)}/resolve"
        self._raise_for(
            await self._request(self._client, "POST", path, content=payload, headers=_JSON)
        )

    async def reject_awakeable(self, awakeable_id: str, message: str) -> None:
        path = f"restate/awakeables/{quoted(awakeable_id)}/reject"
        headers = {"content-type": "text/plain"}
        self._raise_for(
            await self._request(self._client, "POST", path, content=message, headers=headers)
        )

    # -- looking ------------------------------------------------------------------------------

    async def query(self, sql: str, parameters: Parameters | None = None) -> Found:
        """Ask one SELECT, e.g. of sys_invocation or sys_journal, in the other side's dialect.

        Args:
            sql: DuckDB's where an engine is served, DataFusion's at a Restate server.
            parameters: Values for its `?` or `$name`; a Restate server takes none.

        Raises:
            QueryError: It is refused, wrong, or too much; the text says which.
            HttpError: Not the query was refused: the token is wrong, for example.
        """
        response = await self._request(
            self._admin,
            "POST",
            "query",
            content=question_json(sql, parameters),
            # Restate reads the first alone, and wants it to be nothing but this.
            headers=[*_JSON.items(), ("accept", "application/json"), ("accept", FOUND_TYPE)],
        )
        code = response.status_code
        if code in _WRONG_QUERY:
            raise QueryError(_message_of(response))
        if code >= ERROR_STATUS_MIN:
            raise HttpError(code, _message_of(response), response.text)
        if response.headers.get("content-type", "").startswith(FOUND_TYPE):
            return found_of(response.content)
        return _found_of_rows(json.loads(response.content)["rows"])

    # -- inside -------------------------------------------------------------------------------

    async def _request(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        **more: Any,
    ) -> httpx.Response:
        """Raises LinkLostError when nobody answers, or not to the end."""
        import httpx

        try:
            return await super()._request(client, method, path, **more)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise LinkLostError(
                f"nobody answers at {client.base_url} ({_why(error)}), so nothing was asked: start"
                " the server, or correct the URL"
            ) from None
        except httpx.TransportError as error:
            raise LinkLostError(
                f"{client.base_url} went away before it had answered ({_why(error)}): what was"
                " asked may have happened or not. Look, and ask again if it has not"
            ) from None

    async def _result(self, of: str | Named, verb: str, serde: Serde[Any]) -> Any:
        response = await self._ask(of, verb)
        if verb == "attach" and _is_no_result(response):
            # Said of an invocation that never was, and by a handler that found nothing.
            response = await self._ask(of, "output")
        self._raise_for(response)
        return await self._wire.read(serde, response.content)

    async def _ask(self, of: str | Named, verb: str) -> httpx.Response:
        if isinstance(of, str):
            return await self._request(self._client, "GET", f"{of}/{verb}")
        return await self._request(self._client, "POST", f"restate/{verb}", json=of)

    async def _tell(self, invocation_id: str, verb: str) -> None:
        path = f"invocations/{quoted(invocation_id)}/{verb}"
        response = await self._request(self._admin, "PATCH", path)
        if response.status_code < ERROR_STATUS_MIN:
            return
        message = _message_of(response)
        match response.status_code:
            case 404:
                raise InvocationNotFoundError(message)
            case 409:
                raise ConflictError(message)
            case code:
                raise HttpError(code, message, response.text)

    def _raise_for(self, response: httpx.Response) -> None:
        """As an engine of this process raises it."""
        code = response.status_code
        if code < ERROR_STATUS_MIN:
            return
        message = _message_of(response)
        if response.headers.get("x-restate-error-source") == "invocation":
            if (code, message) == (_CONFLICT, _ALREADY_INVOKED):
                raise ConflictError(message)
            told = response.json()
            raise TerminalError(message, told.get("code", code), told.get("metadata"))
        if code == _NOT_READY:
            raise InvocationNotReadyError(message)
        if code == _NOT_FOUND and "invocation" in message:
            raise InvocationNotFoundError(message)
        if code == _CONFLICT:
            raise ConflictError(message)
        raise HttpError(code, message, response.text)


class SyncConnectedClient(SyncRestateClient):
    """The same for code without asyncio: each method waits and returns the value itself."""

    attach = waited(ConnectedClient.attach)
    output = waited(ConnectedClient.output)
    workflow_attach = waited(ConnectedClient.workflow_attach)
    workflow_output = waited(ConnectedClient.workflow_output)
    cancel = waited(ConnectedClient.cancel)
    kill = waited(ConnectedClient.kill)
    pause = waited(ConnectedClient.pause)
    resume = waited(ConnectedClient.resume)
    purge = waited(ConnectedClient.purge)
    resolve_awakeable = waited(ConnectedClient.resolve_awakeable)
    reject_awakeable = waited(ConnectedClient.reject_awakeable)
    query = waited(ConnectedClient.query)


class Connection:
    """What `connect()` gives. `async with` gives a `ConnectedClient`, `with` one that waits.

    Mutable while it is open: the connections, and for `with` the thread that they live on.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        admin_url: str | None,
        journal_value_codec: JournalValueCodec | None,
    ) -> None:
        self._url = url
        self._admin_url = admin_url or admin_url_of(url)
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._codec = journal_value_codec
        self._open: tuple[httpx.AsyncClient, ...] = ()
        self._thread: _LoopThread | None = None

    def __repr__(self) -> str:
        return f"<Connection to {self._url} {'open' if self._open else 'closed'}>"

    async def __aenter__(self) -> ConnectedClient:
        ingress, admin = (
            new_httpx_client(url, self._headers) for url in (self._url, self._admin_url)
        )
        self._open = (ingress, admin)
        return ConnectedClient(ingress, admin, self._codec)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        opened, self._open = self._open, ()
        for client in opened:
            await client.aclose()

    def __enter__(self) -> SyncConnectedClient:
        thread = _LoopThread()
        try:
            client = thread.wait(self.__aenter__())
        except BaseException:
            thread.close()
            raise
        self._thread = thread
        return SyncConnectedClient(thread, client)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        thread, self._thread = self._thread, None
        assert thread is not None, "it is not open"
        try:
            thread.wait(self.__aexit__(kind, error, trace))
        finally:
            thread.close()


def connect(
    url: str,
    *,
    token: str | None = None,
    admin_url: str | None = None,
    journal_value_codec: JournalValueCodec | None = None,
) -> Connection:
    """Open a client of an engine that is served, or of a Restate server.

    ```python
    async with nbdurable.connect("http://localhost:8080", token="…") as client:
        sent = await client.workflow_send(run, "order-456", {"amount": 100})
        print(await client.attach(sent.invocation_id))

    with nbdurable.connect("http://localhost:8080") as client:  # Without asyncio.
        print(client.service_call(greet, "Ada"))
    ```

    Args:
        url: Of the ingress.
        token: As its server has printed it; None where none is wanted.
        admin_url: For cancel, kill, pause, resume, purge and query; None is port 9070 of the same
            host, as Restate has it.
        journal_value_codec: The one that the services use; values go through it.

    Raises:
        ImportError: httpx is not installed: `pip install 'nbdurable[client]'`.
    """
    return Connection(url, token, admin_url, journal_value_codec)


class _LoopThread:
    """A loop on a thread of its own, for code that has none. Mutable until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="nbdurable-connect", daemon=True
        )
        self._thread.start()

    def wait(self, asked: Coroutine[Any, Any, T]) -> T:
        asking = asyncio.run_coroutine_threadsafe(asked, self._loop)
        try:
            return asking.result()
        except BaseException:
            # Interrupted: nobody will hear the answer.
            asking.cancel()
            raise

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def admin_url_of(ingress: str) -> str:
    split = urlsplit(ingress)
    host = split.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return urlunsplit((split.scheme, f"{shown}:{ADMIN_PORT}", "", "", ""))


def _run_of(
    workflow: str | HandlerType[Any, Any], key: str, scope: str | None
) -> tuple[str | Named, Serde[Any]]:
    """By a path, or by what is posted: no path of Restate's has a scope."""
    refuse_address(Addressed(key, scope=scope))
    name, serde = workflow, cast("Serde[Any]", DEFAULT_SERDE)
    if not isinstance(name, str):
        handler = handler_from_callable(name)
        name, serde = handler.service_tag.name, handler.handler_io.output_serde
    if scope is None:
        return f"restate/workflow/{quoted(name)}/{quoted(key)}", serde
    named = {"target": "workflow", "workflowName": name, "workflowKey": key, "scope": scope}
    return named, serde


def _is_no_result(response: httpx.Response) -> bool:
    return response.status_code == _NOT_FOUND and _message_of(response) == "not found"


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


def _message_of(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text or response.reason_phrase


def _found_of_rows(rows: list[dict[str, Any]]) -> Found:
    """Restate's shape, which leaves out nulls and says no types."""
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    cells = [tuple(row.get(name) for name in columns) for row in rows]
    return Found(columns, ("JSON",) * len(columns), cells, None)
