"""CallOrdering, ServiceToServiceCommunication and Ingress of the suite."""

from __future__ import annotations

import random

import pytest
from support.running import HandClock

from conformance.conftest import Started
from conformance.driver import Runtime, eventually, fresh, message, said

CALL, SEND = False, True
DELAY_MS = 5_000


def append(key: str, item: str, *, one_way: bool) -> dict:
    request = {
        "serviceName": "ListObject",
        "virtualObjectKey": key,
        "handlerName": "append",
        "message": message(item),
    }
    return {"proxyRequest": request, "oneWayCall": one_way, "awaitAtTheEnd": not one_way}


def adding(key: str, **options) -> dict:
    return {
        "serviceName": "Counter",
        "virtualObjectKey": key,
        "handlerName": "add",
        "message": message(1),
        **options,
    }


async def count(runtime: Runtime, key: str) -> int:
    return await runtime.call(f"Counter/{key}/get")


@pytest.mark.parametrize(
    "order", [[SEND, CALL, CALL], [CALL, SEND, CALL], [SEND, SEND, CALL]], ids=str
)
async def test_calls_and_sends_to_one_key_keep_their_order(started: Started, order: list[bool]):
    """CallOrdering.ordering: whoever mixes both counts on it."""
    key = fresh()
    async with started() as runtime:
        requests = [append(key, str(i), one_way=one_way) for i, one_way in enumerate(order)]
        await runtime.call("Proxy/manyCalls", requests)
        assert await runtime.call(f"ListObject/{key}/get") == ["0", "1", "2"]


async def test_a_call_brings_the_answer(started: Started):
    """ServiceToServiceCommunication.regularCall."""
    key = fresh()
    async with started() as runtime:
        answer = said(await runtime.call("Proxy/call", adding(key)))
        assert answer == {"oldValue": 0, "newValue": 1}
        assert await count(runtime, key) == 1


async def test_a_one_way_call_happens(started: Started):
    """ServiceToServiceCommunication.oneWayCall, which answers with the id of what it sent."""
    key = fresh()
    async with started() as runtime:
        invocation_id = await runtime.call("Proxy/oneWayCall", adding(key))
        assert await runtime.attach(invocation_id) == {"oldValue": 0, "newValue": 1}
        assert await count(runtime, key) == 1


async def test_one_way_calls_with_one_idempotency_key_happen_once(started: Started):
    """ServiceToServiceCommunication.oneWayCallWithIdempotencyKey."""
    key, same = fresh(), fresh()
    async with started() as runtime:
        first, second = [
            await runtime.call("Proxy/oneWayCall", adding(key, idempotencyKey=same))
            for _ in range(2)
        ]
        assert first == second
        await runtime.call("Proxy/oneWayCall", adding(key, idempotencyKey=fresh()))
        await eventually(lambda: count(runtime, key), 2)


async def test_calls_with_one_idempotency_key_get_one_answer(started: Started):
    """ServiceToServiceCommunication.callWithIdempotencyKey."""
    key, same = fresh(), fresh()
    async with started() as runtime:
        answers = [
            said(await runtime.call("Proxy/call", adding(key, idempotencyKey=same)))
            for _ in range(2)
        ]
        assert answers == [{"oldValue": 0, "newValue": 1}] * 2
        assert said(await runtime.call("Proxy/call", adding(key)))["newValue"] == 2


async def test_delayed_calls_happen_when_their_time_comes(started: Started):
    """ServiceToServiceCommunication.oneWayCallWithDelay: ten at once, to one key."""
    key, clock = fresh(), HandClock()
    async with started(clock=clock) as runtime:
        for _ in range(10):
            await runtime.call("Proxy/oneWayCall", adding(key, delayMillis=DELAY_MS))
        await clock.turn(runtime.engine, DELAY_MS - 1)
        assert await count(runtime, key) == 0
        await clock.turn(runtime.engine, 1)
        await eventually(lambda: count(runtime, key), 10)


async def test_headers_reach_the_handler(started: Started):
    """Ingress.headersPassThrough, through the client."""
    async with started() as runtime:
        headers = await runtime.call(
            "TestUtilsService/echoHeaders", headers={"x-my-custom-header": "my-value"}
        )
        assert headers["x-my-custom-header"] == "my-value"


async def test_bytes_that_are_no_json_pass_unchanged(started: Started):
    """Ingress.rawHandler, through the client: a hundred random bytes."""
    sent = random.Random(20261125).randbytes(100)
    async with started() as runtime:
        answer = await runtime.client.generic_call("TestUtilsService", "rawEcho", sent)
        assert answer == sent
