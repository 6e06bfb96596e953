"""What handlers can count on, whatever link runs them. Every test is one program, end to end.

`opened` is parametrised over links: an attached one joins by one more entry in `conftest.LINKS`.
Always replaying, an attempt is suspended at every await, so that no test passes because a handler
kept something in memory.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from support.running import HandClock, durable, until, until_status

import nbdurable
from nbdurable import (
    Context,
    InvocationRetryPolicy,
    ObjectContext,
    ObjectSharedContext,
    RetryableError,
    RunOptions,
    SerializationError,
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

NOW = timedelta(0)
SOON = timedelta(milliseconds=1)
AT_ONCE = InvocationRetryPolicy(initial_interval=SOON, max_interval=SOON)
NEVER_AGAIN = InvocationRetryPolicy(max_attempts=1)


Opened = Callable[..., DurableEngine]


# -- steps ------------------------------------------------------------------------------------


async def test_steps_may_be_async_or_not_and_run_once(opened: Opened):
    greeter, ran = Service("Greeter"), []

    async def hello(name: str) -> str:
        ran.append("hello")
        return f"hello {name}"

    def shout(text: str) -> str:
        ran.append(threading.current_thread().name)
        return text.upper()

    @greeter.handler()
    async def greet(ctx: Context, name: str) -> str:
        text = await ctx.run_typed("hello", hello, name=name)
        again = await ctx.run_typed("shout", shout, RunOptions(), text)
        return await ctx.run_typed("lambda", lambda: again + "!")

    async with opened(greeter) as engine:
        assert await engine.client.service_call(greet, "ada") == "HELLO ADA!"
    assert ran[0] == "hello"
    assert ran[1].startswith("nbdurable-step")


async def test_a_step_that_is_not_awaited_is_not_executed(opened: Opened):
    service, ran = Service("S"), []

    @service.handler()
    async def handle(ctx: Context) -> None:
        ctx.run_typed("never", ran.append, RunOptions(), 1)
        await ctx.run_typed("once", ran.append, RunOptions(), 2)

    async with opened(service) as engine:
        await engine.client.service_call(handle, None)
    assert ran == [2]


async def test_steps_awaited_together_run_together(opened: Opened):
    service = Service("S")
    meeting = threading.Barrier(2, timeout=5)

    @service.handler()
    async def handle(ctx: Context) -> list[int]:
        both = [ctx.run_typed(f"step {n}", lambda n=n: meeting.wait() * 0 + n) for n in (1, 2)]
        return [await future for future in await gather(*both)]

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == [1, 2]


async def test_a_failing_step_is_retried_by_its_own_policy_in_the_same_attempt(opened: Opened):
    service, attempts, tries = Service("S"), [], []

    def flaky() -> int:
        tries.append(attempts[-1])
        if len(tries) < 3:
            raise ValueError(f"try {len(tries)}")
        return len(tries)

    @service.handler()
    async def handle(ctx: Context) -> int:
        attempts.append(len(attempts) + 1)
        return await ctx.run_typed("flaky", flaky, RunOptions(initial_retry_interval=SOON))

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == 3
    assert tries == [1, 1, 1]


async def test_a_step_out_of_attempts_is_a_terminal_error_one_can_catch(opened: Opened):
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> str:
        try:
            await ctx.run_typed("bad", lambda: 1 / 0, RunOptions(max_attempts=1))
        except TerminalError as error:
            return f"{error.status_code} {error.message}"
        return "no error"

    async with opened(service) as engine:
        said = await engine.client.service_call(handle, None)
    assert said == "500 ZeroDivisionError('division by zero')"


async def test_without_a_policy_a_failing_step_fails_the_attempt(opened: Opened):
    service, attempts, tries = Service("S", invocation_retry_policy=AT_ONCE), [], []

    def flaky() -> str:
        tries.append(attempts[-1])
        if len(tries) < 3:
            raise ValueError("not yet")
        return "done"

    @service.handler()
    async def handle(ctx: Context) -> str:
        attempts.append(len(attempts) + 1)
        await ctx.run_typed("before", lambda: None)
        return await ctx.run_typed("flaky", flaky)

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == "done"
    assert len(tries) == 3
    assert tries == list(range(tries[0], tries[0] + 3))


async def test_a_finished_step_is_not_run_again_by_a_retry(opened: Opened):
    service, ran, attempts = Service("S", invocation_retry_policy=AT_ONCE), [], []

    @service.handler()
    async def handle(ctx: Context) -> list[int]:
        attempts.append(1)
        first = await ctx.run_typed("count", lambda: ran.append(1) or len(ran))
        if len(attempts) < 3:
            raise ValueError("again")
        return [first, len(attempts)]

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == [1, 3]
    assert ran == [1]


@pytest.mark.parametrize("where", ["in the handler", "in a step", "as a cause"])
async def test_a_terminal_error_ends_the_invocation_and_reaches_the_caller(
    opened: Opened, where: str
):
    service = Service("S")

    def refuse() -> None:
        raise TerminalError("no tea", 418, {"pot": "brown"})

    @service.handler()
    async def handle(ctx: Context) -> None:
        match where:
            case "in a step":
                await ctx.run_typed("refuse", refuse)
            case "as a cause":
                try:
                    refuse()
                except TerminalError as error:
                    raise ValueError("wrapped") from error
            case _:
                refuse()

    @service.handler()
    async def caller(ctx: Context) -> list[Any]:
        try:
            await ctx.service_call(handle, None)
        except TerminalError as error:
            return [error.status_code, error.message, error.metadata]
        return []

    async with opened(service) as engine:
        with pytest.raises(TerminalError, match="no tea") as raised:
            await engine.client.service_call(handle, None)
        assert raised.value.status_code == 418
        said = await engine.client.service_call(caller, None)
        assert said == [418, "no tea", {"pot": "brown"}]


@pytest.mark.parametrize(
    "error",
    [
        TerminalError(ValueError("not a text")),  # type: ignore[arg-type]
        TerminalError("half \ud800"),
        TerminalError("x", "418"),  # type: ignore[arg-type]
        TerminalError("x", metadata={"n": 1}),  # type: ignore[dict-item]
    ],
)
async def test_what_people_put_into_a_terminal_error_never_harms_the_journal(
    opened: Opened, error: TerminalError
):
    """A message that is no text, or no UTF-8, once stopped the engine at its commit."""
    service, store = Service("S"), MemoryStore()

    @service.handler()
    async def handle(ctx: Context) -> None:
        raise error

    async with opened(service, store=store) as engine:
        with pytest.raises(TerminalError):
            await engine.client.service_call(handle, None)
    async with opened(service, store=store) as engine:
        assert [view.is_done for view in await engine.client.invocations()] == [True]


async def test_an_error_with_an_odd_status_code_or_repr_never_harms_the_journal(opened: Opened):
    service, store = Service("S", invocation_retry_policy=NEVER_AGAIN), MemoryStore()

    class Odd(Exception):
        status_code = "E42"

        def __repr__(self) -> str:
            raise RuntimeError("no repr either")

    @service.handler()
    async def handle(ctx: Context) -> None:
        raise Odd

    async with opened(service, store=store) as engine:
        sent = await engine.client.service_send(handle, None)
        view = await until_status(engine, sent.invocation_id, "paused")
        assert "repr cannot be made" in str(view.failure)
    async with opened(service, store=store) as engine:
        assert len(await engine.client.invocations()) == 1


async def test_a_retryable_error_says_when(opened: Opened):
    service, clock, attempts = Service("S"), HandClock(), []

    @service.handler()
    async def handle(ctx: Context) -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise RetryableError("busy", retry_after=timedelta(hours=3))
        return "done"

    async with opened(service, clock=clock) as engine:
        sent = await engine.client.service_send(handle, None)
        view = await until_status(engine, sent.invocation_id, "backing-off")
        assert view.next_retry_at_ms == clock.now_ms() + 3 * 3_600_000
        await clock.turn(engine, 3 * 3_600_000)
        assert await engine.client.attach(sent.invocation_id) == "done"


async def test_a_value_without_bytes_names_its_step_and_pauses(opened: Opened):
    """Retrying cannot heal it, so nobody waits for seventy attempts."""
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> None:
        await ctx.run_typed("fetch", lambda: {"rows": [1, {2}]})

    async with opened(service) as engine:
        sent = await engine.client.service_send(handle, None)
        view = await until_status(engine, sent.invocation_id, "paused")
        assert view.attempt == 1
        assert "step 'fetch'" in str(view.failure)
        assert '["rows"][1]' in str(view.failure)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_step_that_exits_fails_like_any_other(opened: Opened, kind: str):
    """`sys.exit()` in a step once ended the thread that all handlers run on."""
    service, tries = Service("S", invocation_retry_policy=AT_ONCE), []

    def leave() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise SystemExit(3)
        return "stayed"

    async def leave_async() -> str:
        return leave()

    @service.handler()
    async def handle(ctx: Context) -> str:
        return await ctx.run_typed("leave", leave if kind == "sync" else leave_async)

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == "stayed"


async def test_a_handler_that_exits_fails_like_any_other(opened: Opened):
    service, tries = Service("S", invocation_retry_policy=AT_ONCE), []

    @service.handler()
    async def handle(ctx: Context) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise SystemExit(3)
        return "stayed"

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == "stayed"


class Odd(BaseException):
    """As `pytest.fail()` raises: no Exception, so that nobody swallows it by accident."""


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("odd", [Odd, StopIteration, StopAsyncIteration, GeneratorExit])
@pytest.mark.parametrize("where", ["step", "handler"])
async def test_whatever_is_raised_is_a_failure(
    opened: Opened, kind: str, odd: type[BaseException], where: str
):
    """Such a run once stayed `running` for ever, and nothing said why."""
    service, tries = Service("S", invocation_retry_policy=AT_ONCE), []

    def work() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise odd("no")
        return "done"

    async def work_async() -> str:
        return work()

    async def handle_async(ctx: Context) -> str:
        if where == "handler":
            return work()
        return await ctx.run_typed("work", work if kind == "sync" else work_async)

    def handle_sync(ctx: Context) -> str:
        return work()

    is_sync = where == "handler" and kind == "sync"
    handle = service.handler("handle")(handle_sync if is_sync else handle_async)
    async with opened(service) as engine:
        sent = await engine.client.service_send(handle, None)
        assert await engine.client.attach(sent.invocation_id) == "done"
        view = await engine.client.invocation(sent.invocation_id)
        assert (len(tries), view.attempt >= 2) == (2, True)


async def test_a_step_in_which_something_was_cancelled_fails_like_any_other(opened: Opened):
    """Its handler once waited for it for ever."""
    service, tries = Service("S", invocation_retry_policy=AT_ONCE), []

    async def awkward() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise asyncio.CancelledError
        return "done"

    @service.handler()
    async def handle(ctx: Context) -> str:
        return await ctx.run_typed("awkward", awkward)

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == "done"


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


# -- suspension -------------------------------------------------------------------------------


def dozing() -> tuple[Service, Any, dict[str, list[Any]]]:
    """A service that suspends at once, and what its handler saw."""
    service, seen = Service("S", inactivity_timeout=NOW), {"finally": [], "step": [], "late": []}

    @service.handler()
    async def doze(ctx: Context) -> list[Any]:
        one = await ctx.run_typed("step", lambda: seen["step"].append(1) or len(seen["step"]))
        try:
            return [one, await ctx.awakeable(type_hint=str)[1]]
        finally:
            seen["finally"].append(1)

    return service, doze, seen


async def test_a_suspended_handler_is_unwound_and_goes_on_where_it_was(opened: Opened):
    service, doze, seen = dozing()
    async with opened(service) as engine:
        client = engine.client
        sent = await client.service_send(doze, None)
        view = await until_status(engine, sent.invocation_id, "suspended")
        await client.resolve_awakeable(view.open_awakeables[0], "up")
        assert await client.attach(sent.invocation_id) == [1, "up"]
        assert (await client.invocation(sent.invocation_id)).attempt > 1
    assert seen["step"] == [1]
    assert len(seen["finally"]) == 2


async def test_suspension_cannot_change_the_journal(opened: Opened):
    """Whatever a handler does on its way out, synchronous or awaited, is not recorded."""
    obj, seen = VirtualObject("O", inactivity_timeout=NOW), []
    entered = threading.Event()

    @obj.handler()
    async def stubborn(ctx: ObjectContext) -> str:
        try:
            return await ctx.awakeable(type_hint=str)[1]
        except BaseException as error:  # noqa: BLE001 - the very thing users are told not to do.
            seen.append(type(error).__name__)
            ctx.set("late", 1)
            ctx.object_send(stubborn, "other", None)
            try:
                await ctx.run_typed("late", lambda: 1)
            except BaseException as again:  # noqa: BLE001
                seen.append(type(again).__name__)
            entered.set()
            return "swallowed"

    async with opened(obj) as engine:
        client = engine.client
        sent = await client.object_send(stubborn, "k", None)
        view = await until_status(engine, sent.invocation_id, "suspended")
        await asyncio.to_thread(entered.wait, 5)
        assert seen == ["AttemptClosed", "AttemptClosed"]
        assert [entry.kind for entry in await client.journal(view.id)] == ["Input", "Awakeable"]
        await client.resolve_awakeable(view.open_awakeables[0], "up")
        assert await client.attach(view.id) == "up"
        assert len(await client.invocations()) == 1


async def test_a_handler_that_will_not_unwind_is_left_to_itself_with_its_line(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("nbdurable.invoker.attempt.UNWIND_S_MAX", 0.01)
    monkeypatch.setattr("nbdurable.invoker.local.UNWIND_S_MAX", 0.01)
    service = Service("S", inactivity_timeout=NOW)
    warned, let_go = threading.Event(), threading.Event()

    @service.handler()
    async def clinging(ctx: Context) -> str:
        try:
            return await ctx.awakeable(type_hint=str)[1]
        finally:
            while not let_go.is_set():
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)

    said: list[str] = []

    class Noticing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "left to itself" in record.getMessage():
                said.append(record.getMessage())
                warned.set()

    noticing = Noticing()
    logging.getLogger("nbdurable").addHandler(noticing)
    try:
        async with opened(service) as engine:
            sent = await engine.client.service_send(clinging, None)
            view = await until_status(engine, sent.invocation_id, "suspended")
            assert await asyncio.to_thread(warned.wait, 5)
            assert f"{__file__}:" in said[0]
            assert "in clinging" in said[0]
            await engine.client.resolve_awakeable(view.open_awakeables[0], "up")
            let_go.set()
            assert await engine.client.attach(view.id) == "up"
    finally:
        logging.getLogger("nbdurable").removeHandler(noticing)


async def test_a_handler_that_will_not_unwind_does_not_keep_the_engine_open(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("nbdurable.invoker.attempt.UNWIND_S_MAX", 0.01)
    monkeypatch.setattr("nbdurable.invoker.local.UNWIND_S_MAX", 0.01)
    service, let_go = Service("S", inactivity_timeout=NOW), threading.Event()

    @service.handler()
    async def clinging(ctx: Context) -> str:
        try:
            return await ctx.awakeable(type_hint=str)[1]
        finally:
            while not let_go.is_set():
                with suppress(BaseException):
                    await asyncio.sleep(0.01)

    try:
        async with asyncio.timeout(10), opened(service) as engine:
            sent = await engine.client.service_send(clinging, None)
            await until_status(engine, sent.invocation_id, "suspended")
    finally:
        let_go.set()


async def test_a_finished_attempt_says_so(opened: Opened):
    service, events = Service("S"), []

    @service.handler()
    async def handle(ctx: Context) -> None:
        events.append(ctx.request().attempt_finished_event)
        assert not events[0].is_set()

    async with opened(service) as engine:
        await engine.client.service_call(handle, None)
    assert events[0].is_set()


# -- mismatch ---------------------------------------------------------------------------------


def versions(second: str) -> tuple[Service, Service, Any, threading.Event]:
    """Two versions of a service; the first fails after it has recorded two entries."""
    service, changed, go = Service("S"), Service("S"), threading.Event()

    @service.handler()
    async def handle(ctx: Context) -> str:
        await ctx.run_typed("fetch", lambda: 1)
        await ctx.run_typed("store", lambda: 1)
        raise ValueError("a bug")

    async def other(ctx: Context) -> str:
        await ctx.run_typed("fetch", lambda: 1)
        if second == "renamed":
            await ctx.run_typed("save", lambda: 1)  # the changed line
        return "early"

    changed.handler("handle")(other)
    return service, changed, handle, go


@pytest.mark.parametrize("second", ["renamed", "returns early"])
async def test_changed_code_pauses_at_once_and_says_what_where_and_what_to_do(
    opened: Opened, second: str
):
    service, changed, handle, _ = versions(second)
    async with opened(service) as engine:
        client = engine.client
        sent = await client.service_send(handle, None)
        await until_status(engine, sent.invocation_id, "backing-off")
        await client.register(changed)
        view = await until_status(engine, sent.invocation_id, "paused")
        said = str(view.failure)
        assert "recorded:  Run 'store'" in said
        assert "Ways out: resume it on the revision" in said
        if second == "renamed":
            assert "attempted: Run 'save'" in said
            assert f"{__file__}:" in said
        assert view.paused_by == "error"


async def test_a_mismatch_cannot_be_caught(opened: Opened):
    """Else a handler's `except Exception` would go on with a journal that is not its own."""
    service, changed, handle, _ = versions("renamed")

    async def careful(ctx: Context) -> str:
        try:
            await ctx.run_typed("save", lambda: 1)
        except Exception:  # noqa: BLE001
            return "swallowed"
        return "went on"

    changed.handlers.clear()
    changed.handler("handle")(careful)
    async with opened(service) as engine:
        sent = await engine.client.service_send(handle, None)
        await until_status(engine, sent.invocation_id, "backing-off")
        await engine.client.register(changed)
        view = await until_status(engine, sent.invocation_id, "paused")
        assert "attempted: Run 'save'" in str(view.failure)


# -- the world outside ------------------------------------------------------------------------


async def test_handlers_may_await_what_is_not_ours(opened: Opened):
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> list[str]:
        said = []
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            said.append("foreign")
        said.append(await ctx.run_typed("step", lambda: "after"))
        said.append(await asyncio.to_thread(lambda: "thread"))
        return said

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == ["foreign", "after", "thread"]


async def test_a_timeout_of_asyncio_may_end_a_wait_for_what_is_ours():
    """While it runs: the clock of `asyncio.timeout` does not outlive a suspension."""
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> list[str]:
        said = []
        try:
            async with asyncio.timeout(0.01):
                await ctx.awakeable()[1]
        except TimeoutError:
            said.append("late")
        return [*said, await ctx.run_typed("step", lambda: "after")]

    async with durable(service) as engine:
        assert await engine.client.service_call(handle, None) == ["late", "after"]


async def test_a_task_of_the_users_own_may_await_what_is_ours(opened: Opened):
    """What only a task waited for was once never asked for: the handler itself did not yield."""
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> list[str]:
        async def helper() -> str:
            one = await ctx.run_typed("one", lambda: "one")
            await ctx.sleep(SOON)
            return one + await ctx.run_typed("two", lambda: "two")

        first = await asyncio.create_task(helper())
        async with asyncio.TaskGroup() as group:
            second = group.create_task(helper())
        return [first, second.result()]

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == ["onetwo", "onetwo"]


async def test_context_managers_are_entered_and_left_once_per_attempt(opened: Opened):
    """A connection that one attempt broke must not be the one its successor gets."""
    seen: list[str] = []

    def noting(name: str) -> Callable[[], AbstractAsyncContextManager[None]]:
        @asynccontextmanager
        async def manager() -> AsyncIterator[None]:
            seen.append(f"+{name}")
            try:
                yield
            except RetryableError:
                seen.append("saw it fail")
                raise
            finally:
                seen.append(f"-{name}")

        return manager

    service = Service("S", invocation_context_managers=[noting("outer")])

    @service.handler(invocation_context_managers=[noting("inner")])
    async def handle(ctx: Context) -> str:
        seen.append("handler")
        if seen.count("handler") == 1:
            raise RetryableError("again", retry_after=NOW)
        return "done"

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == "done"
    failed = ["+outer", "+inner", "handler", "saw it fail", "-inner", "saw it fail", "-outer"]
    assert seen == [*failed, "+outer", "+inner", "handler", "-inner", "-outer"]


async def test_two_awaits_at_once_are_refused_and_the_right_way_is_said(opened: Opened):
    """asyncio.gather over ctx futures once hung for ever; its order could not be replayed."""
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> None:
        await asyncio.gather(ctx.awakeable()[1], ctx.awakeable()[1])

    async with opened(service) as engine:
        sent = await engine.client.service_send(handle, None)
        view = await until_status(engine, sent.invocation_id, "paused")
        assert "nbdurable's gather()" in str(view.failure)


who = contextvars.ContextVar("who", default="nobody")


async def test_the_callers_context_reaches_handler_steps_retries_and_children(opened: Opened):
    """So that output goes to the cell that submitted it, whatever prints it."""
    service, seen, tries = Service("S"), {}, []

    def flaky() -> None:
        tries.append(who.get())
        if len(tries) < 2:
            raise ValueError("again")

    async def step() -> None:
        seen["async step"] = who.get()

    @service.handler()
    async def child(ctx: Context) -> None:
        seen["child"] = who.get()

    @service.handler()
    async def handle(ctx: Context) -> None:
        seen["handler"] = who.get()
        await ctx.run_typed("step", step)
        await ctx.run_typed("flaky", flaky, RunOptions(initial_retry_interval=SOON))
        await ctx.service_call(child, None)

    async with opened(service) as engine:
        who.set("ada")
        await engine.client.service_call(handle, None)
    assert seen == {"handler": "ada", "async step": "ada", "child": "ada"}
    assert tries == ["ada", "ada"]


@pytest.mark.parametrize("where", ["handler", "sync step", "async step", "a call of ours"])
async def test_error_reports_show_the_users_frames_and_none_of_ours(opened: Opened, where: str):
    service = VirtualObject("S", invocation_retry_policy=NEVER_AGAIN)

    def users_own_function() -> None:
        raise ValueError("look here")

    async def users_own_coroutine() -> None:
        users_own_function()

    @service.handler()
    async def handle(ctx: ObjectContext) -> None:
        match where:
            case "handler":
                users_own_function()
            case "sync step":
                await ctx.run_typed("step", users_own_function)
            case "async step":
                await ctx.run_typed("step", users_own_coroutine)
            case _:
                ctx.set("n", {1})

    async with opened(service) as engine:
        sent = await engine.client.object_send(handle, "k", None)
        await until_status(engine, sent.invocation_id, "paused")
        inv = engine.engine.machine.state.invocations[sent.invocation_id]
        trace = inv.last_error.stacktrace
    assert f'File "{__file__}"' in trace
    assert ("in users_own_function" in trace) == (where != "a call of ours")
    files = [line for line in trace.splitlines() if line.startswith('  File "')]
    assert all(__file__ in line for line in files), trace


async def test_a_missing_handler_after_an_edit_does_not_stop_the_engine(opened: Opened):
    service, edited = Service("S"), Service("S")

    @service.handler()
    async def old(ctx: Context) -> None:
        raise ValueError("a bug")

    @edited.handler()
    async def new(ctx: Context) -> str:
        return "alive"

    async with opened(service) as engine:
        sent = await engine.client.service_send(old, None)
        await until_status(engine, sent.invocation_id, "backing-off")
        await engine.client.register(edited)
        assert await engine.client.service_call(new, None) == "alive"
        assert (await engine.client.invocation(sent.invocation_id)).status == "backing-off"


async def test_serialization_errors_can_be_caught_where_they_happen(opened: Opened):
    obj = VirtualObject("O")

    @obj.handler()
    async def handle(ctx: ObjectContext) -> str:
        try:
            ctx.set("n", {1})
        except SerializationError as error:
            return str(error)
        return ""

    async with opened(obj) as engine:
        assert "state 'n'" in await engine.client.object_call(handle, "k", None)


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
