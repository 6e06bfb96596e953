"""Suspension, changed code, and the world outside, whatever link runs the handler."""

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
from support.running import NEVER_AGAIN, NOW, SOON, durable, until_status

from nbdurable import (
    Context,
    ObjectContext,
    RetryableError,
    RunOptions,
    SerializationError,
    Service,
    TerminalError,
    VirtualObject,
)
from nbdurable.wiring import DurableEngine

Opened = Callable[..., DurableEngine]


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


async def test_a_handler_that_sleeps_for_long_is_unwound_at_once_and_can_be_cancelled(
    opened: Opened,
):
    """No attempt is there to be told by then: see `nbdurable.invoker.dormant`."""
    service, seen, left = Service("S"), [], threading.Event()

    @service.handler()
    async def sleep(ctx: Context) -> None:
        try:
            await ctx.sleep(timedelta(hours=10))
        except TerminalError as error:
            seen.append(error.message)
            raise
        finally:
            left.set()

    async with opened(service) as engine:
        sent = await engine.client.service_send(sleep, None)
        assert await asyncio.to_thread(left.wait, 10)
        assert seen == []
        await engine.client.cancel(sent.invocation_id)
        with pytest.raises(TerminalError, match="cancelled"):
            await engine.client.attach(sent.invocation_id)
    assert seen == ["cancelled"]


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
