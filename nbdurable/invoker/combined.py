"""Several futures as one, which can be part of others again.

Nothing is journaled for a combination: its outcome follows from the order in which its leaves were
settled, which is the journal's. What is waited for is a tree of the core, so that an invocation
that suspends is woken when the combination is settled, and not by every one of its leaves.

Source: restate-semantics.md, 1.3.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any, TypeVar, assert_never

from nbdurable.core.futures import (
    DEPTH_MAX,
    AllCompleted,
    AllSucceeded,
    FirstCompleted,
    FirstSucceeded,
    node,
)
from nbdurable.core.futures import FutureTree as Tree
from nbdurable.errors import ContextMisuseError, TerminalError
from nbdurable.invoker.futures import Owner, OwnFuture, Settling
from nbdurable.sdk.future import Combination

T = TypeVar("T")

_NODES: dict[
    Combination,
    type[AllCompleted | AllSucceeded | FirstCompleted | FirstSucceeded],
] = {
    "all": AllSucceeded,
    "any": FirstSucceeded,
    "race": FirstCompleted,
    "all_settled": AllCompleted,
}
TIMED_OUT_CODE = 408


class Combined(OwnFuture[Any]):
    """Losers are not cancelled: they go on, and can be awaited later."""

    def __init__(
        self, context: Owner, combination: Combination, children: tuple[OwnFuture[Any], ...]
    ) -> None:
        self.context = context
        self.what = f"{combination} of {len(children)} futures"
        self.depth = _depth_over(children)
        self.is_faithful = all(child.is_faithful for child in children)
        self._combination = combination
        self._children = children

    def settling(self) -> Settling | None:
        settled = [settling for _, settling in self._settled()]
        succeeded = [settling for settling in settled if settling.succeeded]
        failed = [settling for settling in settled if not settling.succeeded]
        is_whole = len(settled) == len(self._children)
        match self._combination:
            case "all":
                return _first(failed) or (_last(succeeded) if is_whole else None)
            case "any":
                return _first(succeeded) or (_last(failed) if is_whole else None)
            case "race":
                return _first(settled)
            case "all_settled":
                last = _last(settled) if is_whole else None
                return None if last is None else Settling(last.order, succeeded=True)
            case _:
                assert_never(self._combination)

    def tree(self) -> Tree:
        waiting = tuple(child for child in self._children if child.settling() is None)
        trees = tuple(child.tree() for child in waiting)
        if self._combination == "all_settled" or all(child.is_faithful for child in waiting):
            return node(_NODES[self._combination], trees)
        # A timeout among them fails although its tree succeeds: look again at every change.
        return node(FirstCompleted, trees)

    def __await__(self) -> Generator[Any, Any, Any]:
        settled = yield from self.settle()
        if self._combination == "all_settled":
            return list(self._children)
        if self._combination == "all" and settled.succeeded:
            return (yield from self._values().__await__())
        if self._combination == "any" and not settled.succeeded:
            raise (yield from self._all_failed().__await__())
        winner = next(child for child, settling in self._asked() if settling == settled)
        return (yield from winner.__await__())

    def _settled(self) -> list[tuple[OwnFuture[Any], Settling]]:
        asked = ((child, child.settling()) for child in self._children)
        return [(child, settling) for child, settling in asked if settling is not None]

    def _asked(self) -> list[tuple[OwnFuture[Any], Settling]]:
        return self.context.attempt.guard(self._settled)

    async def _values(self) -> list[Any]:
        return [await child for child in self._children]

    async def _all_failed(self) -> TerminalError:
        errors = []
        for child in self._children:
            try:
                await child
            except TerminalError as error:
                errors.append(error)
        codes = {error.status_code for error in errors}
        said = "; ".join(
            f"{child.what}: {error.message}"
            for child, error in zip(self._children, errors, strict=True)
        )
        code = codes.pop() if len(codes) == 1 else 500
        return TerminalError(f"none of {len(errors)} futures succeeded: {said}", code)


class Timed(OwnFuture[T]):
    """A future, or a terminal error if a durable timer is there first."""

    def __init__(
        self, context: Owner, future: OwnFuture[T], timer: OwnFuture[None], limit: timedelta
    ) -> None:
        self.context = context
        self.what = future.what
        self.depth = _depth_over((future,))
        self.is_faithful = False
        self._future = future
        self._timer = timer
        self._limit = limit

    def settling(self) -> Settling | None:
        settled, late = self._future.settling(), self._timer.settling()
        if late is None or (settled is not None and settled.order < late.order):
            return settled
        return Settling(late.order, succeeded=False)

    def tree(self) -> Tree:
        return node(FirstCompleted, (self._future.tree(), self._timer.tree()))

    def __await__(self) -> Generator[Any, Any, T]:
        settled = yield from self.settle()
        late = self.context.attempt.guard(self._timer.settling)
        if late is not None and late.order == settled.order:
            raise TerminalError(
                f"await-timeout: {self.what} was not there within {self._limit}", TIMED_OUT_CODE
            )
        return (yield from self._future.__await__())


def _first(settlings: list[Settling]) -> Settling | None:
    return min(settlings, key=lambda settling: settling.order, default=None)


def _last(settlings: list[Settling]) -> Settling:
    # Of nothing, all have succeeded before anything happened.
    nothing = Settling(-1, succeeded=True)
    return max(settlings, key=lambda settling: settling.order, default=nothing)


def _depth_over(children: tuple[OwnFuture[Any], ...]) -> int:
    depth = 1 + max((child.depth for child in children), default=0)
    if depth > DEPTH_MAX:
        raise ContextMisuseError(
            f"futures are combined {depth} levels deep, and {DEPTH_MAX} are the most that a journal"
            " holds; combine a list of futures at once instead of one with the combination so far"
        )
    return depth
