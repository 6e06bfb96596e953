"""Waiting in a `def` handler, where there is no `await`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator
from typing import Any, TypeVar, cast, overload

from nbdurable.errors import ContextMisuseError
from nbdurable.sdk.context import current_context
from nbdurable.sdk.future import FutureContext

T = TypeVar("T")

_END = object()


@overload
def wait(awaitable: Awaitable[T]) -> T: ...


@overload
def wait(awaitable: AsyncIterator[T]) -> Iterator[T]: ...


def wait(awaitable: Awaitable[Any] | AsyncIterator[Any]) -> Any:
    """Wait in a `def` handler for anything that an `async def` one would await.

    A future has `.result()` for the same; this is for combinators and for what else is awaited.
    An asynchronous iterator is iterated:

    ```python
    def book(ctx: Context, trip: dict) -> list:
        flight, hotel = ctx.run_typed("flight", fly), ctx.run_typed("hotel", sleep_well)
        wait(gather(flight, hotel))
        return [future.result() for future in wait(as_completed(flight, hotel))]
    ```

    Raises:
        ContextMisuseError: This is no `def` handler.
    """
    context = current_context()
    if context is None:
        discard(awaitable)
        raise ContextMisuseError(
            "wait() is for `def` handlers, and this code is part of none; outside of handlers use"
            " the client that nbdurable.open_sync() gives"
        )
    blocking = cast("FutureContext", context)
    if isinstance(awaitable, AsyncIterator):
        return _iterate(blocking, awaitable)
    return blocking.block_on(awaitable)


def discard(awaitable: object) -> None:
    """Drop what will not be awaited; Python would warn of a coroutine, beside what matters."""
    if isinstance(awaitable, Coroutine):
        awaitable.close()


def _iterate(context: FutureContext, items: AsyncIterator[T]) -> Iterator[T]:
    async def following() -> Any:
        return await anext(items, _END)

    while (item := context.block_on(following())) is not _END:
        yield cast("T", item)
