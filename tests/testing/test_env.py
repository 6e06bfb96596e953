"""`DurableEnv` and the fixture: what users test their handlers with, in virtual time."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

import nbdurable
from nbdurable import (
    Context,
    InvocationRetryPolicy,
    RunOptions,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
    select,
)
from nbdurable.errors import DefinitionError, EngineClosedError
from nbdurable.store.memory import MemoryStore
from nbdurable.testing import DeadlockError, DurableEnv, VirtualLoop


def order() -> tuple[Workflow, Any, Any, list[str]]:
    """A workflow of a month: it pays, waits for thirty days, and asks for an approval."""
    flow, ran = Workflow("Order"), []

    @flow.main()
    async def run(ctx: WorkflowContext, amount: int) -> list[Any]:
        paid = await ctx.run_typed("pay", lambda: ran.append("pay") or amount)
        await ctx.sleep(timedelta(days=30))
        return [paid, await ctx.promise("approval", type_hint=str)]

    @flow.handler()
    async def approve(ctx: WorkflowSharedContext, by: str) -> None:
        await ctx.promise("approval").resolve(by)

    return flow, run, approve, ran


# -- time --------------------------------------------------------------------------------------


def test_a_month_passes_in_milliseconds(durable_env: DurableEnv):
    """A plain `def` test: what it awaits is run to its end."""
    flow, run, approve, _ = order()
    durable_env.serve(flow)
    durable_env.run(durable_env.client.workflow_send(run, "a", 100))
    durable_env.run(durable_env.client.workflow_call(approve, "a", "ada"))
    value = durable_env.run(durable_env.client.workflow_attach(run, "a"))
    assert value == [100, "ada"]
    assert durable_env.now == datetime(2026, 1, 31, tzinfo=UTC)


async def test_an_async_test_awaits_on_the_same_loop(durable_env: DurableEnv):
    flow, run, approve, _ = order()
    durable_env.serve(flow)
    client = durable_env.client
    sent = await client.workflow_send(run, "a", 100)
    await durable_env.advance(timedelta(days=29))
    assert (await client.invocation(sent.invocation_id)).status == "suspended"
    assert durable_env.now == datetime(2026, 1, 30, tzinfo=UTC)
    await client.workflow_call(approve, "a", "ada")
    assert await client.attach(sent.invocation_id) == [100, "ada"]


async def test_what_is_due_when_time_has_advanced_has_happened(durable_env: DurableEnv):
    """And nothing that is due a millisecond later."""
    service, woke = Service("S"), []

    @service.handler()
    async def doze(ctx: Context, seconds: int) -> None:
        await ctx.sleep(timedelta(seconds=seconds))
        woke.append(seconds)

    durable_env.serve(service)
    for seconds in (10, 11):
        await durable_env.client.service_send(doze, seconds)
    await durable_env.advance(timedelta(milliseconds=9_999))
    assert woke == []
    await durable_env.advance(timedelta(milliseconds=1))
    assert woke == [10]


def test_time_is_what_handlers_see_and_begins_where_it_is_told(durable_env: DurableEnv):
    service = Service("S")

    @service.handler()
    async def clock(ctx: Context) -> list[float]:
        before = await ctx.time()
        await ctx.sleep(timedelta(hours=5))
        return [before, await ctx.time()]

    begins_at = datetime(2031, 3, 30, 1, tzinfo=UTC)
    with DurableEnv([service], begins_at=begins_at) as env:
        before, after = env.run(env.client.service_call(clock, None))
        assert before == begins_at.timestamp()
        assert after - before == 5 * 3600
        assert env.now == begins_at + timedelta(hours=5)


def test_retries_back_off_in_virtual_time(durable_env: DurableEnv):
    policy = InvocationRetryPolicy(
        initial_interval=timedelta(minutes=1), max_interval=timedelta(hours=1), max_attempts=6
    )
    service, tried_at = Service("S", invocation_retry_policy=policy), []

    @service.handler()
    async def flaky(ctx: Context) -> str:
        tried_at.append(durable_env.now)
        if len(tried_at) < 5:
            raise ValueError("not yet")
        return "done"

    durable_env.serve(service)
    assert durable_env.run(durable_env.client.service_call(flaky, None)) == "done"
    waited = [after - before for before, after in pairwise(tried_at)]
    assert waited == [timedelta(minutes=minutes) for minutes in (1, 2, 4, 8)]


def test_a_step_backs_off_too_and_a_slow_one_takes_its_time(durable_env: DurableEnv):
    service, tries = Service("S"), []

    async def flaky() -> int:
        await asyncio.sleep(30)
        tries.append(durable_env.now)
        if len(tries) < 3:
            raise ValueError("not yet")
        return len(tries)

    @service.handler()
    async def handle(ctx: Context) -> int:
        options = RunOptions[int](initial_retry_interval=timedelta(seconds=10))
        return await ctx.run_typed("flaky", flaky, options)

    durable_env.serve(service)
    begun = durable_env.now
    assert durable_env.run(durable_env.client.service_call(handle, None)) == 3
    # Ten seconds is also the longest that a step waits, unless its options say otherwise.
    assert durable_env.now - begun == timedelta(seconds=30 + 10 + 30 + 10 + 30)


# -- waiting for what comes from outside -------------------------------------------------------


async def test_an_awakeable_is_completed_by_the_test_or_times_out(durable_env: DurableEnv):
    service = Service("S")

    @service.handler()
    async def ask(ctx: Context) -> str:
        _, answer = ctx.awakeable(type_hint=str)
        match await select(answer=answer, late=ctx.sleep(timedelta(days=7))):
            case ["answer", text]:
                return str(text)
            case _:
                return "nobody answered"

    durable_env.serve(service)
    client = durable_env.client
    sent = await client.service_send(ask, None)
    await durable_env.settle()
    (awakeable,) = (await client.invocation(sent.invocation_id)).open_awakeables
    await client.resolve_awakeable(awakeable, "yes")
    assert await client.attach(sent.invocation_id) == "yes"
    assert await client.service_call(ask, None) == "nobody answered"


async def test_a_promise_is_waited_for_by_a_task_of_the_test(durable_env: DurableEnv):
    flow, run, approve, _ = order()
    durable_env.serve(flow)
    calling = asyncio.create_task(durable_env.client.workflow_call(run, "a", 1))
    await durable_env.advance(timedelta(days=40))
    assert not calling.done()
    await durable_env.client.workflow_call(approve, "a", "ada")
    assert await calling == [1, "ada"]


def test_what_will_never_come_is_said_with_who_waits_for_it(durable_env: DurableEnv):
    """Instead of a test that hangs."""
    flow, run, _, _ = order()
    durable_env.serve(flow)
    with pytest.raises(DeadlockError, match="Order/a/run is suspended, waiting for 'approval'"):
        durable_env.run(durable_env.client.workflow_call(run, "a", 1))
    again = durable_env.run(durable_env.client.find("Order/a"))
    assert again.status == "suspended"


def test_a_handler_that_failed_for_good_says_why_instead_of_hanging(durable_env: DurableEnv):
    service = Service("S")

    @service.handler()
    async def broken(ctx: Context) -> None:
        raise ValueError("a typo")

    durable_env.serve(service)
    with pytest.raises(DeadlockError, match="S/broken is paused: ValueError"):
        durable_env.run(durable_env.client.service_call(broken, None))


def test_the_line_of_the_test_that_waits_is_in_the_traceback(durable_env: DurableEnv):
    async def wait_for_godot() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match=r"test_env\.py:\d+ in wait_for_godot"):
        durable_env.run(wait_for_godot)


# -- crashes -----------------------------------------------------------------------------------


async def test_a_crash_loses_what_was_not_recorded_and_nothing_else(durable_env: DurableEnv):
    flow, run, approve, ran = order()
    durable_env.serve(flow)
    client = durable_env.client
    sent = await client.workflow_send(run, "a", 100)
    await durable_env.advance(timedelta(days=10))
    await durable_env.crash()
    await durable_env.advance(timedelta(days=20))
    assert (await client.invocation(sent.invocation_id)).attempt == 2
    await client.workflow_call(approve, "a", "ada")
    assert await client.attach(sent.invocation_id) == [100, "ada"]
    assert ran == ["pay"]


async def test_a_step_that_was_running_when_it_crashed_runs_again(durable_env: DurableEnv):
    """At least once: its record is made once, its effect perhaps twice."""
    service, ran = Service("S"), []

    async def long() -> int:
        ran.append("began")
        await asyncio.sleep(60)
        ran.append("ended")
        return len(ran)

    @service.handler()
    async def handle(ctx: Context) -> int:
        return await ctx.run_typed("long", long)

    durable_env.serve(service)
    sent = await durable_env.client.service_send(handle, None)
    await durable_env.advance(timedelta(seconds=30))
    await durable_env.crash()
    assert await durable_env.client.attach(sent.invocation_id) == 3
    assert ran == ["began", "began", "ended"]


async def test_who_waited_for_an_answer_is_told_of_the_crash_and_asks_again(
    durable_env: DurableEnv,
):
    flow, run, approve, _ = order()
    durable_env.serve(flow)
    calling = asyncio.create_task(durable_env.client.workflow_call(run, "a", 1))
    await durable_env.settle()
    await durable_env.crash()
    with pytest.raises(EngineClosedError, match="crashed"):
        await calling
    await durable_env.client.workflow_call(approve, "a", "ada")
    assert await durable_env.client.workflow_attach(run, "a") == [1, "ada"]


async def test_a_crash_runs_no_finally_block(durable_env: DurableEnv):
    """Killed is killed: undoing things there would be luck."""
    service, undone = Service("S"), []

    @service.handler()
    async def handle(ctx: Context) -> str:
        try:
            return await ctx.awakeable(type_hint=str)[1]
        finally:
            undone.append(1)

    durable_env.serve(service)
    sent = await durable_env.client.service_send(handle, None)
    await durable_env.settle()
    await durable_env.crash()
    await durable_env.settle()
    assert undone == []
    (awakeable,) = (await durable_env.client.invocation(sent.invocation_id)).open_awakeables
    await durable_env.client.resolve_awakeable(awakeable, "up")
    assert await durable_env.client.attach(sent.invocation_id) == "up"
    assert undone == [1]


def test_a_journal_outlives_its_environment():
    flow, run, approve, ran = order()
    store = MemoryStore()
    with DurableEnv([flow], store=store) as env:
        env.run(env.client.workflow_send(run, "a", 100))
    with DurableEnv([flow], store=store) as env:
        env.run(env.client.workflow_call(approve, "a", "ada"))
        assert env.run(env.client.workflow_attach(run, "a")) == [100, "ada"]
    assert ran == ["pay"]


def test_a_def_handler_sleeps_for_a_month_as_quickly(durable_env: DurableEnv):
    """It has a thread of its own, which is waited for while it computes and not while it waits."""
    service, seen = Service("S"), []

    @service.handler()
    def rest(ctx: Context, days: int) -> str:
        for _ in range(days):
            ctx.sleep(timedelta(days=1)).result()
            seen.append(ctx.run_typed("look", lambda: durable_env.now.day).result())
        return "rested"

    durable_env.serve(service)
    assert durable_env.run(durable_env.client.service_call(rest, 30)) == "rested"
    assert seen[-30:] == list(range(2, 32))


def test_what_is_kept_for_a_day_is_gone_after_two(durable_env: DurableEnv):
    flow, run, approve, _ = order()
    options = nbdurable.EngineOptions(workflow_retention=timedelta(days=1))
    with DurableEnv([flow], options=options) as env:
        env.run(env.client.workflow_call(approve, "a", "ada"))
        env.run(env.client.workflow_call(run, "a", 1))
        assert env.run(env.client.workflow_output(run, "a")) == [1, "ada"]
        env.run(env.advance(timedelta(days=2)))
        with pytest.raises(nbdurable.InvocationNotFoundError):
            env.run(env.client.workflow_output(run, "a"))


# -- always replay -----------------------------------------------------------------------------


@pytest.mark.durable_env(always_replay=True)
def test_always_replaying_every_await_ends_an_attempt(durable_env: DurableEnv):
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> list[Any]:
        one = await ctx.run_typed("one", lambda: 1)
        await ctx.sleep(timedelta(hours=1))
        return [one, await ctx.run_typed("two", lambda: 2), await ctx.awakeable()[1]]

    async def main() -> int:
        durable_env.serve(service)
        sent = await durable_env.client.service_send(handle, None)
        await durable_env.advance(timedelta(hours=1))
        view = await durable_env.client.invocation(sent.invocation_id)
        await durable_env.client.resolve_awakeable(view.open_awakeables[0], 3)
        assert await durable_env.client.attach(view.id) == [1, 2, 3]
        return (await durable_env.client.invocation(view.id)).attempt

    assert durable_env.run(main) == 5


def test_always_replaying_finds_a_handler_that_is_not_repeatable():
    """What passes as long as nothing is suspended, and would fail after the first deployment."""
    service, count = Service("S"), []

    @service.handler()
    async def handle(ctx: Context) -> int:
        count.append(1)
        one = await ctx.run_typed(f"step {len(count)}", lambda: 1)
        return one + await ctx.run_typed("another", lambda: 1)

    with DurableEnv([service]) as env:
        assert env.run(env.client.service_call(handle, None)) == 2
    count.clear()
    with (
        DurableEnv([service], always_replay=True) as env,
        pytest.raises(DeadlockError, match="journal mismatch"),
    ):
        env.run(env.client.service_call(handle, None))


# -- the environment ---------------------------------------------------------------------------


def test_a_step_may_use_a_real_thread_and_is_waited_for(durable_env: DurableEnv):
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> str:
        async def step() -> str:
            return await asyncio.to_thread(lambda: time.sleep(0.01) or "from a thread")

        return await ctx.run_typed("thread", step)

    durable_env.serve(service)
    assert durable_env.run(durable_env.client.service_call(handle, None)) == "from a thread"


def test_a_changed_definition_is_the_next_revision(durable_env: DurableEnv):
    def version(text: str) -> tuple[Service, Any]:
        service = Service("S")

        @service.handler()
        async def say(ctx: Context) -> str:
            return text

        return service, say

    for text in ("one", "two"):
        service, say = version(text)
        durable_env.serve(service)
        assert durable_env.run(durable_env.client.service_call(say, None)) == text


def test_what_cannot_be_served_is_said_at_once(durable_env: DurableEnv):
    with pytest.raises(DefinitionError, match="has no handlers"):
        durable_env.serve(Service("Empty"))


def test_errors_of_handlers_reach_the_test(durable_env: DurableEnv):
    obj = VirtualObject("O")

    @obj.handler()
    async def refuse(ctx: nbdurable.ObjectContext) -> None:
        raise TerminalError("no tea", 418)

    durable_env.serve(obj)
    with pytest.raises(TerminalError, match="no tea"):
        durable_env.run(durable_env.client.object_call(refuse, "k", None))


def test_synchronous_code_waits_through_the_client(durable_env: DurableEnv):
    flow, run, approve, _ = order()
    durable_env.serve(flow)
    client = durable_env.client
    client.wait(client.workflow_call(approve, "a", "ada"))
    assert client.wait(client.workflow_call(run, "a", 1)) == [1, "ada"]


@pytest.mark.parametrize("seed", range(5))
def test_another_seed_is_another_order_and_the_same_seed_the_same(seed: int):
    def order_of(seed: int) -> list[str]:
        service, ran = Service("S"), []

        @service.handler()
        async def handle(ctx: Context, name: str) -> None:
            for number in range(3):
                await ctx.run_typed("step", lambda n=number: ran.append(f"{name}{n}"))

        async def main() -> None:
            await asyncio.gather(*(env.client.service_call(handle, name) for name in "abc"))

        with DurableEnv([service], seed=seed) as env:
            env.run(main)
        return ran

    assert order_of(seed) == order_of(seed)


async def test_in_real_time_it_says_how_to_run_the_test():
    """Another asyncio plugin's loop would wait for answers that never come."""
    with pytest.raises(RuntimeError, match="event loop in real time"):
        async with DurableEnv():
            pass


def test_run_within_an_async_test_says_to_await(durable_env: DurableEnv):
    async def main() -> None:
        durable_env.run(asyncio.Event().wait)

    with pytest.raises(RuntimeError, match="await it"):
        durable_env.run(main)


def test_as_a_context_manager_it_needs_a_loop_in_virtual_time_and_no_fixture():
    flow, run, approve, _ = order()

    async def main() -> Any:
        async with DurableEnv([flow]) as env:
            await env.client.workflow_call(approve, "a", "ada")
            return await env.client.workflow_call(run, "a", 1)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(main()) == [1, "ada"]
