"""Several futures as one that can be combined again: the combinators of Restate's TypeScript SDK.

`gather` and `select` wait; these return a future and wait for nothing. They are in a class, as over
there, because `all` and `any` alone would hide Python's own.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

from nbdurable.errors import ContextMisuseError, DefinitionError
from nbdurable.sdk.combinators import own_futures
from nbdurable.sdk.context import current_context
from nbdurable.sdk.future import Combination, FutureContext, RestateDurableFuture

T = TypeVar("T")


class RestatePromise:
    """Combine futures of one ctx. Losers are not cancelled: they go on, and can be awaited later.

    ```python
    quote = RestatePromise.any(*(ctx.service_call(ask, shop) for shop in shops))
    best = await quote.or_timeout(timedelta(minutes=1))
    ```

    A combination is a future like any other: it has `.or_timeout()`, and can be given to `gather`,
    `select` and to these again.
    """

    @staticmethod
    def all(*futures: RestateDurableFuture[T]) -> RestateDurableFuture[list[T]]:
        """All values, in the order given; fails as soon as one future fails, as that one does."""
        return _combined("all", futures)

    @staticmethod
    def any(*futures: RestateDurableFuture[T]) -> RestateDurableFuture[T]:
        """The value of the first that succeeds; a `TerminalError` that names all if none does."""
        return _combined("any", futures)

    @staticmethod
    def race(*futures: RestateDurableFuture[T]) -> RestateDurableFuture[T]:
        """The value, or the failure, of the first that completes."""
        return _combined("race", futures)

    @staticmethod
    def all_settled(
        *futures: RestateDurableFuture[T],
    ) -> RestateDurableFuture[list[RestateDurableFuture[T]]]:
        """The futures themselves, when every one is completed; never fails. As `gather`."""
        return _combined("all_settled", futures)


def _combined(
    combination: Combination, futures: tuple[RestateDurableFuture[Any], ...]
) -> RestateDurableFuture[Any]:
    ours = own_futures(futures)
    if ours:
        return ours[0].context.combine(combination, ours)
    if combination in ("any", "race"):
        raise DefinitionError(f"RestatePromise.{combination}() needs at least one future")
    context = current_context()
    if context is None:
        raise ContextMisuseError(f"RestatePromise.{combination}() is for handlers")
    return cast("FutureContext", context).combine(combination, [])
