"""The contexts that handlers are given: the official SDK's methods over an attempt's machine."""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any, NamedTuple, NoReturn, TypeVar
from uuid import UUID

from nbdurable.core.attempt import success_of
from nbdurable.core.commands import RunCommand
from nbdurable.core.futures import AllCompleted, FirstCompleted, Leaf
from nbdurable.core.ids import InvocationId
from nbdurable.core.notifications import CompletionNotification
from nbdurable.core.values import Failure, Success, Target
from nbdurable.invoker.attempt import Action, Attempt, is_coroutine_function
from nbdurable.invoker.futures import (
    AttemptFinished,
    CallFuture,
    Future,
    Promise,
    Sent,
    SleepFuture,
    StateFuture,
    Waiting,
    leaves_of,
)
from nbdurable.invoker.payloads import (
    argument_of,
    ms_of,
    refuse_scope,
    retry_policy_of,
    run_serde,
    serialize,
    typed,
)
from nbdurable.sdk.context import (
    DEFAULT_RUN_OPTIONS,
    Context,
    HandlerType,
    ObjectContext,
    ObjectSharedContext,
    WorkflowContext,
    WorkflowSharedContext,
)
from nbdurable.sdk.future import (
    DurableFuture,
    DurablePromise,
    RestateDurableCallFuture,
    RestateDurableFuture,
    RestateDurableSleepFuture,
    SendHandle,
)
from nbdurable.sdk.handler import Handler, handler_from_callable
from nbdurable.sdk.options import RunOptions
from nbdurable.sdk.request import Request
from nbdurable.sdk.serde import DEFAULT_SERDE, BytesSerde, Serde

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - the official SDK's name for it.
O = TypeVar("O")  # noqa: E741 - the official SDK's name for it.
P = typing.ParamSpec("P")


_OBJECT = "state belongs to a key; make it a VirtualObject or a Workflow"
_EXCLUSIVE = "shared handlers only read; write in an exclusive one, or in a workflow's run"
_HAS = {
    **dict.fromkeys(("key", "get", "state_keys"), _OBJECT),
    **dict.fromkeys(("set", "clear", "clear_all"), f"{_OBJECT}. {_EXCLUSIVE}"),
    "promise": "only workflows have promises; elsewhere use ctx.awakeable()",
}


def context_of(attempt: Attempt, handler: Handler[Any, Any]) -> Context:
    """The context that this kind of handler is given."""
    match handler.service_tag.kind, handler.kind:
        case "object", "shared":
            return ObjectSharedInvoked(attempt)
        case "object", _:
            return ObjectInvoked(attempt)
        case "workflow", "workflow":
            return WorkflowInvoked(attempt)
        case "workflow", _:
            return WorkflowSharedInvoked(attempt)
        case _:
            return Invoked(attempt)


class Invoked(Context):
    """What every handler can do, and all that a plain service's can."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self._random = Random(attempt.start.seed)  # noqa: S311 - repeatable is the point.

    # -- the invocation itself ----------------------------------------------------------------

    def __getattr__(self, name: str) -> NoReturn:
        """Asked for what this kind of handler has not: say which kind has it."""
        raise AttributeError(
            f"a handler of this kind has no ctx.{name}"
            + (f": {_HAS[name]}" if name in _HAS else "")
        )

    def request(self) -> Request:
        start = self.attempt.start
        return Request(
            id=start.invocation_id,
            headers=dict(start.headers),
            attempt_headers={},
            body=start.argument,
            attempt_finished_event=AttemptFinished(self.attempt),
            idempotency_key=start.idempotency_key,
        )

    def random(self) -> Random:
        return self._random

    def uuid(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)

    def time(self) -> RestateDurableFuture[float]:
        return self.run_typed("timestamp", lambda: self.attempt.now_ms() / 1000)

    # -- steps --------------------------------------------------------------------------------

    def run(
        self,
        name: str,
        action: Callable[..., Any],
        serde: Serde[Any] = DEFAULT_SERDE,
        max_attempts: int | None = None,
        max_retry_duration: timedelta | None = None,
        type_hint: type[Any] | None = None,
        args: tuple[Any, ...] | None = None,
    ) -> RestateDurableFuture[Any]:
        options: RunOptions[Any] = RunOptions(
            serde=serde,
            max_attempts=max_attempts,
            max_retry_duration=max_retry_duration,
            type_hint=type_hint,
        )
        return self.run_typed(name, action, options, *(args or ()))

    def run_typed(
        self,
        name: str,
        action: Callable[P, Coroutine[Any, Any, T]] | Callable[P, T],
        options: RunOptions[T] = DEFAULT_RUN_OPTIONS,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> RestateDurableFuture[T]:
        return self._step(None, name, partial(action, *args, **kwargs), options)

    def sleep(self, delta: timedelta, name: str | None = None) -> RestateDurableSleepFuture:
        wake_up_at_ms = self.attempt.now_ms() + ms_of(delta)
        leaf = self.attempt.guard(lambda: self.attempt.machine.sleep(wake_up_at_ms, name))
        return SleepFuture(self, leaf, None)

    # -- calls and sends ----------------------------------------------------------------------

    def service_call(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateDurableCallFuture[O]:
        return self._call(handler_from_callable(tpe), None, arg, idempotency_key, headers)

    def service_send(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        handler = handler_from_callable(tpe)
        return self._send(handler, None, arg, send_delay, idempotency_key, headers)

    def object_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateDurableCallFuture[O]:
        return self._call(handler_from_callable(tpe), key, arg, idempotency_key, headers)

    def object_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        handler = handler_from_callable(tpe)
        return self._send(handler, key, arg, send_delay, idempotency_key, headers)

    def workflow_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateDurableCallFuture[O]:
        return self._call(handler_from_callable(tpe), key, arg, idempotency_key, headers)

    def workflow_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        handler = handler_from_callable(tpe)
        return self._send(handler, key, arg, send_delay, idempotency_key, headers)

    def generic_call(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> RestateDurableCallFuture[bytes]:
        refuse_scope(scope, limit_key)
        target = Target(service=service, handler=handler, key=key)
        return self._call_target(
            target, arg, BytesSerde(), idempotency_key, headers, is_run=self._is_run(target)
        )

    def generic_send(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> SendHandle:
        refuse_scope(scope, limit_key)
        target = Target(service=service, handler=handler, key=key)
        return self._send_target(
            target, arg, send_delay, idempotency_key, headers, is_run=self._is_run(target)
        )

    # -- awakeables and other invocations -----------------------------------------------------

    def awakeable(
        self, serde: Serde[T] = DEFAULT_SERDE, type_hint: type[T] | None = None
    ) -> tuple[str, RestateDurableFuture[T]]:
        awakeable_id, leaf = self.attempt.guard(self.attempt.machine.awakeable)
        return awakeable_id, Future(self, leaf, typed(serde, type_hint))

    def resolve_awakeable(self, name: str, value: I, serde: Serde[I] = DEFAULT_SERDE) -> None:
        payload = serialize(serde, value, "awakeable's value")
        result = success_of(payload, comparable=serde.canonical)
        machine = self.attempt.machine
        self.attempt.guard(lambda: machine.complete_awakeable(name, result, payload))

    def reject_awakeable(self, name: str, failure_message: str, failure_code: int = 500) -> None:
        result = Failure(code=failure_code, message=failure_message)
        machine = self.attempt.machine
        self.attempt.guard(lambda: machine.complete_awakeable(name, result, b""))

    def cancel_invocation(self, invocation_id: str) -> None:
        machine = self.attempt.machine
        self.attempt.guard(lambda: machine.cancel_invocation(InvocationId(invocation_id)))

    def attach_invocation(
        self,
        invocation_id: str,
        serde: Serde[T] = DEFAULT_SERDE,
        type_hint: type[T] | None = None,
    ) -> RestateDurableFuture[T]:
        machine = self.attempt.machine
        return self.future(
            lambda: machine.attach_invocation(InvocationId(invocation_id)),
            typed(serde, type_hint),
        )

    # -- for the combinators ------------------------------------------------------------------

    async def await_any(self, futures: list[DurableFuture[Any]]) -> None:
        await Waiting(self.attempt, FirstCompleted(of=leaves_of(futures)))

    async def await_all(self, futures: list[DurableFuture[Any]]) -> None:
        await Waiting(self.attempt, AllCompleted(of=leaves_of(futures)))

    # -- inside -------------------------------------------------------------------------------

    def future(self, begin: Callable[[], Leaf], serde: Serde[Any] | None) -> Future[Any]:
        return Future(self, self.attempt.guard(begin), serde)

    def _step(
        self, key: str | None, name: str, action: partial[Any], options: RunOptions[Any]
    ) -> Future[Any]:
        serde = run_serde(options, action)
        step = Action(
            name=name,
            call=action,
            is_async=is_coroutine_function(action),
            serde=serde,
            retry=retry_policy_of(options),
        )

        def begin() -> Leaf:
            leaf = self.attempt.machine.run(name, key)
            self.attempt.will_run(leaf.id, step)
            return leaf

        return self.future(begin, serde)

    def _call(
        self,
        handler: Handler[Any, Any],
        key: str | None,
        arg: Any,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
    ) -> CallFuture[Any]:
        target = Target(service=handler.service_tag.name, handler=handler.name, key=key)
        payload = argument_of(handler, arg)
        return self._call_target(
            target,
            payload,
            handler.handler_io.output_serde,
            idempotency_key,
            headers,
            is_run=handler.kind == "workflow",
        )

    def _call_target(
        self,
        target: Target,
        payload: bytes,
        serde: Serde[Any],
        idempotency_key: str | None,
        headers: dict[str, str] | None,
        *,
        is_run: bool,
    ) -> CallFuture[Any]:
        leaf, invocation_id = self.attempt.guard(
            lambda: self.attempt.machine.call(
                target,
                payload,
                idempotency_key=idempotency_key,
                headers=headers,
                is_run=is_run,
            )
        )
        return CallFuture(self, leaf, serde, invocation_id)

    def _send(
        self,
        handler: Handler[Any, Any],
        key: str | None,
        arg: Any,
        send_delay: timedelta | None,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
    ) -> Sent:
        target = Target(service=handler.service_tag.name, handler=handler.name, key=key)
        return self._send_target(
            target,
            argument_of(handler, arg),
            send_delay,
            idempotency_key,
            headers,
            is_run=handler.kind == "workflow",
        )

    def _send_target(
        self,
        target: Target,
        payload: bytes,
        send_delay: timedelta | None,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
        *,
        is_run: bool,
    ) -> Sent:
        invoke_at_ms = None if send_delay is None else self.attempt.now_ms() + ms_of(send_delay)
        invocation_id = self.attempt.guard(
            lambda: self.attempt.machine.send(
                target,
                payload,
                invoke_at_ms=invoke_at_ms,
                idempotency_key=idempotency_key,
                headers=headers,
                is_run=is_run,
            )
        )
        return Sent(self, invocation_id)

    def _is_run(self, target: Target) -> bool:
        """Whether a handler known by name only is a workflow's run."""
        return self.attempt.is_run(target)


class ObjectSharedInvoked(Invoked, ObjectSharedContext):
    """Reads the state of its key, as it was when the attempt began."""

    def key(self) -> str:
        key = self.attempt.start.target.key
        assert key is not None, "only keyed handlers are given a context with key()"
        return key

    def get(
        self,
        name: str,
        serde: Serde[T] = DEFAULT_SERDE,
        type_hint: type[T] | None = None,
        entry_name: str | None = None,
    ) -> RestateDurableFuture[T | None]:
        machine = self.attempt.machine
        payload = self.attempt.guard(lambda: machine.get_state(name, entry_name))
        value = None if payload is None else typed(serde, type_hint).deserialize(payload)
        return StateFuture(self, value)

    def state_keys(self, entry_name: str | None = None) -> Awaitable[list[str]]:
        machine = self.attempt.machine
        return StateFuture(self, self.attempt.guard(lambda: machine.state_keys(entry_name)))


class ObjectInvoked(ObjectSharedInvoked, ObjectContext):
    """Holds the lock of its key, and so may write."""

    def set(
        self,
        name: str,
        value: T,
        serde: Serde[T] = DEFAULT_SERDE,
        entry_name: str | None = None,
    ) -> None:
        payload = serialize(serde, value, f"state {name!r}")
        machine = self.attempt.machine
        self.attempt.guard(
            lambda: machine.set_state(name, payload, entry_name, comparable=serde.canonical)
        )

    def clear(self, name: str, entry_name: str | None = None) -> None:
        self.attempt.guard(lambda: self.attempt.machine.clear_state(name, entry_name))

    def clear_all(self, entry_name: str | None = None) -> None:
        self.attempt.guard(lambda: self.attempt.machine.clear_all_state(entry_name))


class WorkflowSharedInvoked(ObjectSharedInvoked, WorkflowSharedContext):
    def promise(
        self, name: str, serde: Serde[T] = DEFAULT_SERDE, type_hint: type[T] | None = None
    ) -> DurablePromise[T]:
        return Promise(self, name, typed(serde, type_hint))


class RecordedStep(NamedTuple):
    """A step of a keyed journal. `payload` is its result, None when it has none or failed."""

    key: str
    completion_id: int
    is_open: bool
    payload: bytes | None


class WorkflowInvoked(ObjectInvoked, WorkflowSharedInvoked, WorkflowContext):
    """Runs once per key. In a keyed journal its steps are found by key, not by position."""

    def run_keyed(
        self,
        key: str,
        name: str,
        action: Callable[[], Any],
        options: RunOptions[Any] = DEFAULT_RUN_OPTIONS,
    ) -> RestateDurableFuture[Any]:
        """A step that is the same step as long as its key is, whatever comes before it."""
        assert self.attempt.start.keyed, "only a definition registered as keyed has keyed steps"
        return self._step(key, name, partial(action), options)

    def recorded_steps(self) -> list[RecordedStep]:
        """The steps this keyed journal had when the attempt began, in the order they began."""
        steps: dict[int, RecordedStep] = {}
        for _, entry, payload in self.attempt.start.journal:
            match entry:
                case RunCommand(completion_id=completion_id, step_key=str(key)):
                    steps[completion_id] = RecordedStep(
                        key, completion_id, is_open=True, payload=None
                    )
                case CompletionNotification(completion_id=completion_id, result=result):
                    known = steps.get(completion_id)
                    if known is not None:
                        value = (payload or b"") if isinstance(result, Success) else None
                        steps[completion_id] = known._replace(is_open=False, payload=value)
                case _:
                    pass
        return list(steps.values())

    def abandon_step(self, step: RecordedStep, why: str) -> None:
        """Say in the journal that a step of an earlier attempt never ended."""
        self.attempt.machine.complete_run(step.completion_id, Failure(code=500, message=why))
