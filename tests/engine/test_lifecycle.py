"""An invocation from its call to its purge, on a whole engine: the rules meet code and clock."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from support.running import HandClock, durable, until, until_status

from nbdurable import (
    ConflictError,
    DefinitionError,
    EngineOptions,
    HttpError,
    InvocationNotFoundError,
    InvocationRetryPolicy,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
)
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine

ONCE = InvocationRetryPolicy(max_attempts=1)
DAY = timedelta(days=1)


def engine_with(*services, clock=None, **options) -> DurableEngine:
    return DurableEngine(
        services=services, store=MemoryStore(), clock=clock, options=EngineOptions(**options)
    )


async def test_what_has_expired_is_gone_and_its_key_runs_again():
    clock, runs = HandClock(), []
    flow = Workflow("Flow")

    @flow.main(workflow_retention=DAY)
    async def run(ctx) -> int:
        runs.append(1)
        ctx.set("n", len(runs))
        return len(runs)

    async with engine_with(flow, clock=clock) as engine:
        client = engine.client
        assert await client.workflow_call(run, "k", None) == 1
        with pytest.raises(ConflictError):
            # Restate's answer to a second call while the first is kept.
            await client.workflow_call(run, "k", None)
        await clock.turn(engine, 24 * 3_600_000)
        assert await client.clean_up() == 1
        assert await client.workflow_call(run, "k", None) == 2


async def test_a_journal_may_go_before_its_result():
    clock = HandClock()
    service = Service("S", journal_retention=timedelta(hours=1), idempotency_retention=DAY)

    @service.handler()
    async def price(ctx) -> int:
        return await ctx.run_typed("look it up", lambda: 7)

    async with engine_with(service, clock=clock) as engine:
        client = engine.client
        sent = await client.service_send(price, None, idempotency_key="k")
        assert await client.attach(sent.invocation_id) == 7
        assert len(await client.journal(sent.invocation_id)) == 3
        await clock.turn(engine, 3_600_000)
        assert await client.clean_up() == 1
        # Its beginning and its end are kept with its result, and nothing between them.
        assert await client.service_call(price, None, idempotency_key="k") == 7
        with pytest.raises(HttpError, match="journal"):
            await client.restart_as_new(sent.invocation_id)


async def test_a_restart_from_an_entry_runs_only_what_comes_after():
    ran: list[str] = []
    service = Service("S")

    @service.handler()
    async def two_steps(ctx, name: str) -> str:
        first = await ctx.run_typed("first", lambda: ran.append("first") or "1")
        second = await ctx.run_typed("second", lambda: ran.append("second") or "2")
        return f"{name}{first}{second}"

    async with durable(service) as engine:
        client = engine.client
        sent = await client.service_send(two_steps, "Ada")
        assert await client.attach(sent.invocation_id) == "Ada12"
        second = next(e for e in await client.journal(sent.invocation_id) if e.name == "second")
        again = await client.restart_as_new(sent.invocation_id, second.index)
        assert await client.attach(again) == "Ada12"
        assert ran == ["first", "second", "second"]
        anew = await client.restart_as_new(again)
        assert await client.attach(anew) == "Ada12"
        assert ran[3:] == ["first", "second"]


async def test_only_what_has_ended_is_restarted():
    service = Service("S")

    @service.handler()
    async def wait(ctx) -> None:
        await ctx.sleep(DAY)

    async with durable(service) as engine:
        sent = await engine.client.service_send(wait, None)
        with pytest.raises(ConflictError, match="not yet completed"):
            await engine.client.restart_as_new(sent.invocation_id)
        with pytest.raises(InvocationNotFoundError):
            await engine.client.restart_as_new("inv_1gone")


async def test_a_call_to_ones_own_key_says_the_chain_instead_of_hanging():
    counter = VirtualObject("Counter")

    @counter.handler()
    async def add(ctx, by: int) -> int:
        return await ctx.object_call(add, ctx.key(), by)

    async with durable(counter) as engine:
        with pytest.raises(TerminalError, match="deadlock: Counter/ada/add → Counter/ada/add"):
            await engine.client.object_call(add, "ada", 1)


async def test_no_more_run_at_once_than_the_limit_says():
    running, most = [], []
    service = Service("Scraper")

    @service.handler()
    async def scrape(ctx, n: int) -> int:
        running.append(n)
        most.append(len(running))
        await ctx.run_typed("fetch", lambda: n)
        running.remove(n)
        return n

    async with engine_with(service, service_concurrency={"Scraper": 2}) as engine:
        sent = [await engine.client.service_send(scrape, n) for n in range(8)]
        assert [await engine.client.attach(one.invocation_id) for one in sent] == list(range(8))
    assert max(most) <= 2


async def test_a_caller_under_a_limit_gives_its_slot_to_those_it_waits_for():
    """Else one slot would be a deadlock: the caller holds what its callee needs."""
    service = Service("S")

    @service.handler()
    async def outer(ctx) -> str:
        return "outer " + await ctx.service_call(inner, None)

    @service.handler()
    async def inner(ctx) -> str:
        return "inner"

    async with engine_with(service, concurrency=1) as engine:
        assert await engine.client.service_call(outer, None) == "outer inner"


async def test_the_engines_retry_policy_is_for_those_that_have_none():
    silent, outspoken = Service("Silent"), Service("Outspoken", invocation_retry_policy=ONCE)

    @silent.handler("fail")
    async def fail_silently(ctx) -> None:
        raise ValueError("no")

    @outspoken.handler("fail")
    async def fail_outspokenly(ctx) -> None:
        raise ValueError("no")

    policy = InvocationRetryPolicy(max_attempts=2, initial_interval=timedelta(milliseconds=1))
    async with engine_with(silent, outspoken, retry_policy=policy) as engine:
        for handler, attempts in ((fail_silently, 2), (fail_outspokenly, 1)):
            sent = await engine.client.service_send(handler, None)
            view = await until_status(engine, sent.invocation_id, "paused")
            assert view.attempt == attempts


async def test_a_limit_of_nothing_is_refused_in_one_line():
    with pytest.raises(DefinitionError, match="nothing would ever run"):
        engine_with(concurrency=0)


async def test_a_mismatch_can_be_accepted():
    """The recorded result stands for the step that was renamed; nothing runs again."""
    ran: list[str] = []
    service = Service("S", inactivity_timeout=timedelta(0))
    name = "fetch"

    @service.handler()
    async def report(ctx) -> str:
        rows = await ctx.run_typed(name, lambda: ran.append(name) or "rows")
        _, opened = ctx.awakeable()
        return rows + await opened

    async with durable(service) as engine:
        client = engine.client
        sent = await client.service_send(report, None)
        view = await until(engine, sent.invocation_id, lambda v, _: v.status == "suspended")
        name = "fetch all"
        await client.resolve_awakeable(view.open_awakeables[0], "!")
        view = await until_status(engine, sent.invocation_id, "paused")
        assert "or accept what is recorded in its place" in (view.failure or "")
        await client.accept_mismatch(sent.invocation_id)
        assert await client.attach(sent.invocation_id) == "rows!"
    assert ran == ["fetch"]


async def test_a_handler_that_stands_still_is_cut_off_and_tried_again():
    """A request without a timeout would otherwise hang its run for ever."""
    service = Service(
        "S", inactivity_timeout=timedelta(0), abort_timeout=timedelta(milliseconds=30)
    )
    tries = []

    async def fetch() -> str:
        tries.append(1)
        if len(tries) == 1:
            await asyncio.sleep(3_600)
        return "rows"

    @service.handler()
    async def report(ctx) -> str:
        return await ctx.run_typed("fetch", fetch)

    policy = InvocationRetryPolicy(initial_interval=timedelta(milliseconds=1))
    async with engine_with(service, retry_policy=policy) as engine:
        assert await engine.client.service_call(report, None) == "rows"
    assert len(tries) > 1, "on a busy machine more than one may take too long"


@pytest.mark.parametrize(
    ("journals_days", "left"),
    [
        pytest.param(30, [["hat"], ["hat", "scarf"], ["scarf"]], id="as long as journals are kept"),
        # What wrote the hat is forgotten on day 5, and it counts from the opening on that day.
        pytest.param(1, [["hat"], ["hat", "scarf"], ["hat", "scarf"], ["scarf"]], id="then later"),
    ],
)
async def test_a_journal_that_is_opened_again_knows_how_old_state_is(
    tmp_path, journals_days: int, left: list[list[str]]
):
    """It never seems older than it is, and it ends, also when what wrote it is forgotten."""
    clock = HandClock()
    box = VirtualObject("Box", state_retention=10 * DAY, journal_retention=journals_days * DAY)

    @box.handler()
    async def put(ctx, what: str) -> None:
        ctx.set("what", what)

    found = []
    for day in range(0, 5 * len(left), 5):
        async with DurableEngine(tmp_path, [box], clock=clock) as engine:
            await engine.client.clean_up()
            if day in (0, 5):
                await engine.client.object_call(put, f"box {day}", ["hat", "scarf"][day // 5])
            keys = engine.engine.machine.state.objects
            found.append([what for key, what in BOXES.items() if key in {of.key for of in keys}])
        clock.pass_by(5 * 24 * 3_600_000)
    assert found == left


BOXES = {"box 0": "hat", "box 5": "scarf"}
