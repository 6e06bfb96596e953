"""What a handler is given as `ctx`: every durable thing it can do.

Abstract: the invoker implements it over an attempt's machine, a test over a dictionary. Names,
parameters and defaults are those of the official SDK, so that a handler moves to a cluster by
changing an import.

    Context                      request, steps, timers, calls, sends, awakeables, signals, ...
    ├── ObjectSharedContext      + key, get, state_keys
    │   └── WorkflowSharedContext    + promise
    └── ObjectContext            + key and KeyValueStore (get, set, clear, clear_all, state_keys)
        └── WorkflowContext          + promise
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from datetime import timedelta
from random import Random
from typing import Any, Optional, ParamSpec, TypeAlias, TypeVar, Union, overload
from uuid import UUID

from nbdurable.sdk.future import (
    DurablePromise,
    RestateDurableCallFuture,
    RestateDurableFuture,
    RestateDurableSleepFuture,
    SendHandle,
)
from nbdurable.sdk.options import RunOptions
from nbdurable.sdk.request import AttemptFinishedEvent, Request
from nbdurable.sdk.serde import DEFAULT_SERDE, Serde
from nbdurable.sdk.state import KeyValueStore

# Everything the official `context` module offers is found here as well.
__all__ = [
    "AttemptFinishedEvent",
    "Context",
    "DurablePromise",
    "HandlerType",
    "KeyValueStore",
    "ObjectContext",
    "ObjectSharedContext",
    "Request",
    "RestateDurableCallFuture",
    "RestateDurableFuture",
    "RestateDurableSleepFuture",
    "RunAction",
    "RunOptions",
    "ScopedContext",
    "SendHandle",
    "WorkflowContext",
    "WorkflowSharedContext",
    "current_context",
    "current_context_var",
    "executing_step_var",
]

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - the official SDK's name for an input type.
O = TypeVar("O")  # noqa: E741 - the official SDK's name for an output type.
P = ParamSpec("P")

HandlerType: TypeAlias = Union[Callable[[Any, I], Awaitable[O]], Callable[[Any], Awaitable[O]]]
RunAction: TypeAlias = Union[Callable[..., Coroutine[Any, Any, T]], Callable[..., T]]

DEFAULT_RUN_OPTIONS: RunOptions[Any] = RunOptions()


class ScopedContext(abc.ABC):
    """Calls and sends within one scope; see `Context.scope`.

    The arguments are those of `Context`, and one more: `limit_key`, of one or two levels (`tenant`
    or `tenant/user`), is counted against the limits of the scope. It is no part of the target:
    calls that differ in nothing else reach the same object.
    """

    @abc.abstractmethod
    def service_call(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateDurableCallFuture[O]:
        """Call a service's handler and wait for its result."""

    @abc.abstractmethod
    def service_send(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        send_delay: Optional[timedelta] = None,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        """Start a service's handler and do not wait for it."""

    @abc.abstractmethod
    def object_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateDurableCallFuture[O]:
        """Call an object's handler and wait for its result; exclusive ones queue by key."""

    @abc.abstractmethod
    def object_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: Optional[timedelta] = None,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        """Start an object's handler and do not wait for it."""

    @abc.abstractmethod
    def workflow_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateDurableCallFuture[O]:
        """Call a workflow's handler and wait for its result; the main one runs once per key."""

    @abc.abstractmethod
    def workflow_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: Optional[timedelta] = None,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        """Start a workflow's handler and do not wait for it."""


class Context(abc.ABC):
    """What every handler can do.

    `headers` travel with the invocation. A second call or send with the same `idempotency_key` to
    the same handler finds the first one's invocation instead of starting another. `send_delay`
    starts the invocation no earlier than that from now.
    """

    @abc.abstractmethod
    def request(self) -> Request:
        """Return what this invocation was started with."""

    @abc.abstractmethod
    def scope(self, scope: str) -> ScopedContext:
        """Return a context whose calls and sends stay within a scope.

        A scope is part of what a call addresses: the object `cart/42` of one scope is another than
        that of no scope or another one, with other state, and so is an idempotency key.

        Args:
            scope: 1 to 36 letters, digits, `_`, `.` and `-`.

        Raises:
            TerminalError: 400, it cannot be a scope.
        """

    @abc.abstractmethod
    def random(self) -> Random:
        """Return a generator seeded by the invocation: replay draws the same numbers."""

    @abc.abstractmethod
    def uuid(self) -> UUID:
        """Return an id that replay makes again; good as an idempotency key for others."""

    @abc.abstractmethod
    def time(self) -> RestateDurableFuture[float]:
        """Return seconds since 1970-01-01 UTC, read once and then recorded."""

    @overload
    @abc.abstractmethod
    def run(
        self,
        name: str,
        action: Callable[..., Coroutine[Any, Any, T]],
        serde: Serde[T] = DEFAULT_SERDE,
        max_attempts: Optional[int] = None,
        max_retry_duration: Optional[timedelta] = None,
        type_hint: Optional[type[T]] = None,
        args: Optional[tuple[Any, ...]] = None,
    ) -> RestateDurableFuture[T]: ...

    @overload
    @abc.abstractmethod
    def run(
        self,
        name: str,
        action: Callable[..., T],
        serde: Serde[T] = DEFAULT_SERDE,
        max_attempts: Optional[int] = None,
        max_retry_duration: Optional[timedelta] = None,
        type_hint: Optional[type[T]] = None,
        args: Optional[tuple[Any, ...]] = None,
    ) -> RestateDurableFuture[T]: ...

    @abc.abstractmethod
    def run(
        self,
        name: str,
        action: RunAction[T],
        serde: Serde[T] = DEFAULT_SERDE,
        max_attempts: Optional[int] = None,
        max_retry_duration: Optional[timedelta] = None,
        type_hint: Optional[type[T]] = None,
        args: Optional[tuple[Any, ...]] = None,
    ) -> RestateDurableFuture[T]:
        """Do something outside the journal, and record its result as a step.

        **Steps are at-least-once, their record is exactly-once.** A process that dies between the
        action and its record runs the action again; a step whose result is recorded never runs
        again. Give the outside world something to recognise a repetition by, such as `ctx.uuid()`.

        **`finally` blocks run at every suspension**, not only at the end: use them to free sockets
        and locks. Undo belongs under `except TerminalError`, which is raised only when the
        invocation (or the step) has failed for good or was cancelled.

        Inside the action `ctx` must not be used: the action is not replayed, its commands would be.

        `run_typed` does the same and passes arguments in a way type checkers follow.

        Args:
            name: Names the entry; replay compares it.
            action: `async def` or `def`, called with `args`.
            serde: Writes and reads the result.
            max_attempts: Runs in all, the first included; None for no limit.
            max_retry_duration: No new run begins after this; None for no limit.
            type_hint: Type of the result, for the default serde; None takes the action's return
                annotation.
            args: Positional arguments of the action.

        Raises:
            TerminalError: On await: the action raised one, or ran out of attempts or time.
            SerializationError: The result does not fit the serde.
        """

    @overload
    @abc.abstractmethod
    def run_typed(
        self,
        name: str,
        action: Callable[P, Coroutine[Any, Any, T]],
        options: RunOptions[T] = DEFAULT_RUN_OPTIONS,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> RestateDurableFuture[T]: ...

    @overload
    @abc.abstractmethod
    def run_typed(
        self,
        name: str,
        action: Callable[P, T],
        options: RunOptions[T] = DEFAULT_RUN_OPTIONS,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> RestateDurableFuture[T]: ...

    @abc.abstractmethod
    def run_typed(
        self,
        name: str,
        action: Union[Callable[P, Coroutine[Any, Any, T]], Callable[P, T]],
        options: RunOptions[T] = DEFAULT_RUN_OPTIONS,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> RestateDurableFuture[T]:
        """Record a step, as `run` does: at-least-once, its record exactly-once.

        `await ctx.run_typed("charge", charge, RunOptions(max_attempts=3), card=card)`. Arguments
        for the action need options before them, even if they are only `RunOptions()`, unless all
        are passed by name.
        """

    @abc.abstractmethod
    def sleep(self, delta: timedelta, name: Optional[str] = None) -> RestateDurableSleepFuture:
        """Wait for a while that no crash shortens or starts anew; long waits cost no process."""

    @abc.abstractmethod
    def service_call(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateDurableCallFuture[O]:
        """Call a service's handler and wait for its result."""

    @abc.abstractmethod
    def service_send(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        send_delay: Optional[timedelta] = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        """Start a service's handler and do not wait for it."""

    @abc.abstractmethod
    def object_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateDurableCallFuture[O]:
        """Call an object's handler and wait for its result; exclusive ones queue by key."""

    @abc.abstractmethod
    def object_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: Optional[timedelta] = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        """Start an object's handler and do not wait for it."""

    @abc.abstractmethod
    def workflow_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateDurableCallFuture[O]:
        """Call a workflow's handler and wait for its result; the main one runs once per key."""

    @abc.abstractmethod
    def workflow_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: Optional[timedelta] = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        """Start a workflow's handler and do not wait for it."""

    @abc.abstractmethod
    def generic_call(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: Optional[str] = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> RestateDurableCallFuture[bytes]:
        """Call by name, with bytes in and out, where the handler's code is not at hand.

        For `scope` and `limit_key`, which needs a scope, see `Context.scope`.
        """

    @abc.abstractmethod
    def generic_send(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: Optional[str] = None,
        send_delay: Optional[timedelta] = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> SendHandle:
        """Start by name, with bytes in, where the handler's code is not at hand.

        For `scope` and `limit_key`, which needs a scope, see `Context.scope`.
        """

    @abc.abstractmethod
    def awakeable(
        self,
        serde: Serde[T] = DEFAULT_SERDE,
        type_hint: Optional[type[T]] = None,
    ) -> tuple[str, RestateDurableFuture[T]]:
        """Return an id to hand to the outside world, and the future it completes."""

    @abc.abstractmethod
    def resolve_awakeable(self, name: str, value: I, serde: Serde[I] = DEFAULT_SERDE) -> None:
        """Complete another invocation's awakeable; `name` is the id it was given."""

    @abc.abstractmethod
    def reject_awakeable(self, name: str, failure_message: str, failure_code: int = 500) -> None:
        """Fail another invocation's awakeable with a `TerminalError`."""

    @abc.abstractmethod
    def signal(
        self,
        name: str,
        serde: Serde[T] = DEFAULT_SERDE,
        type_hint: Optional[type[T]] = None,
    ) -> RestateDurableFuture[T]:
        """Return a future of the next value that somebody sends to this invocation by this name.

        Values are kept in the order they came, also those that came before anybody waited; each
        call takes the next one.
        """

    @abc.abstractmethod
    def resolve_signal(
        self, invocation_id: str, name: str, value: I, serde: Serde[I] = DEFAULT_SERDE
    ) -> None:
        """Send a value to another invocation by name; one that has ended does not hear it."""

    @abc.abstractmethod
    def reject_signal(
        self, invocation_id: str, name: str, failure_message: str, failure_code: int = 500
    ) -> None:
        """Send a failure: whoever waits for it there gets a `TerminalError`."""

    @abc.abstractmethod
    def cancel_invocation(self, invocation_id: str) -> None:
        """Ask an invocation to stop: its next await raises a `TerminalError` with code 409."""

    @abc.abstractmethod
    def attach_invocation(
        self,
        invocation_id: str,
        serde: Serde[T] = DEFAULT_SERDE,
        type_hint: Optional[type[T]] = None,
    ) -> RestateDurableFuture[T]:
        """Wait for the result of an invocation that someone else has started."""


class ObjectContext(Context, KeyValueStore):
    """In an object's exclusive handler: the only one that runs for its key, so it may write."""

    @abc.abstractmethod
    def key(self) -> str:
        """Return the key this invocation was addressed to."""


class ObjectSharedContext(Context):
    """In an object's shared handler: runs beside others of its key, so it only reads."""

    @abc.abstractmethod
    def key(self) -> str:
        """Return the key this invocation was addressed to."""

    @abc.abstractmethod
    def get(
        self,
        name: str,
        serde: Serde[T] = DEFAULT_SERDE,
        type_hint: Optional[type[T]] = None,
        entry_name: Optional[str] = None,
    ) -> RestateDurableFuture[Optional[T]]:
        """Return the value as it is now, or None; the next read may see another."""

    @abc.abstractmethod
    def state_keys(self, entry_name: Optional[str] = None) -> Awaitable[list[str]]:
        """Return the names that have a value now."""


class WorkflowContext(ObjectContext):
    """In a workflow's main handler, which runs once per key."""

    @abc.abstractmethod
    def promise(
        self,
        name: str,
        serde: Serde[T] = DEFAULT_SERDE,
        type_hint: Optional[type[T]] = None,
    ) -> DurablePromise[T]:
        """Return this run's promise of that name; it exists as soon as it is named."""


class WorkflowSharedContext(ObjectSharedContext):
    """In a workflow's other handlers, which talk to the run while it goes on and after."""

    @abc.abstractmethod
    def promise(
        self,
        name: str,
        serde: Serde[T] = DEFAULT_SERDE,
        type_hint: Optional[type[T]] = None,
    ) -> DurablePromise[T]:
        """Return this run's promise of that name; it exists as soon as it is named."""


current_context_var: ContextVar[Context | None] = ContextVar("nbdurable_context", default=None)
"""Set by the invoker in the task that drives an attempt, and by nobody else."""

executing_step_var: ContextVar[str | None] = ContextVar("nbdurable_step", default=None)
"""The step that this code is part of. Set around its action, inherited by what it starts."""


def current_context() -> Context | None:
    """Return the ctx of the handler this code runs in, or None outside of one."""
    return current_context_var.get()
