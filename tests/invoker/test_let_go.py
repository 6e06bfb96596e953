"""An attempt that is over is freed at once: nothing of it is left for the collector to find."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from support.running import NEVER_AGAIN, durable

from nbdurable import Context, Service, TerminalError, gather
from nbdurable.invoker.attempt import Attempt
from nbdurable.wiring import DurableEngine

TIMES = 20
# Of the last one something may be on a stack.
LEFT_MAX = 2

service = Service("S", inactivity_timeout=timedelta(0), invocation_retry_policy=NEVER_AGAIN)


@service.handler()
async def step(ctx: Context) -> int:
    return await ctx.run_typed("one", lambda: 1)


@service.handler()
async def call(ctx: Context) -> list[int]:
    futures = [ctx.service_call(step, None) for _ in range(2)]
    return [await future for future in await gather(*futures)]


@service.handler()
async def sleep(ctx: Context) -> None:
    await ctx.sleep(timedelta(hours=10))


@service.handler()
async def wait(ctx: Context) -> str:
    return await ctx.awakeable(type_hint=str)[1]


@service.handler()
async def end(ctx: Context) -> None:
    raise TerminalError("enough")


@service.handler()
async def fail(ctx: Context) -> None:
    await ctx.run_typed("one", lambda: 1)
    raise ValueError("a bug")


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def attempts() -> int:
    return sum(isinstance(thing, Attempt) for thing in gc.get_objects())


async def until_over(engine: DurableEngine, handler: Any) -> None:
    sent = await engine.client.service_send(handler, None)
    while (await engine.client.invocation(sent.invocation_id)).status in ("ready", "running"):
        pass


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("handler", [step, call, sleep, wait, end, fail])
async def test_an_attempt_that_is_over_is_freed_at_once(handler: Any):
    """Thousands would fill memory until the collector's next look at everything: 14 KiB each."""
    before = attempts()
    async with durable(service) as engine:
        for _ in range(TIMES):
            await until_over(engine, handler)
        while engine.link.attempts:  # noqa: ASYNC110 - no event tells it.
            await asyncio.sleep(0)
        assert attempts() - before <= LEFT_MAX
