"""What awaiting means: futures of one attempt, and promises."""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol, TypeVar

from nbdurable.core.attempt import success_of
from nbdurable.core.futures import FutureTree, Leaf
from nbdurable.core.ids import InvocationId
from nbdurable.core.values import Failure
from nbdurable.invoker.attempt import Attempt
from nbdurable.invoker.payloads import serialize
from nbdurable.invoker.report import terminal_error_of
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


class Owner(FutureContext, Protocol):
    """The context that futures belong to."""

    attempt: Attempt

    def future(self, begin: Callable[[], Leaf], serde: Serde[Any] | None) -> Future[Any]: ...

    def cancel_invocation(self, invocation_id: str) -> None: ...


class Future(DurableFuture[T]):
    """One leaf: a completion or a signal, and how its bytes are read."""

    def __init__(self, context: Owner, leaf: Leaf, serde: Serde[Any] | None) -> None:
        self.context = context
        self.handle = leaf
        self._owner = context
        self._leaf = leaf
        self._serde = serde

    def is_completed(self) -> bool:
        return self._owner.attempt.machine.is_settled(self._leaf)

    def __await__(self) -> Generator[Any, Any, T]:
        attempt = self._owner.attempt
        yield from attempt.wait(self._leaf)
        settled = attempt.machine.take(self._leaf)
        if isinstance(settled.result, Failure):
            raise terminal_error_of(settled.result)
        if self._serde is None:
            return typing.cast("T", None)
        return typing.cast("T", self._serde.deserialize(settled.payload))


class SleepFuture(Future[None], RestateDurableSleepFuture):
    pass


class CallFuture(Future[T], RestateDurableCallFuture[T]):
    def __init__(
        self, context: Owner, leaf: Leaf, serde: Serde[Any] | None, invocation_id: InvocationId
    ) -> None:
        super().__init__(context, leaf, serde)
        self._invocation_id = invocation_id

    async def invocation_id(self) -> str:
        return self._invocation_id

    async def cancel_invocation(self) -> None:
        self._owner.cancel_invocation(self._invocation_id)


class Sent(SendHandle):
    def __init__(self, context: Owner, invocation_id: InvocationId) -> None:
        self._context = context
        self._invocation_id = invocation_id

    async def invocation_id(self) -> str:
        return self._invocation_id

    async def cancel_invocation(self) -> None:
        self._context.cancel_invocation(self._invocation_id)


class StateFuture(DurableFuture[T]):
    """A read that is already there: state is shipped with the attempt."""

    def __init__(self, context: Owner, value: T) -> None:
        self.context = context
        self.handle = None
        self._owner = context
        self._value = value

    def is_completed(self) -> bool:
        return True

    def __await__(self) -> Generator[Any, Any, T]:
        yield from self._owner.attempt.check_open()
        return self._value


class Promise(DurablePromise[T]):
    def __init__(self, context: Owner, name: str, serde: Serde[T]) -> None:
        super().__init__(name, serde)
        self._context = context

    def value(self) -> RestateDurableFuture[T]:
        machine = self._context.attempt.machine
        return self._context.future(lambda: machine.get_promise(self.name), self.serde)

    def __await__(self) -> Generator[Any, Any, T]:
        return self.value().__await__()

    def peek(self) -> Awaitable[T | None]:
        machine = self._context.attempt.machine
        return self._context.future(lambda: machine.peek_promise(self.name), self.serde)

    def resolve(self, value: T) -> Awaitable[None]:
        payload = serialize(self.serde, value, f"promise {self.name!r}")
        result = success_of(payload, comparable=self.serde.canonical)
        machine = self._context.attempt.machine
        return self._context.future(
            lambda: machine.complete_promise(self.name, result, payload), None
        )

    def reject(self, message: str, code: int = 500) -> Awaitable[None]:
        result = Failure(code=code, message=message)
        machine = self._context.attempt.machine
        return self._context.future(lambda: machine.complete_promise(self.name, result, b""), None)


class AttemptFinished(AttemptFinishedEvent):
    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def is_set(self) -> bool:
        return self._attempt.finished.is_set()

    async def wait(self) -> None:
        await self._attempt.finished.wait()


class Waiting:
    """Awaits a tree without taking a value."""

    def __init__(self, attempt: Attempt, tree: FutureTree) -> None:
        self._attempt = attempt
        self._tree = tree

    def __await__(self) -> Generator[Any, None, None]:
        return self._attempt.wait(self._tree)


def leaves_of(futures: list[DurableFuture[Any]]) -> tuple[Leaf, ...]:
    return tuple(typing.cast("Leaf", future.handle) for future in futures if future.handle)
