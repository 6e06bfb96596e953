"""The clients of code without asyncio: each method is an asynchronous client's, waited for.

No method is written twice, nor are its types: `waited()` gives both. The one for `connect()` stands
beside what it is derived from, in `connected`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from nbdurable.client.base import RestateClient, RestateScopedClient
from nbdurable.client.engine import EngineClient
from nbdurable.errors import ContextMisuseError
from nbdurable.sdk.blocking import discard

P = ParamSpec("P")
T = TypeVar("T")


class Waits(Protocol):
    def wait(self, asked: Coroutine[Any, Any, T]) -> T:
        """Run something to its end from synchronous code, in any other thread."""


def waited(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]:
    """The same method of a synchronous client, which returns the value itself."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: Derived, /, *args: P.args, **kwargs: P.kwargs) -> T:
        asked: Coroutine[Any, Any, T] = getattr(self._client, name)(*args, **kwargs)
        if _is_on_a_loop():
            discard(asked)
            raise ContextMisuseError(
                f"{name}() of the synchronous client blocks, and this code runs on an"
                " event loop, which would stand still; in an `async def` use nbdurable.open() and"
                f" write: await client.{name}(…), and in a handler: await ctx.…"
            )
        return self._waits.wait(asked)

    return call


def same(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """The same method of a synchronous client, where there is nothing to wait for."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: Derived, /, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = getattr(self._client, name)(*args, **kwargs)
        return result

    return call


class Derived:
    """Of an asynchronous client, and of who can wait for what that returns."""

    def __init__(self, waits: Waits, client: RestateClient | RestateScopedClient) -> None:
        self._waits = waits
        self._client = client

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._client!r}>"


class SyncScopedClient(Derived):
    """Calls and sends within one scope."""

    service_call = waited(RestateScopedClient.service_call)
    service_send = waited(RestateScopedClient.service_send)
    object_call = waited(RestateScopedClient.object_call)
    object_send = waited(RestateScopedClient.object_send)
    workflow_call = waited(RestateScopedClient.workflow_call)
    workflow_send = waited(RestateScopedClient.workflow_send)


class SyncRestateClient(Derived):
    """Calls and sends, by handler or by name."""

    _client: RestateClient

    def scope(self, scope: str) -> SyncScopedClient:
        """Return a client whose calls and sends stay within a scope."""
        return SyncScopedClient(self._waits, self._client.scope(scope))

    service_call = waited(RestateClient.service_call)
    service_send = waited(RestateClient.service_send)
    object_call = waited(RestateClient.object_call)
    object_send = waited(RestateClient.object_send)
    workflow_call = waited(RestateClient.workflow_call)
    workflow_send = waited(RestateClient.workflow_send)
    generic_call = waited(RestateClient.generic_call)
    generic_send = waited(RestateClient.generic_send)


class SyncClient(SyncRestateClient):
    """Has the methods of an engine's client; each waits and returns the value itself.

    ```python
    with nbdurable.open_sync(services=[greeter]) as engine:
        print(engine.client.service_call(greet, "Ada"))
    ```
    """

    def __init__(self, client: EngineClient) -> None:
        super().__init__(client, client)

    attach = waited(EngineClient.attach)
    output = waited(EngineClient.output)
    workflow_attach = waited(EngineClient.workflow_attach)
    workflow_output = waited(EngineClient.workflow_output)
    cancel = waited(EngineClient.cancel)
    kill = waited(EngineClient.kill)
    pause = waited(EngineClient.pause)
    resume = waited(EngineClient.resume)
    accept_mismatch = waited(EngineClient.accept_mismatch)
    restart_as_new = waited(EngineClient.restart_as_new)
    purge = waited(EngineClient.purge)
    purge_journal = waited(EngineClient.purge_journal)
    clean_up = waited(EngineClient.clean_up)
    resolve_awakeable = waited(EngineClient.resolve_awakeable)
    reject_awakeable = waited(EngineClient.reject_awakeable)
    resolve_promise = waited(EngineClient.resolve_promise)
    reject_promise = waited(EngineClient.reject_promise)
    resolve_signal = waited(EngineClient.resolve_signal)
    reject_signal = waited(EngineClient.reject_signal)
    now_ms = same(EngineClient.now_ms)
    invocations = waited(EngineClient.invocations)
    newest_invocations = waited(EngineClient.newest_invocations)
    invocation = waited(EngineClient.invocation)
    journal = waited(EngineClient.journal)
    last_error = waited(EngineClient.last_error)
    services = waited(EngineClient.services)
    query = waited(EngineClient.query)
    export = waited(EngineClient.export)
    find = waited(EngineClient.find)
    watch = same(EngineClient.watch)
    watch_newest = same(EngineClient.watch_newest)
    register = waited(EngineClient.register)
    wait = same(EngineClient.wait)
    operator = same(EngineClient.operator)


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
