"""What a ctx call returns: something to await whose outcome is in the journal.

The public classes are the official SDK's. `DurableFuture` is what every future of ours is besides;
with `FutureContext` it is all the combinators know, so that they need not know the invoker.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Awaitable, Generator, Sequence
from datetime import timedelta
from typing import Any, Generic, Literal, Optional, Protocol, TypeAlias, TypeVar

from nbdurable.errors import ContextMisuseError
from nbdurable.sdk.serde import DEFAULT_SERDE, Serde

T = TypeVar("T")

Combination: TypeAlias = Literal["all", "any", "race", "all_settled"]
"""How several futures are one; see `RestatePromise`."""


class RestateDurableFuture(Awaitable[T], Generic[T]):
    """The outcome of a ctx call; awaiting it again gives the same outcome again."""

    @abc.abstractmethod
    def __await__(self) -> Generator[Any, Any, T]:
        """Wait; suspends the invocation if that may take long."""

    def result(self) -> T:
        """Wait in a `def` handler, as `await` does in an `async def` one.

        Raises:
            ContextMisuseError: This is no `def` handler.
        """
        raise ContextMisuseError(f"{type(self).__name__} can only be awaited")

    def or_timeout(self, delta: timedelta) -> RestateDurableFuture[T]:
        """Return a future of the same, or of a `TerminalError` with code 408 after `delta`.

        The timer is durable and begins now. What is too late is not cancelled: it goes on.
        """
        raise ContextMisuseError(f"{type(self).__name__} has no timeout")


class RestateDurableCallFuture(RestateDurableFuture[T]):
    """The result of a call, and the invocation that makes it."""

    @abc.abstractmethod
    async def invocation_id(self) -> str:
        """Return the id of the called invocation, which is known before its result."""

    @abc.abstractmethod
    async def cancel_invocation(self) -> None:
        """Ask the called invocation to stop; it may still clean up, or finish first."""


class RestateDurableSleepFuture(RestateDurableFuture[None]):
    """A durable timer: it goes on while no process runs."""

    @abc.abstractmethod
    def __await__(self) -> Generator[Any, Any, None]:
        """Wait until it is due."""


class SendHandle(abc.ABC):
    """An invocation that was sent off and is not waited for."""

    @abc.abstractmethod
    async def invocation_id(self) -> str:
        """Return the id of the sent invocation."""

    @abc.abstractmethod
    async def cancel_invocation(self) -> None:
        """Ask the sent invocation to stop."""


class DurablePromise(Generic[T]):
    """A value of one workflow run that any of its handlers sets once and any may await."""

    def __init__(self, name: str, serde: Serde[T] = DEFAULT_SERDE) -> None:
        self.name = name
        self.serde = serde

    @abc.abstractmethod
    def resolve(self, value: T) -> Awaitable[None]:
        """Set the value; a `TerminalError` with status code 409 if it was set before."""

    @abc.abstractmethod
    def reject(self, message: str, code: int = 500) -> Awaitable[None]:
        """Fail everyone who awaits it with a `TerminalError`."""

    @abc.abstractmethod
    def peek(self) -> Awaitable[Optional[T]]:
        """Return the value if it is set by now, else None; never waits for it."""

    @abc.abstractmethod
    def value(self) -> RestateDurableFuture[T]:
        """Return a future of the value, for `select` and its like."""

    @abc.abstractmethod
    def __await__(self) -> Generator[Any, Any, T]:
        """Wait for the value."""


class FutureContext(Protocol):
    """What a combinator asks of the context its futures belong to.

    The first two return once the condition holds, raise `TerminalError` (409) if the invocation is
    cancelled meanwhile, and raise `SdkInternalBaseException` to leave the attempt. Neither raises
    because a future failed: a failed future is a completed one.
    """

    async def await_some(
        self, futures: list[DurableFuture[Any]]
    ) -> tuple[Sequence[DurableFuture[Any]], Sequence[DurableFuture[Any]]]:
        """Those that are completed, at least one, and the others; never called with none."""

    async def await_all(self, futures: list[DurableFuture[Any]]) -> None:
        """Return when every one of these is completed; never called with none."""

    def as_completed(self, futures: list[DurableFuture[Any]]) -> AsyncIterator[DurableFuture[Any]]:
        """Each of these once it is completed; never called with none."""

    def combine(
        self, combination: Combination, futures: list[DurableFuture[Any]]
    ) -> DurableFuture[Any]:
        """Return several futures as one."""

    def or_timeout(self, future: DurableFuture[T], delta: timedelta) -> DurableFuture[T]:
        """Return a future that fails when it is not completed by then."""

    def block_on(self, awaitable: Awaitable[T]) -> T:
        """Wait for something in a `def` handler; `ContextMisuseError` anywhere else."""


class DurableFuture(RestateDurableFuture[T]):
    """A future of ours. Compared by identity; completes only while its context awaits.

    Attributes:
        context: Futures combine only with futures of the same context.
    """

    context: FutureContext

    @abc.abstractmethod
    def is_completed(self) -> bool:
        """Whether awaiting would return (or raise) at once. Changes only during an await."""

    def result(self) -> T:
        """Wait in a `def` handler."""
        return self.context.block_on(self)

    def or_timeout(self, delta: timedelta) -> DurableFuture[T]:
        """Fail with code 408 if this is not completed `delta` from now."""
        return self.context.or_timeout(self, delta)
