"""Wait for several durable futures at once, in an order that replay repeats.

The order is the journal's, not the clock's: a future completes when its notification is consumed,
which happens one at a time and only during an await. asyncio's own `gather` and `wait` know nothing
of that; use these.
"""

from __future__ import annotations

import typing
from collections.abc import AsyncIterator
from typing import Any, List, Tuple

from nbdurable.errors import DefinitionError, TerminalError
from nbdurable.sdk.future import (
    DurableFuture,
    DurablePromise,
    RestateDurableFuture,
)


async def gather(*futures: RestateDurableFuture[Any]) -> List[RestateDurableFuture[Any]]:
    """Wait for all and return the futures themselves, in the order given.

    A future that failed raises when it is awaited, not here.
    """
    ours = own_futures(futures)
    if ours:
        await ours[0].context.await_all(ours)
    return list(ours)


async def select(**kws: RestateDurableFuture[Any]) -> List[Any]:
    """Wait for the first and return `[name, value]`; the others go on.

    ```python
    match await select(answer=ctx.promise("review").value(), late=ctx.sleep(timedelta(days=1))):
        case ["answer", verdict]:
            return verdict
        case ["late", _]:
            raise TerminalError("nobody answered within a day")
    ```

    Raises:
        DefinitionError: There is no future to wait for.
        TerminalError: The first future to complete has failed.
    """
    if not kws:
        raise DefinitionError("select() needs at least one future, as in select(first=a, second=b)")
    completed, _ = await wait_completed(*kws.values())
    name = next(name for name, future in kws.items() if future is completed[0])
    return [name, await completed[0]]


async def as_completed(*futures: RestateDurableFuture[Any]) -> AsyncIterator[Any]:
    """Yield each future when it has completed, for `async for`."""
    ours = own_futures(futures)
    if ours:
        async for future in ours[0].context.as_completed(ours):
            yield future


async def wait_completed(
    *args: RestateDurableFuture[Any],
) -> Tuple[List[RestateDurableFuture[Any]], List[RestateDurableFuture[Any]]]:
    """Wait for at least one; return (completed, waiting), each in the order given."""
    ours = own_futures(args)
    if not ours:
        return [], []
    completed, waiting = await ours[0].context.await_some(ours)
    assert completed, "await_some returned before anything had completed"
    return list(completed), list(waiting)


def own_futures(futures: tuple[RestateDurableFuture[Any], ...]) -> list[DurableFuture[Any]]:
    """Refuse what replay could not repeat: futures of others, or of two contexts."""
    # Each kind is looked at once: a loop over `wait_completed` brings a thousand of one kind along.
    foreign = {kind for kind in set(map(type, futures)) if not issubclass(kind, DurableFuture)}
    if foreign:
        raise TerminalError(_foreign(next(one for one in futures if type(one) in foreign)))
    ours = typing.cast("list[DurableFuture[Any]]", list(futures))
    if any(future.context is not ours[0].context for future in ours):
        raise TerminalError(
            "These futures belong to different invocations, and only futures of one ctx can "
            "be awaited together. Make all of them with the ctx this handler was given."
        )
    return ours


def _foreign(future: object) -> str:
    if isinstance(future, DurablePromise):
        remedy = "pass promise.value()"
    else:
        remedy = "wrap other awaitables in ctx.run_typed(...), which records their outcome"
    return (
        f"{type(future).__name__} is not a future made by a ctx, so its completion is not in the "
        f"journal and replay could not repeat it: {remedy}."
    )
