"""Official futures among ours, and several of them as one.

The official SDK for Python has no combination that is a future again, and needs none for this:
nothing is journaled for one, here as there. Whoever awaits a combination waits for the next of its
leaves, which complete in the order of the journal, and looks whether that settles it. What
completed while something else was awaited counts in the order in which the futures were given.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Generator
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, TypeVar, assert_never

from nbdurable.errors import TerminalError
from nbdurable.sdk.future import (
    Combination,
    DurableFuture,
    DurablePromise,
    FutureContext,
    SendHandle,
)

T = TypeVar("T")

TIMED_OUT_CODE = 408


class Bridge(FutureContext, Protocol):
    """The ctx that futures belong to."""

    async def awaited(self, awaitable: Awaitable[T]) -> T:
        """Await something official; what it raises is raised as ours."""

    async def await_leaves(self, officials: list[Any]) -> None:
        """Return when at least one of these official futures is completed."""


class Outcome(NamedTuple):
    """What a settled future is worth."""

    value: Any = None
    error: TerminalError | None = None


class Bridged(DurableFuture[Any]):
    """A future of a handler that runs on a cluster.

    Attributes:
        what: What a person calls it, e.g. "service_call".
    """

    context: Bridge
    what: str

    @abc.abstractmethod
    async def look(self) -> Outcome | None:
        """How it is settled by now; waits for nobody."""

    @abc.abstractmethod
    def open_leaves(self) -> list[Any]:
        """The official futures that it still waits for."""

    async def is_settled(self) -> bool:
        return await self.look() is not None

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._settled().__await__()

    async def _settled(self) -> Any:
        while (outcome := await self.look()) is None:
            await self.context.await_leaves(self.open_leaves())
        if outcome.error is not None:
            raise outcome.error
        return outcome.value


class BridgedFuture(Bridged):
    """One official future."""

    def __init__(self, context: Bridge, official: Any, what: str) -> None:
        self.context = context
        self.what = what
        self.official = official

    def __getattr__(self, name: str) -> Any:
        """What only the future of a call has: the id of its invocation, and to cancel that."""
        return _translated(self.context, getattr(self.official, name))

    def is_completed(self) -> bool:
        return bool(self.official.is_completed())

    async def look(self) -> Outcome | None:
        if not self.is_completed():
            return None
        try:
            return Outcome(await self.context.awaited(self.official))
        except TerminalError as error:
            return Outcome(error=error)

    def open_leaves(self) -> list[Any]:
        return [] if self.is_completed() else [self.official]

    async def is_settled(self) -> bool:
        """Without reading its value, which may be wrong: that is for whoever awaits it."""
        return self.is_completed()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.context.awaited(self.official).__await__()


class BridgedHandle(SendHandle):
    """An official handle of what was sent."""

    def __init__(self, context: Bridge, official: Any) -> None:
        self._context = context
        self._official = official

    async def invocation_id(self) -> str:
        return str(await self._context.awaited(self._official.invocation_id()))

    async def cancel_invocation(self) -> None:
        await self._context.awaited(self._official.cancel_invocation())


class BridgedPromise(DurablePromise[Any]):
    """An official promise among ours."""

    def __init__(self, context: Bridge, official: Any) -> None:
        super().__init__(official.name, official.serde)
        self._context = context
        self._official = official

    def value(self) -> BridgedFuture:
        return self._bridged(self._official.value())

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.value().__await__()

    def peek(self) -> BridgedFuture:
        return self._bridged(self._official.peek())

    def resolve(self, value: Any) -> BridgedFuture:
        return self._bridged(self._official.resolve(value))

    def reject(self, message: str, code: int = 500) -> BridgedFuture:
        return self._bridged(self._official.reject(message, code))

    def _bridged(self, official: Any) -> BridgedFuture:
        return BridgedFuture(self._context, official, f"promise {self.name!r}")


class Composed(Bridged):
    """What is settled by others. Mutable: remembers how it was settled, once it is known."""

    def __init__(self, context: Bridge, what: str, children: tuple[Bridged, ...]) -> None:
        self.context = context
        self.what = what
        self._children = children
        # In the order in which they were found settled.
        self._settled_children: dict[Bridged, Outcome] = {}
        self._outcome: Outcome | None = None

    @abc.abstractmethod
    def outcome(self, settled: dict[Bridged, Outcome]) -> Outcome | None:
        """What those of its children that are settled make of it."""

    def is_completed(self) -> bool:
        return self._outcome is not None

    async def look(self) -> Outcome | None:
        if self._outcome is None:
            for child in self._children:
                if child in self._settled_children:
                    continue
                outcome = await child.look()
                if outcome is not None:
                    self._settled_children[child] = outcome
            self._outcome = self.outcome(self._settled_children)
        return self._outcome

    def open_leaves(self) -> list[Any]:
        waiting = (child for child in self._children if child not in self._settled_children)
        return [leaf for child in waiting for leaf in child.open_leaves()]


class Combined(Composed):
    """Losers are not cancelled: they go on, and can be awaited later."""

    def __init__(
        self, context: Bridge, combination: Combination, children: tuple[Bridged, ...]
    ) -> None:
        super().__init__(context, f"{combination} of {len(children)} futures", children)
        self._combination = combination

    def outcome(self, settled: dict[Bridged, Outcome]) -> Outcome | None:
        is_whole = all(child in settled for child in self._children)
        succeeded = [outcome for outcome in settled.values() if outcome.error is None]
        failed = [outcome for outcome in settled.values() if outcome.error is not None]
        match self._combination:
            case "all":
                values = [settled[child].value for child in self._children if child in settled]
                return next(iter(failed), Outcome(values) if is_whole else None)
            case "any":
                lost = self._all_failed(settled) if is_whole else None
                return next(iter(succeeded), lost)
            case "race":
                return next(iter(settled.values()), None)
            case "all_settled":
                return Outcome(list(self._children)) if is_whole else None
            case _:
                assert_never(self._combination)

    def _all_failed(self, settled: dict[Bridged, Outcome]) -> Outcome:
        errors = [settled[child].error for child in self._children]
        said = "; ".join(
            f"{child.what}: {error.message}"
            for child, error in zip(self._children, errors, strict=True)
            if error is not None
        )
        codes = {error.status_code for error in errors if error is not None}
        code = codes.pop() if len(codes) == 1 else 500
        return Outcome(
            error=TerminalError(f"none of {len(errors)} futures succeeded: {said}", code)
        )


class Timed(Composed):
    """A future, or a terminal error if a durable timer is there first."""

    def __init__(self, context: Bridge, future: Bridged, timer: Bridged, limit: timedelta) -> None:
        super().__init__(context, future.what, (future, timer))
        self._timer = timer
        self._limit = limit

    def outcome(self, settled: dict[Bridged, Outcome]) -> Outcome | None:
        first = next(iter(settled), None)
        if first is not self._timer:
            return None if first is None else settled[first]
        said = f"await-timeout: {self.what} was not there within {self._limit}"
        return Outcome(error=TerminalError(said, TIMED_OUT_CODE))


def _translated(context: Bridge, method: Any) -> Any:
    async def call() -> Any:
        return await context.awaited(method())

    return call
