"""The client of code without asyncio, derived from the asynchronous one: each method is the same.

The one place where a synchronous twin could be written, and where none is.
"""

# What is derived has the types of what it is derived from, which no annotation can say.
from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from nbdurable.client.base import RestateClient, RestateScopedClient
from nbdurable.errors import ContextMisuseError
from nbdurable.sdk.blocking import discard

T = TypeVar("T")

# These return a client, which has to be derived as well.
_CLIENT_OF_A_PART = ("scope", "without_codec")


class Waits(Protocol):
    def wait(self, asked: Coroutine[Any, Any, T]) -> T:
        """Run something to its end from synchronous code, in any other thread."""


class SyncClient:
    """Has the methods of the asynchronous client; each waits and returns the value itself.

    ```python
    with nbdurable.open_sync(services=[greeter]) as engine:
        print(engine.client.service_call(greet, "Ada"))
    ```
    """

    def __init__(
        self,
        client: Waits,
        derived_from: RestateClient | RestateScopedClient | None = None,
    ) -> None:
        """`derived_from` is whose methods these are, if not the client's: a scope's, for one."""
        self._waits = client
        self._client = client if derived_from is None else derived_from

    def __repr__(self) -> str:
        return f"<SyncClient of {self._client!r}>"

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._client) if not name.startswith("_")]

    def __getattr__(self, name: str) -> Any:
        """The asynchronous client's method of this name, waited for."""
        if name.startswith("_"):
            raise AttributeError(name)
        attribute = getattr(self._client, name)
        if inspect.iscoroutinefunction(attribute):
            return _waited_for(self._waits, attribute)
        if name in _CLIENT_OF_A_PART:
            return lambda *args: SyncClient(self._waits, attribute(*args))
        return attribute


def _waited_for(client: Waits, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        asked = method(*args, **kwargs)
        if _is_on_a_loop():
            discard(asked)
            raise ContextMisuseError(
                f"{method.__name__}() of the synchronous client blocks, and this code runs on an"
                " event loop, which would stand still; in an `async def` use nbdurable.open() and"
                f" write: await client.{method.__name__}(…), and in a handler: await ctx.…"
            )
        return client.wait(asked)

    return call


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
