"""The contexts that handlers are given: the official SDK's methods over an attempt's machine."""

from __future__ import annotations

import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any, NamedTuple, NoReturn, TypeVar
from uuid import UUID

from nbdurable.core.attempt import Phase, success_of
from nbdurable.core.commands import RunCommand
from nbdurable.core.futures import Completion, Leaf
from nbdurable.core.ids import InvocationId
from nbdurable.core.notifications import CompletionNotification
from nbdurable.core.values import Failure, Result
from nbdurable.errors import ArgumentError, ContextKindError
from nbdurable.invoker.action import Action, is_coroutine_function
from nbdurable.invoker.attempt import Attempt
from nbdurable.invoker.calls import Calls, ScopedInvoked
from nbdurable.invoker.combined import Combined, Timed
from nbdurable.invoker.completions import Left, one_by_one
from nbdurable.invoker.futures import (
    AttemptFinished,
    Future,
    OwnFuture,
    Promise,
    SleepFuture,
    StateFuture,
)
from nbdurable.invoker.misuse import check_use, on_own_thread, refuse_step
from nbdurable.invoker.payloads import ms_of, retry_policy_of, run_serde, typed
from nbdurable.invoker.questions import question_of
from nbdurable.invoker.wire import Wire
from nbdurable.sdk.addressing import problem_with_text
from nbdurable.sdk.context import (
    DEFAULT_RUN_OPTIONS,
    Context,
    HandlerType,
    ObjectContext,
    ObjectSharedContext,
    ScopedContext,
    WorkflowContext,
    WorkflowSharedContext,
)
from nbdurable.sdk.future import (
    Combination,
    DurableFuture,
    DurablePromise,
    RestateDurableCallFuture,
    RestateDurableFuture,
    SendHandle,
)
from nbdurable.sdk.handler import Handler
from nbdurable.sdk.options import RunOptions
from nbdurable.sdk.request import Request
from nbdurable.sdk.serde import DEFAULT_SERDE, Serde

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


def context_of(attempt: Attempt, handler: Handler[Any, Any], wire: Wire) -> Invoked:
    """The context that this kind of handler is given."""
    match handler.service_tag.kind, handler.kind:
        case "object", "shared":
            return ObjectSharedInvoked(attempt, wire)
        case "object", _:
            return ObjectInvoked(attempt, wire)
        case "workflow", "workflow":
            return WorkflowInvoked(attempt, wire)
        case "workflow", _:
            return WorkflowSharedInvoked(attempt, wire)
        case _:
            return Invoked(attempt, wire)


class Invoked(Context):
    """What every handler can do, and all that a plain service's can."""

    def __init__(self, attempt: Attempt, wire: Wire) -> None:
        self.attempt = attempt
        self.wire = wire
        self.extension_data: dict[str, Any] = {}
        self._seeded: Random | None = None
        # Of the last `wait_completed`, since the next one mostly waits for these.
        self._left: Left | None = None

    @property
    def _calls(self) -> Calls:
        # Made anew: kept, the two would hold each other, and with them all of the attempt.
        return Calls(self)

    # -- the invocation itself ----------------------------------------------------------------

    def __getattr__(self, name: str) -> NoReturn:
        """Asked for what this kind of handler has not: say which kind has it."""
        raise ContextKindError(
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
            scope=start.target.scope,
            limit_key=start.limit_key,
            idempotency_key=start.idempotency_key,
        )

    @property
    def is_replaying(self) -> bool:
        """Whether the code has been here before; `RestateLoggingFilter` mutes logs meanwhile."""
        return self.attempt.machine.phase is Phase.REPLAYING

    @property
    def is_blocking(self) -> bool:
        """Whether this is the thread of a `def` handler, which waits by blocking."""
        return on_own_thread(self.attempt)

    @property
    def _random(self) -> Random:
        if self._seeded is None:
            self._seeded = Random(self.attempt.start.seed)  # noqa: S311 - repeatable is the point.
        return self._seeded

    def random(self) -> Random:
        check_use(self.attempt)
        return self._random

    def uuid(self) -> UUID:
        check_use(self.attempt)
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
        refuse_step(name, action, options)
        return self._step(None, name, partial(action, *args, **kwargs), options)

    def sleep(self, delta: timedelta, name: str | None = None) -> SleepFuture:
        wake_up_at_ms = self.attempt.now_ms() + ms_of(delta)
        leaf = self.attempt.guard(lambda: self.attempt.machine.sleep(wake_up_at_ms, name))
        return SleepFuture(self, leaf, None, f"a sleep of {delta}")

    # -- calls and sends ----------------------------------------------------------------------

    def scope(self, scope: str) -> ScopedContext:
        return ScopedInvoked(self, scope)

    def service_call(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateDurableCallFuture[O]:
        return self._calls.call(tpe, None, arg, idempotency_key, headers)

    def service_send(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        return self._calls.send(tpe, None, arg, send_delay, idempotency_key, headers)

    def object_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateDurableCallFuture[O]:
        return self._calls.call(tpe, key, arg, idempotency_key, headers)

    def object_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        return self._calls.send(tpe, key, arg, send_delay, idempotency_key, headers)

    def workflow_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateDurableCallFuture[O]:
        return self._calls.call(tpe, key, arg, idempotency_key, headers)

    def workflow_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        return self._calls.send(tpe, key, arg, send_delay, idempotency_key, headers)

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
        return Calls(self, scope).call_by_name(
            service, handler, key, arg, idempotency_key, headers, limit_key
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
        return Calls(self, scope).send_by_name(
            service, handler, key, arg, send_delay, idempotency_key, headers, limit_key
        )

    # -- awakeables, signals and other invocations --------------------------------------------

    def awakeable(
        self, serde: Serde[T] = DEFAULT_SERDE, type_hint: type[T] | None = None
    ) -> tuple[str, RestateDurableFuture[T]]:
        question, serde = question_of(type_hint), typed(serde, type_hint)
        machine = self.attempt.machine
        awakeable_id, leaf = self.attempt.guard(lambda: machine.awakeable(question=question))
        return awakeable_id, Future(self, leaf, serde, f"awakeable {awakeable_id}")

    def approval(
        self, name: str, type_hint: Any, title: str | None, context: Any
    ) -> RestateDurableFuture[Any]:
        question, serde = question_of(type_hint, title, context), typed(DEFAULT_SERDE, type_hint)
        machine = self.attempt.machine
        _, leaf = self.attempt.guard(lambda: machine.awakeable(name, question))
        return Future(self, leaf, serde, f"approval {name!r}")

    def resolve_awakeable(self, name: str, value: I, serde: Serde[I] = DEFAULT_SERDE) -> None:
        payload, comparable = self.wire.write(serde, value, "awakeable's value")
        result = success_of(payload, comparable=comparable)
        machine = self.attempt.machine
        self.attempt.guard(lambda: machine.complete_awakeable(name, result, payload))

    def reject_awakeable(self, name: str, failure_message: str, failure_code: int = 500) -> None:
        result = Failure(code=failure_code, message=failure_message)
        machine = self.attempt.machine
        self.attempt.guard(lambda: machine.complete_awakeable(name, result, b""))

    def signal(
        self, name: str, serde: Serde[T] = DEFAULT_SERDE, type_hint: type[T] | None = None
    ) -> RestateDurableFuture[T]:
        problem = problem_with_text("a signal's name", name)
        if problem is not None:
            raise ArgumentError(problem)
        machine = self.attempt.machine
        serde = typed(serde, type_hint)
        return self.future(lambda: machine.signal(name), serde, f"signal {name!r}")

    def resolve_signal(
        self, invocation_id: str, name: str, value: I, serde: Serde[I] = DEFAULT_SERDE
    ) -> None:
        payload, comparable = self.wire.write(serde, value, f"signal {name!r}")
        self._send_signal(invocation_id, name, success_of(payload, comparable=comparable), payload)

    def reject_signal(
        self, invocation_id: str, name: str, failure_message: str, failure_code: int = 500
    ) -> None:
        failure = Failure(code=failure_code, message=failure_message)
        self._send_signal(invocation_id, name, failure, b"")

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
            f"the result of {invocation_id}",
        )

    # -- for the combinators ------------------------------------------------------------------

    async def await_some(
        self, futures: list[DurableFuture[Any]]
    ) -> tuple[list[OwnFuture[Any]], list[OwnFuture[Any]]]:
        ours = _own(futures)
        left = self._left
        if left is None or left.futures != list(ours):
            left = self._left = Left(self.attempt, ours)
        return await left.completed(), left.futures

    async def await_all(self, futures: list[DurableFuture[Any]]) -> None:
        await _Settling(self.combine("all_settled", futures))

    def as_completed(self, futures: list[DurableFuture[Any]]) -> AsyncIterator[OwnFuture[Any]]:
        return one_by_one(self.attempt, _own(futures))

    def combine(self, combination: Combination, futures: list[DurableFuture[Any]]) -> Combined:
        return Combined(self, combination, _own(futures))

    def or_timeout(self, future: DurableFuture[T], delta: timedelta) -> DurableFuture[T]:
        (timed,) = _own([future])
        return Timed(self, timed, self.sleep(delta, f"timeout of {timed.what}"), delta)

    def block_on(self, awaitable: Awaitable[T]) -> T:
        """Wait in a `def` handler; `nbdurable.wait` says it for the handler's own ctx."""
        return self.attempt.block_on(awaitable)

    # -- inside -------------------------------------------------------------------------------

    def future(self, begin: Callable[[], Leaf], serde: Serde[Any] | None, what: str) -> Future[Any]:
        return Future(self, self.attempt.guard(begin), serde, what)

    def _send_signal(self, invocation_id: str, name: str, result: Result, payload: bytes) -> None:
        to = InvocationId(invocation_id)
        machine = self.attempt.machine
        self.attempt.guard(lambda: machine.send_signal(to, name, result, payload))

    def _step(
        self, key: str | None, name: str, action: partial[Any], options: RunOptions[Any]
    ) -> Future[Any]:
        serde = run_serde(options, action)
        step = Action(
            name=name,
            call=action,
            is_async=is_coroutine_function(action),
            write=lambda value: self.wire.write(serde, value, "result"),
            retry=retry_policy_of(options),
            timeout=getattr(options, "timeout", None),
        )
        # What a codec hides in values must not stand in the clear beside them.
        arguments = None if self.wire.codec else getattr(options, "arguments", None)

        def begin() -> Leaf:
            leaf = self.attempt.machine.run(name, key, arguments)
            self.attempt.will_run(leaf.id, step)
            return leaf

        return self.future(begin, serde, f"step {name!r}")


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
        serde = typed(serde, type_hint)

        async def read() -> T | None:
            return None if payload is None else await self.wire.read(serde, payload)

        return StateFuture(self, read, f"state {name!r}")

    def state_keys(self, entry_name: str | None = None) -> Awaitable[list[str]]:
        machine = self.attempt.machine
        keys = self.attempt.guard(lambda: machine.state_keys(entry_name))

        async def read() -> list[str]:
            return keys

        return StateFuture(self, read, "the names of state")


class ObjectInvoked(ObjectSharedInvoked, ObjectContext):
    """Holds the lock of its key, and so may write."""

    def set(
        self,
        name: str,
        value: T,
        serde: Serde[T] = DEFAULT_SERDE,
        entry_name: str | None = None,
    ) -> None:
        payload, comparable = self.wire.write(serde, value, f"state {name!r}")
        machine = self.attempt.machine
        self.attempt.guard(
            lambda: machine.set_state(name, payload, entry_name, comparable=comparable)
        )

    def clear(self, name: str, entry_name: str | None = None) -> None:
        self.attempt.guard(lambda: self.attempt.machine.clear_state(name, entry_name))

    def clear_all(self, entry_name: str | None = None) -> None:
        self.attempt.guard(lambda: self.attempt.machine.clear_all_state(entry_name))


class WorkflowSharedInvoked(ObjectSharedInvoked, WorkflowSharedContext):
    def promise(
        self, name: str, serde: Serde[T] = DEFAULT_SERDE, type_hint: type[T] | None = None
    ) -> DurablePromise[T]:
        return Promise(self, name, typed(serde, type_hint), question_of(type_hint))

    def approval(
        self, name: str, type_hint: Any, title: str | None, context: Any
    ) -> RestateDurableFuture[Any]:
        serde = typed(DEFAULT_SERDE, type_hint)
        return Promise(self, name, serde, question_of(type_hint, title, context)).value()


class RecordedStep(NamedTuple):
    """A step of a keyed journal. `payload` is its result, None when it has none or failed.

    `failure` is that of one which failed, or was abandoned.
    """

    key: str
    completion_id: int
    is_open: bool
    payload: bytes | None
    failure: Failure | None = None


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
                        failure = result if isinstance(result, Failure) else None
                        value = (payload or b"") if failure is None else None
                        steps[completion_id] = known._replace(
                            is_open=False, payload=value, failure=failure
                        )
                case _:
                    pass
        return list(steps.values())

    def abandon_step(self, step: RecordedStep, why: str) -> None:
        """Say in the journal that a step of an earlier attempt never ended."""
        self.attempt.machine.complete_run(step.completion_id, Failure(code=500, message=why))

    async def watch(self, futures: list[RestateDurableFuture[Any]]) -> None:
        """Wait until one of them is completed, or to be cancelled; never suspend meanwhile.

        For a task beside the handler, which is at other work.
        """
        self.attempt.stays = True
        try:
            if futures:
                ours = typing.cast("list[DurableFuture[Any]]", futures)
                await _Settling(self.combine("race", ours))
            else:
                await _Nothing(self.attempt)
        finally:
            self.attempt.stays = False

    def suspend(self, futures: list[RestateDurableFuture[Any]]) -> None:
        """Suspend until one of them is completed; the next `await` of anything durable raises."""
        combined = self.combine("race", typing.cast("list[DurableFuture[Any]]", futures))
        self.attempt.suspend(self.attempt.guard(combined.tree))


class _Nothing:
    """Awaits what never comes; being cancelled does."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def __await__(self) -> Generator[Any, None, None]:
        # The first completion of an attempt is 1.
        yield from self._attempt.wait(Completion(id=0))


class _Settling:
    """Awaits a combination without taking its value."""

    def __init__(self, combined: Combined) -> None:
        self._combined = combined

    def __await__(self) -> Generator[Any, None, None]:
        yield from self._combined.settle()


def _own(futures: list[DurableFuture[Any]]) -> tuple[OwnFuture[Any], ...]:
    """The combinators have refused all others."""
    return tuple(typing.cast("list[OwnFuture[Any]]", futures))
