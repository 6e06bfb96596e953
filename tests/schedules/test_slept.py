"""A machine that slept, or a journal that nobody had open: what was missed, and that it is said."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.running import HandClock

from nbdurable import Context, Service
from nbdurable.schedules.keeping import Schedules
from nbdurable.schedules.plan import Spec
from nbdurable.wiring import DurableEngine

HOUR_MS = 3_600_000
# 2026-11-26T12:00:30Z: what fires at the hour is found half a minute late, which is on time.
NOON_MS = 1_795_694_400_000 + 30_000
SLEPT_MS = 9 * HOUR_MS + HOUR_MS // 2

service = Service("Report")
LOOKS_MAX = 1_000


@service.handler()
async def build(ctx: Context, at: str) -> str:
    return at


def opened(folder: Path, clock: HandClock) -> DurableEngine:
    return DurableEngine(folder / "j", [service], clock=clock)


def hourly(catch_up: Any, **more: Any) -> Spec:
    return Spec(
        when="0 * * * *",
        service="Report",
        handler="build",
        argument='"{fire_time}"',
        catch_up=catch_up,
        overlap="queue",
        **more,
    )


async def looked(engine: DurableEngine, clock: HandClock) -> None:
    """The schedule has seen what time it is."""
    for _ in range(LOOKS_MAX):
        kept = await Schedules(engine.client).show("hourly")
        if kept.wake_ms is not None and kept.wake_ms > clock.now_ms():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not look")


async def ran(engine: DurableEngine, count: int) -> list[str]:
    """The ids of the runs, once there are so many and none goes on."""
    for _ in range(LOOKS_MAX):
        views = [one for one in await engine.client.invocations() if one.service == "Report"]
        if len(views) >= count and all(view.is_done for view in views):
            break
        await asyncio.sleep(0.01)
    return sorted([await engine.client.attach(view.id) for view in views])


@pytest.mark.parametrize("is_closed", [True, False])
@pytest.mark.parametrize(("catch_up", "count"), [("latest", 1), ("all", 9), ("none", 0)])
async def test_nine_missed_fires_are_made_up_for_as_it_says(tmp_path, is_closed, catch_up, count):
    """Whether the machine slept with the journal open, or nobody had it."""
    clock = HandClock(NOON_MS)
    async with opened(tmp_path, clock) as engine:
        await Schedules(engine.client).put("hourly", hourly(catch_up))
        if not is_closed:
            await clock.turn(engine, SLEPT_MS)
            await _next_fire(engine, clock, count)
    if is_closed:
        clock.pass_by(SLEPT_MS)
        async with opened(tmp_path, clock) as engine:
            await _next_fire(engine, clock, count)


async def _next_fire(engine: DurableEngine, clock: HandClock, made_up: int) -> None:
    """What was missed has run; the next fire comes at its hour, and each has run once."""
    await looked(engine, clock)
    assert len(await ran(engine, made_up)) == made_up
    await clock.turn(engine, HOUR_MS // 2)
    times = await ran(engine, made_up + 1)
    assert len(times) == len(set(times)) == made_up + 1
    kept = await Schedules(engine.client).show("hourly")
    assert kept.missed == 9 - made_up


async def test_one_that_was_due_while_nothing_ran_is_said_to_be_overdue(tmp_path):
    clock, told = HandClock(NOON_MS), tmp_path / "told"
    spec = hourly("latest", notify=f"tee -a {told}", notify_on=("overdue",))
    async with opened(tmp_path, clock) as engine:
        await Schedules(engine.client).put("hourly", spec)
    clock.pass_by(SLEPT_MS)
    async with opened(tmp_path, clock) as engine:
        assert len(await ran(engine, 1)) == 1
        for _ in range(LOOKS_MAX):
            if told.exists() and told.read_text():
                break
            await asyncio.sleep(0.01)
        await clock.turn(engine, HOUR_MS // 2)
        assert len(await ran(engine, 2)) == 2
    assert told.read_text().count("overdue") == 1, "the second fire was on time"
