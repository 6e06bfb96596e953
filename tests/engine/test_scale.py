"""Much of everything: correct work or a clear error, and never a hang. Counts, not times."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from datetime import timedelta

import pytest
from support.running import durable, until_status

from nbdurable import RestatePromise, Service, gather
from nbdurable.wiring import DurableEngine

MANY = 10_000
# Of one that sleeps, what Python allocates: 1.2 kB were measured (DECISIONS 0143).
SLEEPER_BYTES_MAX = 2_048

pytestmark = pytest.mark.slow


async def test_ten_thousand_children_of_one_handler():
    service = Service("S")

    @service.handler()
    async def square(ctx, n: int) -> int:
        return n * n

    @service.handler()
    async def fan_out(ctx) -> int:
        calls = [ctx.service_call(square, n) for n in range(MANY)]
        return sum([await call for call in await gather(*calls)])

    async with durable(service) as engine:
        assert await engine.client.service_call(fan_out, None) == sum(n * n for n in range(MANY))


async def test_two_thousand_children_outlive_their_callers_attempt():
    """It is suspended on all of them, and each that ends is counted, not looked for."""
    service = Service("S", inactivity_timeout=timedelta(0))

    @service.handler()
    async def nap(ctx, n: int) -> int:
        await ctx.sleep(timedelta(milliseconds=1))
        return n

    @service.handler()
    async def fan_out(ctx) -> int:
        calls = [ctx.service_call(nap, n) for n in range(MANY // 5)]
        return len(await gather(*calls))

    async with durable(service) as engine:
        assert await engine.client.service_call(fan_out, None) == MANY // 5


async def test_a_journal_of_ten_thousand_entries_is_replayed():
    runs = []
    service = Service("S", inactivity_timeout=timedelta(0))

    def step(n: int) -> int:
        runs.append(n)
        return n

    @service.handler()
    async def long(ctx) -> int:
        futures = [ctx.run_typed("step", step, n=n) for n in range(MANY // 2)]
        await gather(*futures)
        _, opened = ctx.awakeable()
        return await opened + sum([await future for future in futures])

    async with durable(service) as engine:
        sent = await engine.client.service_send(long, None)
        view = await engine.client.invocation(sent.invocation_id)
        while view.status != "suspended" or not view.open_awakeables:
            # Not `until`, which would fold ten thousand entries after each of them.
            await asyncio.sleep(0.05)
            view = await engine.client.invocation(sent.invocation_id)
        assert view.entry_count > MANY
        await engine.client.resolve_awakeable(view.open_awakeables[0], 1)
        assert await engine.client.attach(view.id) == 1 + sum(range(MANY // 2))
    assert sorted(runs) == list(range(MANY // 2))


async def test_a_thousand_who_sleep_for_hours_hold_little_memory(tmp_path):
    """What is left of each is what the engine must know; the handler's part goes at once."""
    begun = []
    service = Service("S")

    @service.handler()
    async def sleep(ctx, n: int) -> None:
        begun.append(n)
        await ctx.sleep(timedelta(hours=10))

    # A store in memory would keep their journals there.
    async with DurableEngine(tmp_path / "j", [service]) as engine:
        client = engine.client

        async def begin(first: int, last: int) -> None:
            sends = [
                client.service_send(sleep, n, idempotency_key=f"{n}") for n in range(first, last)
            ]
            await asyncio.gather(*sends)
            while len(begun) < last or engine.link.attempts:  # noqa: ASYNC110 - no event tells it.
                await asyncio.sleep(0.01)
            # All that they have proposed is decided once this is answered.
            await asyncio.wrap_future(engine.engine.ask(lambda: None))
            gc.collect()

        await begin(0, 10)
        tracemalloc.start()
        await begin(10, 20)
        before, _ = tracemalloc.get_traced_memory()
        await begin(20, 20 + MANY // 10)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert {run.status for run in await client.invocations()} == {"running"}
    assert (after - before) / (MANY // 10) < SLEEPER_BYTES_MAX


async def test_futures_nested_a_thousand_deep():
    """A journal cannot hold such a tree; the sentence says what to write instead."""
    service = Service("S", inactivity_timeout=timedelta(0))

    @service.handler()
    async def nest(ctx) -> int:
        future = ctx.sleep(timedelta(milliseconds=1))
        for level in range(1_000):
            combine = RestatePromise.race if level % 2 else RestatePromise.all
            future = combine(future, ctx.sleep(timedelta(milliseconds=1)))
        await future
        return 1

    async with durable(service) as engine:
        sent = await engine.client.service_send(nest, None)
        view = await until_status(engine, sent.invocation_id, "paused")
        assert "levels deep" in (view.failure or "")
