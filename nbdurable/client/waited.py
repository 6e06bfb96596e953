"""Synchronous clients: each method is an asynchronous client's, waited for.

No method is written twice, nor are its types: `waited()` gives both. What an engine's client has
besides calls and sends is in `sync`, what that of `connect()` has in `connected`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from nbdurable.client.base import RestateClient, RestateScopedClient
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


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
