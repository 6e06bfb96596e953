"""Calls and sends of a ctx, within a scope or without one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar

from nbdurable.core.values import Target
from nbdurable.errors import ArgumentError, TerminalError
from nbdurable.invoker.futures import CallFuture, Owner, Sent
from nbdurable.invoker.payloads import ms_of
from nbdurable.invoker.wire import Written
from nbdurable.sdk.addressing import problem_with_address
from nbdurable.sdk.context import HandlerType, ScopedContext
from nbdurable.sdk.flow_control import problem_with
from nbdurable.sdk.future import RestateDurableCallFuture, SendHandle
from nbdurable.sdk.handler import Handler, handler_from_callable
from nbdurable.sdk.serde import BytesSerde, Serde

I = TypeVar("I")  # noqa: E741 - the official SDK's name for it.
O = TypeVar("O")  # noqa: E741 - the official SDK's name for it.


class Calls:
    """What every way of calling comes to."""

    def __init__(self, context: Owner, scope: str | None = None) -> None:
        _refuse_malformed(scope, None)
        self._context = context
        self._scope = scope

    def call(
        self,
        tpe: HandlerType[Any, Any],
        key: str | None,
        arg: Any,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
        limit_key: str | None = None,
    ) -> CallFuture[Any]:
        handler = handler_from_callable(tpe)
        return self._call(
            self._target(handler, key),
            self._context.wire.write_argument(handler, arg),
            handler.handler_io.output_serde,
            idempotency_key,
            headers,
            limit_key,
            is_run=handler.kind == "workflow",
        )

    def send(
        self,
        tpe: HandlerType[Any, Any],
        key: str | None,
        arg: Any,
        send_delay: timedelta | None,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
        limit_key: str | None = None,
    ) -> Sent:
        handler = handler_from_callable(tpe)
        return self._send(
            self._target(handler, key),
            self._context.wire.write_argument(handler, arg),
            send_delay,
            idempotency_key,
            headers,
            limit_key,
            is_run=handler.kind == "workflow",
        )

    def call_by_name(
        self,
        service: str,
        handler: str,
        key: str | None,
        arg: bytes,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
        limit_key: str | None,
    ) -> CallFuture[bytes]:
        target = Target(service=service, handler=handler, key=key, scope=self._scope)
        written = self._context.wire.write(BytesSerde(), arg, f"argument of {handler!r}")
        is_run = self._context.attempt.is_run(target)
        return self._call(
            target, written, BytesSerde(), idempotency_key, headers, limit_key, is_run=is_run
        )

    def send_by_name(
        self,
        service: str,
        handler: str,
        key: str | None,
        arg: bytes,
        send_delay: timedelta | None,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
        limit_key: str | None,
    ) -> Sent:
        target = Target(service=service, handler=handler, key=key, scope=self._scope)
        written = self._context.wire.write(BytesSerde(), arg, f"argument of {handler!r}")
        is_run = self._context.attempt.is_run(target)
        return self._send(
            target, written, send_delay, idempotency_key, headers, limit_key, is_run=is_run
        )

    def _target(self, handler: Handler[Any, Any], key: str | None) -> Target:
        service = handler.service_tag.name
        return Target(service=service, handler=handler.name, key=key, scope=self._scope)

    def _call(
        self,
        target: Target,
        written: Written,
        serde: Serde[Any],
        idempotency_key: str | None,
        headers: dict[str, str] | None,
        limit_key: str | None,
        *,
        is_run: bool,
    ) -> CallFuture[Any]:
        _refuse_malformed(self._scope, limit_key)
        _refuse_address(target, idempotency_key, headers)
        attempt = self._context.attempt
        leaf, invocation_id = attempt.guard(
            lambda: attempt.machine.call(
                target,
                written.payload,
                comparable=written.comparable,
                idempotency_key=idempotency_key,
                headers=headers,
                limit_key=limit_key,
                is_run=is_run,
            )
        )
        return CallFuture(self._context, leaf, serde, f"the call of {target}", invocation_id)

    def _send(
        self,
        target: Target,
        written: Written,
        send_delay: timedelta | None,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
        limit_key: str | None,
        *,
        is_run: bool,
    ) -> Sent:
        _refuse_malformed(self._scope, limit_key)
        _refuse_address(target, idempotency_key, headers)
        attempt = self._context.attempt
        invoke_at_ms = None if send_delay is None else attempt.now_ms() + ms_of(send_delay)
        invocation_id = attempt.guard(
            lambda: attempt.machine.send(
                target,
                written.payload,
                comparable=written.comparable,
                invoke_at_ms=invoke_at_ms,
                idempotency_key=idempotency_key,
                headers=headers,
                limit_key=limit_key,
                is_run=is_run,
            )
        )
        return Sent(self._context, invocation_id)


class ScopedInvoked(ScopedContext):
    """What `ctx.scope(…)` gives."""

    def __init__(self, context: Owner, scope: str) -> None:
        self._calls = Calls(context, scope)

    def service_call(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateDurableCallFuture[O]:
        return self._calls.call(tpe, None, arg, idempotency_key, headers, limit_key)

    def service_send(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        send_delay: timedelta | None = None,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        return self._calls.send(tpe, None, arg, send_delay, idempotency_key, headers, limit_key)

    def object_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateDurableCallFuture[O]:
        return self._calls.call(tpe, key, arg, idempotency_key, headers, limit_key)

    def object_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: timedelta | None = None,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        return self._calls.send(tpe, key, arg, send_delay, idempotency_key, headers, limit_key)

    def workflow_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateDurableCallFuture[O]:
        return self._calls.call(tpe, key, arg, idempotency_key, headers, limit_key)

    def workflow_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: timedelta | None = None,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        return self._calls.send(tpe, key, arg, send_delay, idempotency_key, headers, limit_key)


def _refuse_address(
    target: Target, idempotency_key: str | None, headers: dict[str, str] | None
) -> None:
    problem = problem_with_address(target.key, idempotency_key, headers)
    if problem is not None:
        raise ArgumentError(problem)


def _refuse_malformed(scope: str | None, limit_key: str | None) -> None:
    """Terminal: a retry would send the same."""
    problem = problem_with(scope, limit_key)
    if problem is not None:
        raise TerminalError(problem, 400)
