"""What handlers can count on, whatever link runs them. Every test is one program, end to end.

`opened` is parametrised over links: an attached one joins by one more entry in `conftest.LINKS`.
Always replaying, an attempt is suspended at every await, so that no test passes because a handler
kept something in memory.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from support.joined import JoinedEngine
from support.running import AT_ONCE, NEVER_AGAIN, HandClock, until, until_status

import nbdurable
from nbdurable import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    RunOptions,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
    gather,
    select,
)
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine

Opened = Callable[..., DurableEngine]


# -- waiting ----------------------------------------------------------------------------------


async def test_select_with_a_timeout_takes_what_comes_first(opened: Opened):
    service, clock = Service("S"), HandClock()

    @service.handler()
    async def handle(ctx: Context) -> str:
        _, answer = ctx.awakeable(type_hint=str)
        match await select(answer=answer, late=ctx.sleep(timedelta(days=1))):
            case ["answer", text]:
                return str(text)
            case _:
                return "nobody answered"

    async with opened(service, clock=clock) as engine:
        sent = await engine.client.service_send(handle, None)
        waiting = await until(engine, sent.invocation_id, lambda v, _: bool(v.open_awakeables))
        await engine.client.resolve_awakeable(waiting.open_awakeables[0], "yes")
        assert await engine.client.attach(sent.invocation_id) == "yes"

        sent = await engine.client.service_send(handle, None)
        await until(engine, sent.invocation_id, lambda v, _: v.wakes_at_ms is not None)
        await clock.turn(engine, 86_400_000)
        assert await engine.client.attach(sent.invocation_id) == "nobody answered"


@pytest.mark.parametrize("who", ["handler", "client"])
@pytest.mark.parametrize("how", ["resolve", "reject"])
async def test_an_awakeable_is_completed_by_anybody_who_has_its_id(
    opened: Opened, who: str, how: str
):
    service, ids = Service("S"), asyncio.Queue()
    loop = asyncio.get_running_loop()

    @service.handler()
    async def waiter(ctx: Context) -> str:
        awakeable_id, future = ctx.awakeable()
        await ctx.run_typed(
            "tell", lambda: loop.call_soon_threadsafe(ids.put_nowait, awakeable_id) and None
        )
        return str(await future)

    @service.handler()
    async def completer(ctx: Context, awakeable_id: str) -> None:
        if how == "resolve":
            ctx.resolve_awakeable(awakeable_id, "value")
        else:
            ctx.reject_awakeable(awakeable_id, "declined", 402)

    async with opened(service) as engine:
        client = engine.client
        sent = await client.service_send(waiter, None)
        awakeable_id = await ids.get()
        if who == "handler":
            await client.service_call(completer, awakeable_id)
        elif how == "resolve":
            await client.resolve_awakeable(awakeable_id, "value")
        else:
            await client.reject_awakeable(awakeable_id, "declined", 402)
        if how == "resolve":
            assert await client.attach(sent.invocation_id) == "value"
        else:
            with pytest.raises(TerminalError, match="declined") as raised:
                await client.attach(sent.invocation_id)
            assert raised.value.status_code == 402


def payment() -> tuple[Workflow, Any, Any, Any]:
    flow = Workflow("Payment")

    @flow.main()
    async def run(ctx: WorkflowContext, amount: int) -> str:
        ctx.set("amount", amount)
        return await ctx.promise("approval", type_hint=str)

    @flow.handler()
    async def approve(ctx: WorkflowSharedContext, by: str) -> None:
        await ctx.promise("approval").resolve(by)

    @flow.handler()
    async def look(ctx: WorkflowSharedContext) -> list[Any]:
        return [await ctx.get("amount"), await ctx.promise("approval").peek()]

    return flow, run, approve, look


async def test_a_workflow_waits_for_its_promise_and_runs_once(opened: Opened):
    flow, run, approve, look = payment()
    async with opened(flow) as engine:
        client = engine.client
        await client.workflow_send(run, "order", 100)
        await until(
            engine, (await client.find("Payment/order")).id, lambda v, _: bool(v.open_promises)
        )
        assert await client.workflow_call(look, "order", None) == [100, None]
        await client.workflow_call(approve, "order", "ada")
        assert await client.workflow_attach(run, "order") == "ada"
        assert await client.workflow_call(look, "order", None) == [100, "ada"]
        with pytest.raises(TerminalError, match="already completed") as raised:
            await client.workflow_call(approve, "order", "bob")
        assert raised.value.status_code == 409
        with pytest.raises(nbdurable.ConflictError):
            await client.workflow_call(run, "order", 100)


async def test_a_rejected_promise_is_a_terminal_error(opened: Opened):
    flow, run, _, _ = payment()
    async with opened(flow) as engine:
        client = engine.client
        await client.reject_promise("Payment", "order", "approval", "too much", 402)
        with pytest.raises(TerminalError, match="too much") as raised:
            await client.workflow_call(run, "order", 100)
        assert raised.value.status_code == 402


async def test_a_purged_workflow_runs_anew_on_its_own_journal(opened: Opened):
    """The vault once kept the entries of the purged run, and the new one replayed them."""
    flow = Workflow("Flow")

    @flow.main()
    async def run(ctx: WorkflowContext, number: int) -> list[int]:
        seen = await ctx.get("n", type_hint=int)
        ctx.set("n", number)
        return [seen or 0, await ctx.run_typed("double", lambda: number * 2)]

    async with opened(flow) as engine:
        for number in (1, 2):
            assert await engine.client.workflow_call(run, "k", number) == [0, number * 2]
            await engine.client.purge((await engine.client.find("Flow/k")).id)


# -- objects ----------------------------------------------------------------------------------


def counter() -> tuple[VirtualObject, Any, Any]:
    obj = VirtualObject("Counter")

    @obj.handler()
    async def add(ctx: ObjectContext, amount: int) -> int:
        total = (await ctx.get("total", type_hint=int) or 0) + amount
        ctx.set("total", total)
        return total

    @obj.handler(kind="shared")
    async def total(ctx: ObjectSharedContext) -> int | None:
        return await ctx.get("total", type_hint=int)

    return obj, add, total


async def test_state_is_kept_per_key(opened: Opened):
    obj, add, total = counter()
    async with opened(obj) as engine:
        client = engine.client
        assert [await client.object_call(add, key, 5) for key in "aab"] == [5, 10, 5]
        assert [await client.object_call(total, key, None) for key in "abc"] == [10, 5, None]


async def test_state_outlives_the_process(opened: Opened):
    obj, add, _ = counter()
    store = MemoryStore()
    for expected in (5, 10):
        async with opened(obj, store=store) as engine:
            assert await engine.client.object_call(add, "a", 5) == expected


async def test_exclusive_handlers_of_a_key_run_one_at_a_time_in_order(opened: Opened):
    obj, order, inside = VirtualObject("Queue"), [], []

    @obj.handler()
    async def work(ctx: ObjectContext, number: int) -> int:
        inside.append(number)
        assert len(inside) == 1
        try:
            await ctx.run_typed("work", lambda: order.append(number))
        finally:
            inside.remove(number)
        return number

    async with opened(obj) as engine:
        sent = [await engine.client.object_send(work, "k", number) for number in range(20)]
        for number, one in enumerate(sent):
            assert await engine.client.attach(one.invocation_id) == number
    assert order == list(range(20))


async def test_shared_handlers_run_beside_the_exclusive_one(opened: Opened):
    obj = VirtualObject("Door")

    @obj.handler()
    async def hold(ctx: ObjectContext) -> str:
        ctx.set("state", "held")
        return await ctx.awakeable(type_hint=str)[1]

    @obj.handler(kind="shared")
    async def look(ctx: ObjectSharedContext) -> str | None:
        return await ctx.get("state", type_hint=str)

    async with opened(obj) as engine:
        client = engine.client
        sent = await client.object_send(hold, "k", None)
        view = await until(engine, sent.invocation_id, lambda v, _: bool(v.open_awakeables))
        assert await client.object_call(look, "k", None) == "held"
        await client.resolve_awakeable(view.open_awakeables[0], "go")
        assert await client.attach(sent.invocation_id) == "go"


async def test_state_can_be_listed_and_cleared(opened: Opened):
    obj = VirtualObject("Bag")

    @obj.handler()
    async def play(ctx: ObjectContext) -> list[Any]:
        for name in "abc":
            ctx.set(name, name)
        ctx.clear("b")
        names = await ctx.state_keys()
        ctx.clear_all()
        ctx.set("none", None)
        return [names, await ctx.state_keys(), await ctx.get("none"), await ctx.get("a")]

    async with opened(obj) as engine:
        assert await engine.client.object_call(play, "k", None) == [
            ["a", "c"],
            ["none"],
            None,
            None,
        ]


async def test_a_number_as_a_key_is_an_error_where_it_was_written(opened: Opened):
    """Recorded, it would have made the journal unreadable."""
    obj, add, _ = counter()
    service, store = Service("S", invocation_retry_policy=NEVER_AGAIN), MemoryStore()

    @service.handler()
    async def handle(ctx: Context) -> None:
        await ctx.object_call(add, 5, 1)  # type: ignore[arg-type]

    async with opened(obj, service, store=store) as engine:
        sent = await engine.client.service_send(handle, None)
        view = await until_status(engine, sent.invocation_id, "paused")
        assert "a key is a text" in str(view.failure)
        with pytest.raises(nbdurable.HttpError):
            await engine.client.object_call(add, 5, 1)  # type: ignore[arg-type]
    async with opened(obj, service, store=store) as engine:
        assert await engine.client.object_call(add, "5", 1) == 1


# -- calls and sends --------------------------------------------------------------------------


async def test_handlers_call_each_other(opened: Opened):
    obj, add, _ = counter()
    service = Service("S")

    @service.handler()
    async def both(ctx: Context, amount: int) -> list[int]:
        calls = [ctx.object_call(add, "k", amount) for _ in range(3)]
        return [await future for future in await gather(*calls)]

    async with opened(obj, service) as engine:
        assert await engine.client.service_call(both, 2) == [2, 4, 6]


async def test_a_delayed_send_runs_when_its_time_comes(opened: Opened):
    obj, add, total = counter()
    service, clock = Service("S"), HandClock()

    @service.handler()
    async def later(ctx: Context) -> str:
        handle = ctx.object_send(add, "k", 5, send_delay=timedelta(hours=1))
        return await handle.invocation_id()

    async with opened(obj, service, clock=clock) as engine:
        client = engine.client
        sent = await client.service_call(later, None)
        assert (await client.invocation(sent)).status == "scheduled"
        await clock.turn(engine, 3_599_999)
        assert (await client.invocation(sent)).status == "scheduled"
        await clock.turn(engine, 1)
        assert await client.attach(sent) == 5
        assert await client.object_call(total, "k", None) == 5


async def test_an_idempotency_key_makes_two_calls_one(opened: Opened):
    obj, add, total = counter()
    service = Service("S")

    @service.handler()
    async def twice(ctx: Context) -> list[int]:
        return [await ctx.object_call(add, "k", 5, idempotency_key="once") for _ in range(2)]

    async with opened(obj, service) as engine:
        client = engine.client
        assert await client.object_call(add, "k", 5, idempotency_key="once") == 5
        assert await client.object_call(add, "k", 7, idempotency_key="once") == 5
        assert await client.service_call(twice, None) == [5, 5]
        assert await client.object_call(total, "k", None) == 5


async def test_generic_calls_take_bytes_and_names(opened: Opened):
    obj, _, _ = counter()
    service = Service("S")

    @service.handler()
    async def call(ctx: Context) -> str:
        await ctx.generic_send("Counter", "add", b"1", key="k").invocation_id()
        return (await ctx.generic_call("Counter", "add", b"5", key="k")).decode()

    async with opened(obj, service) as engine:
        assert await engine.client.service_call(call, None) == "6"


async def test_a_workflow_whose_code_is_elsewhere_is_called_by_name():
    """Its run has the id of its key, and the process that calls does not have the workflow."""
    flow, service = Workflow("Flow"), Service("S")

    @flow.main()
    async def run(ctx, number: int) -> int:
        return number + 1

    @service.handler()
    async def handle(ctx) -> str:
        ctx.generic_send("Flow", "run", b"1", key="sent")
        return (await ctx.generic_call("Flow", "run", b"2", key="called")).decode()

    async with JoinedEngine(service) as engine:
        await engine.owner.client.register(flow)
        assert await engine.client.service_call(handle, None) == "3"
        assert await engine.client.workflow_attach("Flow", "sent") == 2


async def test_an_argument_that_cannot_be_read_is_terminal(opened: Opened):
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context, number: int) -> int:
        return number

    async with opened(service) as engine:
        with pytest.raises(TerminalError, match="Unable to parse an input argument"):
            await engine.client.generic_call("S", "handle", b"{not json")


async def test_random_and_uuid_and_time_are_the_same_on_every_attempt(opened: Opened):
    service, seen = Service("S", invocation_retry_policy=AT_ONCE), []

    @service.handler()
    async def handle(ctx: Context) -> None:
        seen.append((ctx.random().random(), str(ctx.uuid()), await ctx.time()))
        if len(seen) < 3:
            raise ValueError("again")

    async with opened(service) as engine:
        await engine.client.service_call(handle, None)
    assert seen[0] == seen[1] == seen[2]


# -- cancel -----------------------------------------------------------------------------------


async def test_a_cancelled_handler_compensates_and_its_callees_are_cancelled(opened: Opened):
    service, undone = Service("S"), []

    @service.handler()
    async def callee(ctx: Context) -> None:
        await ctx.sleep(timedelta(days=1))

    @service.handler()
    async def sent(ctx: Context) -> None:
        await ctx.sleep(timedelta(days=1))

    @service.handler()
    async def saga(ctx: Context) -> str:
        ctx.service_send(sent, None)
        try:
            await ctx.service_call(callee, None)
        except TerminalError as error:
            await ctx.run_typed("undo", undone.append, RunOptions(), error.status_code)
            raise
        return "not cancelled"

    async with opened(service) as engine:
        client = engine.client
        one = await client.service_send(saga, None)
        await until(engine, one.invocation_id, lambda _, entries: len(entries) >= 3)
        views = {view.handler: view for view in await client.invocations()}
        await until(engine, views["callee"].id, lambda v, _: v.wakes_at_ms is not None)
        await client.cancel(one.invocation_id)
        with pytest.raises(TerminalError, match="cancelled") as raised:
            await client.attach(one.invocation_id)
        assert raised.value.status_code == 409
        with pytest.raises(TerminalError, match="cancelled"):
            await client.attach(views["callee"].id)
        assert not (await client.invocation(views["sent"].id)).is_done
    assert undone == [409]


async def test_cancelling_during_a_step_stops_it_and_journals_that(opened: Opened):
    service, began, stopped = Service("S"), threading.Event(), []

    async def long() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append(1)
            raise

    @service.handler()
    async def handle(ctx: Context) -> str:
        step = ctx.run_typed("long", long)
        with suppress(TerminalError):
            await step
        try:
            await step
        except TerminalError as error:
            return f"{error.status_code} {error.message}"
        return ""

    async with opened(service) as engine:
        client = engine.client
        sent = await client.service_send(handle, None)
        await asyncio.to_thread(began.wait, 5)
        await client.cancel(sent.invocation_id)
        said = await client.attach(sent.invocation_id)
        assert said == "409 abandoned: it was cancelled"
        entries = await client.journal(sent.invocation_id)
        assert [entry.status for entry in entries if entry.kind == "Run"] == ["failed"]
    assert stopped == [1]
