"""The clock is set back or forward: nothing depends on it but when things are due."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from support.running import HandClock, until

from nbdurable import Context, Service
from nbdurable.client.drawing import picture_of
from nbdurable.core.ids import random_invocation_id
from nbdurable.core.proposals import Timer
from nbdurable.engine.timers import LOOK_AGAIN_S, Timers
from nbdurable.wiring import DurableEngine

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = 1_795_666_395_000

service = Service("S")
steps: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    steps.clear()


@service.handler()
async def doze(ctx: Context, hours: int) -> str:
    await ctx.run_typed("before", lambda: steps.append("before"))
    await ctx.sleep(timedelta(hours=hours))
    await ctx.run_typed("after", lambda: steps.append("after"))
    return "rested"


def engine(folder: Path, clock: HandClock) -> DurableEngine:
    return DurableEngine(folder / "j", [service], clock=clock)


async def begun(opened: DurableEngine, hours: int) -> str:
    sent = await opened.client.service_send(doze, hours)
    await until(opened, sent.invocation_id, lambda view, _: view.wakes_at_ms is not None)
    return sent.invocation_id


async def test_a_clock_that_is_set_back_wakes_nobody_early_and_forgets_nobody(tmp_path: Path):
    """A sleep ends at the time that it was given, whenever that comes again."""
    clock = HandClock(NOW_MS)
    async with engine(tmp_path, clock) as opened:
        one = await begun(opened, 1)
        await clock.turn(opened, -DAY_MS)
        await clock.turn(opened, HOUR_MS)
        assert (await opened.client.invocation(one)).wakes_at_ms == NOW_MS + HOUR_MS
        other = await begun(opened, 1)
        await clock.turn(opened, HOUR_MS)
        assert await opened.client.attach(other) == "rested"
        await clock.turn(opened, DAY_MS)
        assert await opened.client.attach(one) == "rested"
    assert steps == ["before", "before", "after", "after"]


async def test_a_clock_that_is_set_forward_wakes_who_is_due_and_nobody_twice(tmp_path: Path):
    clock = HandClock(NOW_MS)
    async with engine(tmp_path, clock) as opened:
        due, not_due = await begun(opened, 20), await begun(opened, 40)
        await clock.turn(opened, DAY_MS)
        assert await opened.client.attach(due) == "rested"
        await clock.turn(opened, -DAY_MS)
        assert (await opened.client.invocation(not_due)).wakes_at_ms == NOW_MS + 40 * HOUR_MS
        await clock.turn(opened, 2 * DAY_MS)
        assert await opened.client.attach(not_due) == "rested"
    assert steps.count("after") == 2


async def test_a_journal_goes_on_though_the_clock_has_gone_back_since(tmp_path: Path):
    """Its facts are in the order of their numbers, whatever their times say."""
    async with engine(tmp_path, HandClock(NOW_MS)) as opened:
        finished = await opened.client.service_send(doze, 0)
        assert await opened.client.attach(finished.invocation_id) == "rested"
        one = await begun(opened, 1)
    clock = HandClock(NOW_MS - 400 * DAY_MS)
    async with engine(tmp_path, clock) as opened:
        view = await until(opened, one, lambda view, _: view.wakes_at_ms is not None)
        assert view.wakes_at_ms == NOW_MS + HOUR_MS
        assert await opened.client.attach(finished.invocation_id) == "rested"
        # What is shown of what has not happened yet is odd, but is shown.
        for known in (view, await opened.client.invocation(finished.invocation_id)):
            entries = await opened.client.journal(known.id)
            assert picture_of(known, entries, clock.now_ms())
        assert await opened.client.clean_up() == 0
        await clock.turn(opened, 401 * DAY_MS)
        assert await opened.client.attach(one) == "rested"
    assert steps == ["before", "after", "before", "after"]


async def test_a_machine_that_slept_is_noticed_within_half_a_minute():
    """A loop's own clock stands still while a laptop sleeps; so nobody waits for it that long."""
    clock, fired = HandClock(NOW_MS), asyncio.Event()
    timer = Timer(invocation_id=random_invocation_id(1))
    timers = Timers(clock, lambda _: fired.set(), look_again_s=0.01)
    timers.set(timer, NOW_MS + DAY_MS)
    await asyncio.sleep(0)
    clock.pass_by(2 * DAY_MS)
    await asyncio.wait_for(fired.wait(), 5)
    assert LOOK_AGAIN_S <= 30
