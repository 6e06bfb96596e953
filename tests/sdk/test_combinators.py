"""Waiting for several futures: order, and refusal of what replay could not repeat."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest

from nbdurable.errors import TerminalError
from nbdurable.sdk import (
    DurableFuture,
    DurablePromise,
    as_completed,
    gather,
    select,
    wait_completed,
)


class FakeContext:
    """Completes futures in the order it was given, one per `await_some`. Mutable: `due`."""

    def __init__(self) -> None:
        self.due: list[FakeFuture] = []

    def future(self, value: Any) -> FakeFuture:
        return FakeFuture(self, value)

    async def as_completed(
        self, futures: list[DurableFuture[Any]]
    ) -> AsyncIterator[DurableFuture[Any]]:
        assert futures, "as_completed is never called with none"
        while futures:
            completed, futures = await self.await_some(futures)
            for future in completed:
                yield future

    async def await_some(
        self, futures: list[DurableFuture[Any]]
    ) -> tuple[list[DurableFuture[Any]], list[DurableFuture[Any]]]:
        assert futures, "await_some is never called with none"
        while not any(future.is_completed() for future in futures):
            self.due.pop(0).completed = True
        completed = [future for future in futures if future.is_completed()]
        return completed, [future for future in futures if not future.is_completed()]

    async def await_all(self, futures: list[DurableFuture[Any]]) -> None:
        assert futures, "await_all is never called with none"
        while not all(future.is_completed() for future in futures):
            self.due.pop(0).completed = True


class FakeFuture(DurableFuture[Any]):
    """Mutable: `completed`."""

    def __init__(self, context: FakeContext, value: Any) -> None:
        self.context = context
        self.value = value
        self.completed = False

    def is_completed(self) -> bool:
        return self.completed

    def __await__(self) -> Generator[Any, Any, Any]:
        assert self.completed, "awaited before its turn"
        yield from ()
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def run(coroutine: Any) -> Any:
    """Run a coroutine that never waits, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine waited for something")


def test_gather_returns_the_futures_in_the_order_given() -> None:
    """The caller awaits each, and decides what a failed one means."""
    context = FakeContext()
    a, b = context.future(1), context.future(TerminalError("no"))
    context.due = [b, a]
    assert run(gather(a, b)) == [a, b]
    assert a.completed
    assert b.completed


def test_nothing_to_gather_is_nothing_to_wait_for() -> None:
    """`gather(*[])` is what a loop over no items comes to."""
    assert run(gather()) == []
    assert run(wait_completed()) == ([], [])


def test_select_returns_the_name_and_value_of_the_first() -> None:
    """So that `match` can take it apart."""
    context = FakeContext()
    answer, late = context.future("yes"), context.future(None)
    context.due = [answer]
    assert run(select(late=late, answer=answer)) == ["answer", "yes"]


def test_select_raises_what_the_first_failed_with() -> None:
    """A failure is an outcome, and it came first."""
    context = FakeContext()
    a, b = context.future(TerminalError("declined")), context.future(None)
    context.due = [a]
    with pytest.raises(TerminalError, match="declined"):
        run(select(a=a, b=b))


def test_select_of_nothing_is_refused() -> None:
    """It could never return."""
    with pytest.raises(ValueError, match="at least one future"):
        run(select())


def test_as_completed_follows_the_order_of_completion() -> None:
    """Results are worked on as they arrive."""
    context = FakeContext()
    a, b, c = (context.future(name) for name in "abc")
    context.due = [c, a, b]

    async def names() -> list[str]:
        return [await future async for future in as_completed(a, b, c)]

    assert run(names()) == ["c", "a", "b"]


def test_wait_completed_returns_at_once_what_is_completed() -> None:
    """Waiting then would let another future complete, and change the order on replay."""
    context = FakeContext()
    a, b = context.future("a"), context.future("b")
    b.completed = True
    assert run(wait_completed(a, b)) == ([b], [a])


def test_futures_of_two_contexts_are_refused() -> None:
    """One journal cannot record the order of another's events."""
    a, b = FakeContext().future(1), FakeContext().future(2)
    for waiting in (gather(a, b), wait_completed(a, b), select(a=a, b=b)):
        with pytest.raises(TerminalError, match="belong to different invocations"):
            run(waiting)


def test_other_awaitables_are_refused() -> None:
    """Their completion is in no journal."""

    class Promise(DurablePromise[Any]):
        pass

    with pytest.raises(TerminalError, match=r"str is not a future made by a ctx.*ctx\.run_typed"):
        run(gather("no future"))  # type: ignore[arg-type] # The mistake itself.
    with pytest.raises(TerminalError, match=r"pass promise\.value\(\)\.$"):
        run(select(p=Promise("review")))  # type: ignore[arg-type] # The same.
