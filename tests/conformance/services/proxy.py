"""Calls what it is told to, by name and with bytes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypedDict

from nbdurable import Context, RestateDurableFuture, SendHandle, Service

proxy = Service("Proxy")


class ProxyRequest(TypedDict, total=False):
    serviceName: str
    virtualObjectKey: str | None
    handlerName: str
    message: list[int]
    delayMillis: int | None
    idempotencyKey: str | None
    scope: str | None
    limitKey: str | None


class ManyCallRequest(TypedDict):
    proxyRequest: ProxyRequest
    oneWayCall: bool
    awaitAtTheEnd: bool


@proxy.handler("call")
async def call(ctx: Context, request: ProxyRequest) -> list[int]:
    return list(await _call(ctx, request))


@proxy.handler("oneWayCall")
async def one_way_call(ctx: Context, request: ProxyRequest) -> str:
    return await _send(ctx, request).invocation_id()


@proxy.handler("manyCalls")
async def many_calls(ctx: Context, requests: list[ManyCallRequest]) -> None:
    awaited = []
    for request in requests:
        if request["oneWayCall"]:
            _send(ctx, request["proxyRequest"])
            continue
        future = _call(ctx, request["proxyRequest"])
        if request["awaitAtTheEnd"]:
            awaited.append(future)
    for future in awaited:
        await future


def _call(ctx: Context, request: ProxyRequest) -> RestateDurableFuture[bytes]:
    return ctx.generic_call(**_whom(request))


def _send(ctx: Context, request: ProxyRequest) -> SendHandle:
    delay_ms = request.get("delayMillis")
    delay = None if delay_ms is None else timedelta(milliseconds=delay_ms)
    return ctx.generic_send(**_whom(request), send_delay=delay)


def _whom(request: ProxyRequest) -> dict[str, Any]:
    return {
        "service": request["serviceName"],
        "handler": request["handlerName"],
        "arg": bytes(request["message"]),
        "key": request.get("virtualObjectKey"),
        "idempotency_key": request.get("idempotencyKey"),
        "scope": request.get("scope"),
        "limit_key": request.get("limitKey"),
    }
