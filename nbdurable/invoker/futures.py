"""What awaiting means: futures of one attempt, and promises."""

from __future__ import annotations

import abc
import typing
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, NamedTuple, Protocol, TypeVar

from nbdurable.core.attempt import success_of
from nbdurable.core.futures import FutureTree, Leaf
from nbdurable.core.ids import InvocationId
from nbdurable.core.values import Failure, Question
from nbdurable.invoker.attempt import Attempt
from nbdurable.invoker.report import terminal_error_of
from nbdurable.invoker.wire import Wire
from nbdurable.sdk.future import (
    DurableFuture,
    DurablePromise,
    FutureContext,
    RestateDurableCallFuture,
    RestateDurableFuture,
    RestateDurableSleepFuture,
    SendHandle,
)
from nbdurable.sdk.request import AttemptFinishedEvent
from nbdurable.sdk.serde import Serde

T = TypeVar("T")


class Settling(NamedTuple):
    """When a future was settled, counted in what its attempt saw, and how."""

    order: int
    succeeded: bool


class Owner(FutureContext, Protocol):
    """The context that futures belong to."""

    attempt: Attempt
    wire: Wire

    def future(
        self, begin: Callable[[], Leaf], serde: Serde[Any] | None, what: str
    ) -> Future[Any]: ...

    def cancel_invocation(self, invocation_id: str) -> None: ...


class OwnFuture(DurableFuture[T]):
    """A future that can be part of a combination.

    `settling` and `tree` ask the machine, so they are called where the machine is: on the loop.

    Attributes:
        what: What a person calls it, e.g. "step 'charge'".
        depth: How deep combinations are nested in it.
        is_faithful: Whether its tree succeeds exactly when it does; a timeout's does not.
    """

    context: Owner
    what: str
    depth: int = 0
    is_faithful: bool = True

    @abc.abstractmethod
    def settling(self) -> Settling | None:
        """None while it is open."""

    @abc.abstractmethod
    def tree(self) -> FutureTree:
        """What to wait for while it is open: satisfied when it settles, or sooner."""

    def is_completed(self) -> bool:
        return self.context.attempt.guard(lambda: self.settling() is not None)

    def settle(self) -> Generator[Any, None, Settling]:
        """Wait until it is settled."""
        attempt = self.context.attempt
        yield from attempt.check_open()
        while (settling := attempt.guard(self.settling)) is None:
            yield from attempt.wait(attempt.guard(self.tree))
        return settling

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.what}>"


class Future(OwnFuture[T]):
    """One leaf: a completion or a signal, and how its bytes are read."""

    def __init__(self, context: Owner, leaf: Leaf, serde: Serde[Any] | None, what: str) -> None:
        self.context = context
        self.what = what
        self._leaf = leaf
        self._serde = serde

    def settling(self) -> Settling | None:
        machine = self.context.attempt.machine
        if not machine.is_settled(self._leaf):
            return None
        settled = machine.take(self._leaf)
        return Settling(settled.order, settled.succeeded)

    def tree(self) -> FutureTree:
        return self._leaf

    def __await__(self) -> Generator[Any, Any, T]:
        yield from self.settle()
        attempt = self.context.attempt
        settled = attempt.guard(lambda: attempt.machine.take(self._leaf))
        if isinstance(settled.result, Failure):
            raise terminal_error_of(settled.result)
        if self._serde is None:
            return typing.cast("T", None)
        reading = self.context.wire.read(self._serde, settled.payload)
        return typing.cast("T", (yield from reading.__await__()))


class SleepFuture(Future[None], RestateDurableSleepFuture):
    pass


class CallFuture(Future[T], RestateDurableCallFuture[T]):
    def __init__(
        self,
        context: Owner,
        leaf: Leaf,
        serde: Serde[Any] | None,
        what: str,
        invocation_id: InvocationId,
    ) -> None:
        super().__init__(context, leaf, serde, what)
        self._invocation_id = invocation_id

    async def invocation_id(self) -> str:
        return self._invocation_id

    async def cancel_invocation(self) -> None:
        self.context.cancel_invocation(self._invocation_id)


class Sent(SendHandle):
    def __init__(self, context: Owner, invocation_id: InvocationId) -> None:
        self._context = context
        self._invocation_id = invocation_id

    async def invocation_id(self) -> str:
        return self._invocation_id

    async def cancel_invocation(self) -> None:
        self._context.cancel_invocation(self._invocation_id)


class StateFuture(OwnFuture[T]):
    """A read that is already there: state is shipped with the attempt."""

    def __init__(
        self, context: Owner, read: Callable[[], Coroutine[Any, Any, T]], what: str
    ) -> None:
        self.context = context
        self.what = what
        self._read = read

    def settling(self) -> Settling:
        # Before anything that an attempt can see settle.
        return Settling(-1, succeeded=True)

    def tree(self) -> FutureTree:
        raise AssertionError("what is settled is not waited for")

    def __await__(self) -> Generator[Any, Any, T]:
        yield from self.settle()
        return (yield from self._read().__await__())


class Promise(DurablePromise[T]):
    def __init__(
        self, context: Owner, name: str, serde: Serde[T], question: Question | None = None
    ) -> None:
        super().__init__(name, serde)
        self._context = context
        self._question = question

    def value(self) -> RestateDurableFuture[T]:
        machine = self._context.attempt.machine
        return self._context.future(
            lambda: machine.get_promise(self.name, self._question),
            self.serde,
            f"promise {self.name!r}",
        )

    def __await__(self) -> Generator[Any, Any, T]:
        return self.value().__await__()

    def peek(self) -> Awaitable[T | None]:
        machine = self._context.attempt.machine
        return self._context.future(
            lambda: machine.peek_promise(self.name), self.serde, f"a look at promise {self.name!r}"
        )

    def resolve(self, value: T) -> Awaitable[None]:
        payload, comparable = self._context.wire.write(self.serde, value, f"promise {self.name!r}")
        result = success_of(payload, comparable=comparable)
        machine = self._context.attempt.machine
        return self._context.future(
            lambda: machine.complete_promise(self.name, result, payload),
            None,
            f"the completion of promise {self.name!r}",
        )

    def reject(self, message: str, code: int = 500) -> Awaitable[None]:
        result = Failure(code=code, message=message)
        machine = self._context.attempt.machine
        return self._context.future(
            lambda: machine.complete_promise(self.name, result, b""),
            None,
            f"the rejection of promise {self.name!r}",
        )


class AttemptFinished(AttemptFinishedEvent):
    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def is_set(self) -> bool:
        return self._attempt.finished.is_set()

    async def wait(self) -> None:
        await self._attempt.finished.wait()
