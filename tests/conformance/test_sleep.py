"""Sleep and SleepWithFailures of the suite. What kill -9 does to a sleep is in test_runtime.py."""

from __future__ import annotations

import asyncio
import random

from support.running import HandClock, until

from conformance.conftest import Started

SLEEP = "TestUtilsService/sleepConcurrently"


def asleep(view, _entries) -> bool:
    return view.is_asleep


async def test_a_sleep_is_never_shorter_than_asked(started: Started):
    """Sleep.sleep."""
    clock = HandClock()
    async with started(clock=clock) as runtime:
        sent = await runtime.send(SLEEP, [10])
        await until(runtime.engine, sent, asleep)
        await clock.turn(runtime.engine, 9)
        assert (await runtime.client.invocation(sent)).status != "completed"
        await clock.turn(runtime.engine, 1)
        await runtime.attach(sent)


async def test_a_thousand_sleeps_at_once_end(started: Started):
    """Sleep.manySleeps: fifty invocations of twenty sleeps of 10 to 50 ms."""
    chance = random.Random(20261125)
    async with started() as runtime:
        calls = [
            runtime.call(SLEEP, [chance.randint(10, 50) for _ in range(20)]) for _ in range(50)
        ]
        await asyncio.gather(*calls)


async def test_a_sleep_outlives_its_engine_and_is_not_begun_anew(started: Started):
    """SleepWithFailures.sleepAndTerminateServiceEndpoint: four seconds, whoever restarts."""
    clock = HandClock()
    async with started(clock=clock) as runtime:
        sent = await runtime.send(SLEEP, [4_000])
        await until(runtime.engine, sent, asleep)
        await clock.turn(runtime.engine, 1_000)
    async with started(clock=clock) as runtime:
        await clock.turn(runtime.engine, 2_999)
        assert (await runtime.client.invocation(sent)).status != "completed"
        await clock.turn(runtime.engine, 1)
        await runtime.attach(sent)
        view = await runtime.client.invocation(sent)
        assert view.completed_at_ms - view.created_at_ms == 4_000
