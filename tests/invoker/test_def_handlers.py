"""`def` handlers: the same as `async def` ones, on a thread of their own."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest
from support.running import until, until_status

from nbdurable import (
    Context,
    ContextMisuseError,
    InvocationRetryPolicy,
    ObjectContext,
    RunOptions,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    as_completed,
    current_context,
    gather,
    select,
    wait,
    wait_completed,
)
from nbdurable.wiring import DurableEngine

Opened = Callable[..., DurableEngine]
NOW = timedelta(0)
SOON = timedelta(milliseconds=1)
AT_ONCE = InvocationRetryPolicy(initial_interval=SOON, max_interval=SOON)
WAIT_S_MAX = 10


async def test_one_program_written_both_ways_has_one_journal(opened: Opened):
    """So that a handler may be rewritten from one to the other while runs are in flight."""
    obj = VirtualObject("O")

    async def fetch(n: int) -> int:
        return n + 1

    @obj.handler(kind="shared")
    async def double(ctx: Any, n: int) -> int:
        return 2 * n

    @obj.handler()
    async def awaited(ctx: ObjectContext, n: int) -> list[Any]:
        one = await ctx.run_typed("fetch", fetch, n=n)
        ctx.set("n", one)
        two = await ctx.object_call(double, "other", one)
        await ctx.sleep(SOON)
        return [await ctx.get("n"), two, await ctx.state_keys(), ctx.key()]

    @obj.handler()
    def blocking(ctx: ObjectContext, n: int) -> list[Any]:
        one = ctx.run_typed("fetch", fetch, n=n).result()
        ctx.set("n", one)
        two = ctx.object_call(double, "other", one).result()
        ctx.sleep(SOON).result()
        return [wait(ctx.get("n")), two, wait(ctx.state_keys()), ctx.key()]

    async with opened(obj) as engine:
        journals = []
        for handler in (awaited, blocking):
            sent = await engine.client.object_send(handler, "k", 1)
            assert await engine.client.attach(sent.invocation_id) == [2, 4, ["n"], "k"]
            entries = await engine.client.journal(sent.invocation_id)
            journals.append([(entry.kind, entry.name) for entry in entries[1:]])
    assert journals[0] == journals[1]
    assert len(journals[0]) == 7


async def test_each_runs_on_a_thread_of_its_own_and_never_on_the_steps(opened: Opened):
    """Steps of `def` handlers use the pool: if the handlers did too, a full pool would deadlock."""
    service, threads = Service("S"), []
    meeting = threading.Barrier(2, timeout=WAIT_S_MAX)

    @service.handler()
    def handle(ctx: Context) -> None:
        threads.append(threading.current_thread())
        ctx.run_typed("meet", meeting.wait).result()
        threads.append(threading.current_thread())

    async with opened(service) as engine:
        await asyncio.gather(*(engine.client.service_call(handle, None) for _ in range(2)))
    assert len({thread.ident for thread in threads}) == 2
    assert all(thread.daemon and thread.name == "nbdurable S/handle" for thread in threads)


async def test_a_blocking_one_holds_up_nobody(opened: Opened):
    """That is what `def` says: this may block."""
    service, go = Service("S"), threading.Event()

    @service.handler()
    def slow(ctx: Context) -> str:
        assert go.wait(WAIT_S_MAX)
        return "slow"

    @service.handler()
    async def quick(ctx: Context) -> str:
        await ctx.sleep(SOON)
        return "quick"

    async with opened(service) as engine:
        sent = await engine.client.service_send(slow, None)
        assert await engine.client.service_call(quick, None) == "quick"
        go.set()
        assert await engine.client.attach(sent.invocation_id) == "slow"


async def test_what_it_sends_goes_out_while_it_computes_on(opened: Opened):
    """It has no `await` that would give the occasion."""
    service, told = Service("S"), threading.Event()

    @service.handler()
    async def listener(ctx: Context) -> None:
        told.set()

    @service.handler()
    def handle(ctx: Context) -> bool:
        ctx.service_send(listener, None)
        return told.wait(WAIT_S_MAX)

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) is True


async def test_it_waits_for_several_through_the_same_combinators(opened: Opened):
    service = Service("S")

    @service.handler()
    def handle(ctx: Context) -> dict[str, Any]:
        def steps(name: str) -> list[Any]:
            return [ctx.run_typed(f"{name} {n}", lambda n=n: n) for n in (1, 2)]

        never = ctx.awakeable()[1]
        done, waiting = wait(wait_completed(*steps("some"), never))
        return {
            "gather": [future.result() for future in wait(gather(*steps("all")))],
            "select": wait(select(late=never, now=ctx.sleep(NOW))),
            "as_completed": sorted(
                future.result() for future in wait(as_completed(*steps("each")))
            ),
            "wait_completed": [len(done) >= 1, never in waiting],
            "coroutine": len(wait(ctx.service_send(other, None).invocation_id())) > 10,
        }

    @service.handler()
    async def other(ctx: Context) -> None: ...

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == {
            "gather": [1, 2],
            "select": ["now", None],
            "as_completed": [1, 2],
            "wait_completed": [True, True],
            "coroutine": True,
        }


async def test_promises_can_be_blocked_on(opened: Opened):
    flow = Workflow("Flow")

    @flow.main()
    def run(ctx: WorkflowContext) -> str:
        return ctx.promise("review", type_hint=str).value().result()

    @flow.handler()
    def approve(ctx: Any, by: str) -> None:
        wait(ctx.promise("review").resolve(by))

    async with opened(flow) as engine:
        sent = await engine.client.workflow_send(run, "k", None)
        await engine.client.workflow_call(approve, "k", "ada")
        assert await engine.client.attach(sent.invocation_id) == "ada"


async def test_a_failed_step_raises_where_it_is_waited_for(opened: Opened):
    service = Service("S")

    def refuse() -> None:
        raise TerminalError("no tea", 418)

    @service.handler()
    def handle(ctx: Context) -> str:
        try:
            ctx.run_typed("refuse", refuse).result()
        except TerminalError as error:
            return f"{error.status_code} {error.message}"
        return "no error"

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == "418 no tea"


async def test_a_failing_one_is_retried_and_shows_the_users_lines(opened: Opened):
    service = Service("S", invocation_retry_policy=InvocationRetryPolicy(max_attempts=1))

    def users_own_function() -> None:
        raise ValueError("look here")

    @service.handler()
    def handle(ctx: Context) -> None:
        ctx.run_typed("fine", lambda: 1).result()
        users_own_function()

    async with opened(service) as engine:
        sent = await engine.client.service_send(handle, None)
        await until_status(engine, sent.invocation_id, "paused")
        error = await engine.client.last_error(sent.invocation_id)
    assert error is not None
    files = [line for line in error.stacktrace.splitlines() if line.startswith('  File "')]
    assert "in users_own_function" in error.stacktrace
    assert all(__file__ in line for line in files), error.stacktrace


async def test_a_finished_step_is_not_run_again_by_a_retry(opened: Opened):
    service, ran, attempts = Service("S", invocation_retry_policy=AT_ONCE), [], []

    @service.handler()
    def handle(ctx: Context) -> list[int]:
        attempts.append(1)
        first = ctx.run_typed("count", lambda: ran.append(1) or len(ran)).result()
        if len(attempts) < 3:
            raise ValueError("again")
        return [first, len(attempts)]

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == [1, 3]
    assert ran == [1]


def dozing() -> tuple[Service, Any, dict[str, list[Any]]]:
    """A handler that waits for an awakeable and notes how it is thrown out."""
    service, seen = Service("S", inactivity_timeout=NOW), {"step": [], "left": [], "threads": []}

    @service.handler()
    def doze(ctx: Context) -> list[Any]:
        seen["threads"].append(threading.current_thread())
        one = ctx.run_typed("step", lambda: seen["step"].append(1) or len(seen["step"])).result()
        try:
            return [one, ctx.awakeable(type_hint=str)[1].result()]
        except BaseException as error:
            seen["left"].append(type(error).__name__)
            raise

    return service, doze, seen


async def test_a_suspended_one_is_unwound_and_goes_on_where_it_was(opened: Opened):
    """A run that waits for a week must not hold a thread for a week."""
    service, doze, seen = dozing()
    async with opened(service) as engine:
        client = engine.client
        sent = await client.service_send(doze, None)
        view = await until_status(engine, sent.invocation_id, "suspended")
        await asyncio.to_thread(seen["threads"][0].join, WAIT_S_MAX)
        assert not seen["threads"][0].is_alive()
        await client.resolve_awakeable(view.open_awakeables[0], "up")
        assert await client.attach(sent.invocation_id) == [1, "up"]
    assert (seen["step"], seen["left"]) == ([1], ["AttemptClosed"])
    assert len(seen["threads"]) > 1


async def test_its_suspension_cannot_change_the_journal(opened: Opened):
    """Whatever it does on its way out is not recorded, and what it waits for raises."""
    obj, seen, left = VirtualObject("O", inactivity_timeout=NOW), [], threading.Event()

    @obj.handler()
    def stubborn(ctx: ObjectContext) -> str:
        try:
            return ctx.awakeable(type_hint=str)[1].result()
        except BaseException as error:  # noqa: BLE001 - the very thing users are told not to do.
            seen.append(type(error).__name__)
            ctx.set("late", 1)
            ctx.object_send(stubborn, "other", None)
            try:
                ctx.run_typed("late", lambda: 1).result()
            except BaseException as again:  # noqa: BLE001
                seen.append(type(again).__name__)
            left.set()
            return "swallowed"

    async with opened(obj) as engine:
        client = engine.client
        sent = await client.object_send(stubborn, "k", None)
        view = await until_status(engine, sent.invocation_id, "suspended")
        assert await asyncio.to_thread(left.wait, WAIT_S_MAX)
        assert seen == ["AttemptClosed", "AttemptClosed"]
        assert [entry.kind for entry in await client.journal(view.id)] == ["Input", "Awakeable"]
        await client.resolve_awakeable(view.open_awakeables[0], "up")
        assert await client.attach(view.id) == "up"
        assert len(await client.invocations()) == 1


async def test_cancelling_raises_where_it_waits_and_it_may_compensate(opened: Opened):
    service, undone = Service("S"), []

    @service.handler()
    def handle(ctx: Context) -> str:
        try:
            ctx.awakeable()[1].result()
        except TerminalError as error:
            ctx.run_typed("undo", undone.append, RunOptions(), error.status_code).result()
            raise
        return "not cancelled"

    async with opened(service) as engine:
        sent = await engine.client.service_send(handle, None)
        await until(engine, sent.invocation_id, lambda view, _: bool(view.open_awakeables))
        await engine.client.cancel(sent.invocation_id)
        with pytest.raises(TerminalError) as raised:
            await engine.client.attach(sent.invocation_id)
    assert (raised.value.status_code, undone) == (409, [409])


async def test_closing_the_engine_unwinds_it(opened: Opened):
    service, left, waiting = Service("S"), [], threading.Event()

    @service.handler()
    def handle(ctx: Context) -> None:
        try:
            future = ctx.awakeable()[1]
            waiting.set()
            future.result()
        except BaseException as error:
            left.append((type(error).__name__, threading.current_thread()))
            raise

    async with opened(service) as engine:
        await engine.client.service_send(handle, None)
        assert await asyncio.to_thread(waiting.wait, WAIT_S_MAX)
    assert left[0][0] == "AttemptClosed"
    left[0][1].join(WAIT_S_MAX)
    assert not left[0][1].is_alive()


async def test_one_that_hangs_is_left_to_itself_with_its_line(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Nobody can stop a thread from outside; one can say where it is."""
    monkeypatch.setattr("nbdurable.invoker.attempt.UNWIND_S_MAX", 0.01)
    monkeypatch.setattr("nbdurable.invoker.local.UNWIND_S_MAX", 0.5)
    service, entered, let_go, ended = Service("S"), *(threading.Event() for _ in range(3))
    seen: list[str] = []

    @service.handler()
    def hang(ctx: Context) -> None:
        ctx.service_send(hang, None, send_delay=timedelta(days=1))
        entered.set()
        let_go.wait(WAIT_S_MAX)
        try:
            ctx.service_send(hang, None)
            ctx.sleep(NOW).result()
        except BaseException as error:  # noqa: BLE001 - noted.
            seen.append(type(error).__name__)
        ended.set()

    with caplog.at_level(logging.WARNING, "nbdurable"):
        async with opened(service) as engine:
            await engine.client.service_send(hang, None)
            assert await asyncio.to_thread(entered.wait, WAIT_S_MAX)
    said = [record.getMessage() for record in caplog.records]
    assert any(f"{__file__}:" in text and "in hang" in text for text in said), said
    let_go.set()
    assert ended.wait(WAIT_S_MAX)
    assert seen == ["AttemptClosed"]


async def test_one_that_fights_its_end_is_stopped_for_good(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
):
    """It once burned a processor for ever, even after the engine was closed."""
    monkeypatch.setattr("nbdurable.invoker.thread.REFUSALS_MAX", 10)
    monkeypatch.setattr("nbdurable.invoker.local.UNWIND_S_MAX", 0.5)
    service, refused, stopped = Service("S"), [], threading.Event()
    monkeypatch.setattr("nbdurable.invoker.thread.stand_still", stopped.set)

    @service.handler(inactivity_timeout=NOW)
    def fight(ctx: Context) -> None:
        while not stopped.is_set():
            try:
                ctx.sleep(timedelta(days=1)).result()
            except BaseException as error:  # noqa: BLE001 - this is what fights.
                refused.append(type(error).__name__)

    async with opened(service) as engine:
        await engine.client.service_send(fight, None)
        assert await asyncio.to_thread(stopped.wait, WAIT_S_MAX)
    # One that it is thrown out of its wait with, ten more, and the last, which never came back.
    assert refused == ["AttemptClosed"] * 12


async def test_changed_code_pauses_and_names_its_line(opened: Opened):
    service, changed = Service("S"), Service("S")

    @service.handler()
    def handle(ctx: Context) -> None:
        ctx.run_typed("fetch", lambda: 1).result()
        raise ValueError("a bug")

    def other(ctx: Context) -> None:
        try:
            ctx.run_typed("load", lambda: 1)  # the changed line
        except Exception:  # noqa: BLE001
            return

    changed.handler("handle")(other)
    async with opened(service) as engine:
        sent = await engine.client.service_send(handle, None)
        await until_status(engine, sent.invocation_id, "backing-off")
        await engine.client.register(changed)
        view = await until_status(engine, sent.invocation_id, "paused")
    assert "attempted: Run 'load'" in str(view.failure)
    assert f"{__file__}:" in str(view.failure)
    assert "in other" in str(view.failure)


who: ContextVar[str] = ContextVar("who", default="nobody")


async def test_it_sees_the_context_of_its_caller_and_of_its_context_managers(opened: Opened):
    """Output is routed by the one, resources are found by the other."""

    @asynccontextmanager
    async def connected() -> AsyncIterator[None]:
        token = who.set(f"{who.get()} connected")
        try:
            yield
        finally:
            who.reset(token)

    service = Service("S", invocation_context_managers=[connected])

    @service.handler()
    def handle(ctx: Context) -> list[Any]:
        return [who.get(), current_context() is ctx]

    async with opened(service) as engine:
        who.set("ada")
        assert await engine.client.service_call(handle, None) == ["ada connected", True]


async def test_a_plain_wrapper_of_an_async_handler_is_awaited(opened: Opened):
    """Decorators of the user's own are rarely async themselves."""
    service = Service("S")

    def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn, assigned=("__name__",), updated=())
        def wrapper(ctx: Context, name: str) -> Any:
            return fn(ctx, name)

        del wrapper.__wrapped__
        return wrapper

    @service.handler()
    @logged
    async def greet(ctx: Context, name: str) -> str:
        return await ctx.run_typed("greet", lambda: f"hello {name}")

    @service.handler()
    def returned(ctx: Context) -> Any:
        return ctx.run_typed("value", lambda: 7)

    async with opened(service) as engine:
        assert await engine.client.service_call(greet, "ada") == "hello ada"
        assert await engine.client.service_call(returned, None) == 7


@pytest.mark.parametrize("how", ["result", "wait"])
async def test_blocking_in_an_async_handler_is_refused(opened: Opened, how: str):
    """It would stop every other handler, and itself: nobody is left to complete the future."""
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> None:
        future = ctx.run_typed("step", lambda: 1, RunOptions())
        future.result() if how == "result" else wait(gather(future))

    async with opened(service) as engine:
        sent = await engine.client.service_send(handle, None)
        view = await until_status(engine, sent.invocation_id, "paused")
    assert "write: await ctx.run_typed" in str(view.failure)


async def test_awaiting_on_a_loop_of_its_own_is_refused(opened: Opened):
    """`asyncio.run()` in a `def` handler is fine, and its loop is not the one futures live on."""
    service = Service("S")

    @service.handler()
    def handle(ctx: Context) -> None:
        async def inner() -> int:
            return await ctx.run_typed("step", lambda: 1)

        asyncio.run(inner())

    async with opened(service) as engine:
        sent = await engine.client.service_send(handle, None)
        view = await until_status(engine, sent.invocation_id, "paused")
    assert "is awaited; write: future.result()" in str(view.failure)


def test_waiting_outside_of_handlers_is_refused() -> None:
    """There is no journal that could say when it is over."""
    with pytest.raises(ContextMisuseError, match="this code is part of none"):
        wait(asyncio.sleep(0))
