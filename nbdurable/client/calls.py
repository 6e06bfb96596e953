"""The many ways to name a handler, for every client: all of them come to one call and one send."""

from __future__ import annotations

import abc
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar, cast

from nbdurable.client.base import RestateClient, RestateClientSendHandle, RestateScopedClient
from nbdurable.errors import HttpError
from nbdurable.sdk.addressing import problem_with_address
from nbdurable.sdk.context import HandlerType
from nbdurable.sdk.flow_control import problem_with
from nbdurable.sdk.handler import Handler, handler_from_callable

I = TypeVar("I")  # noqa: E741 - the official SDK's name for it.
O = TypeVar("O")  # noqa: E741 - the official SDK's name for it.


class Addressed(NamedTuple):
    """What a call says besides its argument."""

    key: str | None = None
    idempotency_key: str | None = None
    headers: dict[str, str] | None = None
    scope: str | None = None
    limit_key: str | None = None


class CallingClient(RestateClient):
    """A client that makes one kind of call and one kind of send."""

    @abc.abstractmethod
    async def call_handler(self, handler: Handler[Any, Any], arg: Any, to: Addressed) -> Any: ...

    @abc.abstractmethod
    async def send_handler(
        self, handler: Handler[Any, Any], arg: Any, send_delay: timedelta | None, to: Addressed
    ) -> RestateClientSendHandle: ...

    def scope(self, scope: str) -> RestateScopedClient:
        """Return a client whose calls and sends stay within a scope."""
        refuse_malformed(scope, None)
        return ScopedClient(self, scope)

    async def service_call(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> O:
        return cast("O", await self._call(tpe, arg, Addressed(None, idempotency_key, headers)))

    async def service_send(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateClientSendHandle:
        return await self._send(tpe, arg, send_delay, Addressed(None, idempotency_key, headers))

    async def object_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> O:
        return cast("O", await self._call(tpe, arg, Addressed(key, idempotency_key, headers)))

    async def object_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateClientSendHandle:
        return await self._send(tpe, arg, send_delay, Addressed(key, idempotency_key, headers))

    async def workflow_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> O:
        return cast("O", await self._call(tpe, arg, Addressed(key, idempotency_key, headers)))

    async def workflow_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateClientSendHandle:
        return await self._send(tpe, arg, send_delay, Addressed(key, idempotency_key, headers))

    async def _call(self, tpe: HandlerType[Any, Any], arg: Any, to: Addressed) -> Any:
        return await self.call_handler(handler_from_callable(tpe), arg, to)

    async def _send(
        self, tpe: HandlerType[Any, Any], arg: Any, send_delay: timedelta | None, to: Addressed
    ) -> RestateClientSendHandle:
        return await self.send_handler(handler_from_callable(tpe), arg, send_delay, to)


class ScopedClient(RestateScopedClient):
    """What `client.scope(…)` gives."""

    def __init__(self, client: CallingClient, scope: str) -> None:
        self._client = client
        self._scope = scope

    async def service_call(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> O:
        to = self._addressed(None, limit_key, idempotency_key, headers)
        return cast("O", await self._call(tpe, arg, to))

    async def service_send(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        send_delay: timedelta | None = None,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateClientSendHandle:
        to = self._addressed(None, limit_key, idempotency_key, headers)
        return await self._send(tpe, arg, send_delay, to)

    async def object_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> O:
        to = self._addressed(key, limit_key, idempotency_key, headers)
        return cast("O", await self._call(tpe, arg, to))

    async def object_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: timedelta | None = None,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateClientSendHandle:
        to = self._addressed(key, limit_key, idempotency_key, headers)
        return await self._send(tpe, arg, send_delay, to)

    async def workflow_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> O:
        to = self._addressed(key, limit_key, idempotency_key, headers)
        return cast("O", await self._call(tpe, arg, to))

    async def workflow_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: timedelta | None = None,
        limit_key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateClientSendHandle:
        to = self._addressed(key, limit_key, idempotency_key, headers)
        return await self._send(tpe, arg, send_delay, to)

    def _addressed(
        self,
        key: str | None,
        limit_key: str | None,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
    ) -> Addressed:
        refuse_malformed(self._scope, limit_key)
        return Addressed(key, idempotency_key, headers, self._scope, limit_key)

    async def _call(self, tpe: HandlerType[Any, Any], arg: Any, to: Addressed) -> Any:
        return await self._client.call_handler(handler_from_callable(tpe), arg, to)

    async def _send(
        self, tpe: HandlerType[Any, Any], arg: Any, send_delay: timedelta | None, to: Addressed
    ) -> RestateClientSendHandle:
        return await self._client.send_handler(handler_from_callable(tpe), arg, send_delay, to)


def refuse_address(to: Addressed) -> None:
    refuse_malformed(to.scope, to.limit_key)
    problem = problem_with_address(to.key, to.idempotency_key, to.headers)
    if problem is not None:
        raise HttpError(400, problem)


def refuse_malformed(scope: str | None, limit_key: str | None) -> None:
    problem = problem_with(scope, limit_key)
    if problem is not None:
        raise HttpError(400, problem)
