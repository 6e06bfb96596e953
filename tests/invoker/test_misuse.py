"""What people get wrong with a ctx: a clear sentence or the right thing, never a hang."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from support.running import until, until_status

from nbdurable import (
    Context,
    ContextMisuseError,
    DefinitionError,
    InvocationRetryPolicy,
    RunOptions,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    current_context,
    gather,
    select,
)
from nbdurable.wiring import DurableEngine

Opened = Callable[..., DurableEngine]
SOON = {
    "initial_interval": timedelta(milliseconds=1),
    "max_interval": timedelta(milliseconds=1),
}
AT_ONCE = InvocationRetryPolicy(**SOON)
WAIT_S_MAX = 10


async def paused_with(opened: Opened, handle: Callable[..., Any]) -> str:
    """Run a handler that is wrong; return what its run is paused with, at its first attempt."""
    service = Service("S", invocation_retry_policy=AT_ONCE)
    service.handler("handle")(handle)
    async with opened(service) as engine:
        sent = await engine.client.service_send(service.handlers["handle"].fn, None)
        view = await until_status(engine, sent.invocation_id, "paused")
    assert view.attempt == 1
    return str(view.failure)


# -- in a step -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "def", "lambda that returns a coroutine"])
@pytest.mark.parametrize("use", ["sleep", "run_typed", "random", "uuid", "send", "await"])
async def test_ctx_in_a_step_is_refused(opened: Opened, kind: str, use: str):
    """It would be recorded once and missing in replay: a mismatch, days later."""

    async def handle(ctx: Context) -> None:
        before = ctx.awakeable()[1]

        def misuse() -> Any:
            match use:
                case "sleep":
                    return ctx.sleep(timedelta(0))
                case "run_typed":
                    return ctx.run_typed("inner", lambda: 1)
                case "random":
                    return ctx.random()
                case "uuid":
                    return ctx.uuid()
                case "send":
                    return ctx.generic_send("S", "handle", b"")
                case _:
                    return before

        async def misuse_async() -> Any:
            return await misuse()

        def misuse_sync() -> Any:
            return misuse() if use != "await" else before.result()

        def misuse_later() -> Any:
            return misuse_async()

        action = {"async": misuse_async, "def": misuse_sync}.get(kind, misuse_later)
        await ctx.run_typed("charge", action, RunOptions(max_attempts=5))

    said = await paused_with(opened, handle)
    assert "ctx is used inside the step 'charge'" in said
    assert "Use ctx before or after the step" in said


async def test_a_step_may_look_at_its_invocation(opened: Opened):
    """Neither the request nor the key is recorded, so both are the same in replay."""
    obj = VirtualObject("O")

    @obj.handler()
    async def handle(ctx: Any) -> list[Any]:
        look = await ctx.run_typed("look", lambda: [ctx.request().id, ctx.key()])
        return [look == [ctx.request().id, ctx.key()], current_context() is ctx]

    async with opened(obj) as engine:
        assert await engine.client.object_call(handle, "k", None) == [True, True]


async def test_what_a_step_sends_off_by_a_client_is_no_part_of_the_step(opened: Opened):
    """It inherits the step's context, for its output, and not that it is in a step."""
    service, engines = Service("S"), []

    @service.handler()
    async def other(ctx: Context) -> int:
        return await ctx.run_typed("fine", lambda: 7)

    @service.handler()
    async def handle(ctx: Context) -> int:
        return await ctx.run_typed("outside", call_other)

    async def call_other() -> int:
        return await engines[0].client.service_call(other, None)

    async with opened(service) as engine:
        engines.append(engine)
        assert await engine.client.service_call(handle, None) == 7


# -- too late ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["call", "await"])
async def test_ctx_after_the_handlers_end_is_refused(opened: Opened, how: str):
    """In a task that was left behind, or kept in a variable: nothing can be recorded any more."""
    service, kept, errors, tried = Service("S"), [], [], threading.Event()

    @service.handler()
    async def handle(ctx: Context) -> None:
        go = asyncio.Event()
        future = ctx.awakeable()[1]

        async def leftover() -> None:
            await go.wait()
            try:
                if how == "call":
                    ctx.sleep(timedelta(0))
                else:
                    await future
            except ContextMisuseError as error:
                errors.append(str(error))
            tried.set()

        kept.append((asyncio.create_task(leftover()), asyncio.get_running_loop(), go))

    async with opened(service) as engine:
        await engine.client.service_call(handle, None)
        _, loop, go = kept[0]
        loop.call_soon_threadsafe(go.set)
        assert await asyncio.to_thread(tried.wait, WAIT_S_MAX)
    assert "this ctx belongs to S/handle" in errors[0]
    assert "which has ended" in errors[0]


async def test_a_kept_ctx_of_an_ended_handler_is_refused_anywhere(opened: Opened):
    service, kept = Service("S"), []

    @service.handler()
    def handle(ctx: Context) -> None:
        kept.append(ctx)

    async with opened(service) as engine:
        await engine.client.service_call(handle, None)
        with pytest.raises(ContextMisuseError, match="which has ended"):
            kept[0].sleep(timedelta(0))
    with pytest.raises(ContextMisuseError, match="which has ended"):
        kept[0].uuid()


# -- somebody else's -----------------------------------------------------------------------------


async def test_the_ctx_of_another_invocation_is_refused(opened: Opened):
    """Its journal would get entries in an order that depends on who was faster."""
    service, kept = Service("S"), []

    @service.handler()
    async def owner(ctx: Context) -> None:
        kept.append(ctx)
        await ctx.awakeable()[1]

    @service.handler()
    async def thief(ctx: Context) -> str:
        try:
            await kept[0].sleep(timedelta(0))
        except ContextMisuseError as error:
            return str(error)
        return "went on"

    async with opened(service) as engine:
        sent = await engine.client.service_send(owner, None)
        await until(engine, sent.invocation_id, lambda view, _: bool(view.open_awakeables))
        said = await engine.client.service_call(thief, None)
    assert said.startswith("this ctx belongs to S/owner")
    assert "and the code that uses it to S/thief" in said


async def test_ctx_in_another_thread_is_refused(opened: Opened):
    """Two threads have no order that replay could repeat, and the loop is not theirs to touch."""

    async def handle(ctx: Context) -> None:
        await asyncio.to_thread(ctx.sleep, timedelta(0))

    said = await paused_with(opened, handle)
    assert "is used in another thread than its handler's" in said
    assert "call blocking functions as steps" in said


async def test_a_def_handlers_ctx_is_its_threads_only(opened: Opened):
    def handle(ctx: Context) -> None:
        errors: list[BaseException] = []

        def use() -> None:
            try:
                ctx.sleep(timedelta(0))
            except ContextMisuseError as error:
                errors.append(error)

        helper = threading.Thread(target=use)
        helper.start()
        helper.join()
        raise errors[0]

    assert "in another thread than its handler's" in await paused_with(opened, handle)


async def test_futures_of_another_invocation_are_refused(opened: Opened):
    service, kept = Service("S"), []

    @service.handler()
    async def owner(ctx: Context) -> None:
        kept.append(ctx.awakeable()[1])
        await kept[0]

    @service.handler()
    async def thief(ctx: Context) -> list[str]:
        said = []
        for wait in (lambda: kept[0], lambda: gather(kept[0]), lambda: select(a=kept[0])):
            try:
                await wait()
            except ContextMisuseError as error:
                said.append(str(error))
        try:
            await gather(kept[0], ctx.sleep(timedelta(0)))
        except TerminalError as error:
            said.append(error.message)
        return said

    async with opened(service) as engine:
        sent = await engine.client.service_send(owner, None)
        await until(engine, sent.invocation_id, lambda view, _: bool(view.open_awakeables))
        said = await engine.client.service_call(thief, None)
    assert len(said) == 4
    assert all("belongs to S/owner" in text for text in said[:3])
    assert "belong to different invocations" in said[3]


# -- forgotten -----------------------------------------------------------------------------------


async def test_calls_and_sends_that_nobody_awaits_do_happen(opened: Opened):
    """They are recorded where they are written; awaiting only gets the result."""
    obj, happened = VirtualObject("O"), threading.Semaphore(0)

    @obj.handler()
    async def note(ctx: Any) -> None:
        happened.release()

    @obj.handler()
    async def handle(ctx: Any) -> str:
        ctx.object_call(note, "called", None)
        ctx.object_send(note, "sent", None)
        return "done"

    async with opened(obj) as engine:
        sent = await engine.client.object_send(handle, "k", None)
        assert await engine.client.attach(sent.invocation_id) == "done"
        for _ in range(2):
            assert await asyncio.to_thread(happened.acquire, timeout=WAIT_S_MAX)
        kinds = [entry.kind for entry in await engine.client.journal(sent.invocation_id)]
    assert kinds == ["Input", "Call", "OneWayCall", "Output"]


async def test_a_step_that_nobody_awaits_is_named_in_a_warning(
    opened: Opened, caplog: pytest.LogCaptureFixture
):
    """It is not executed, as in Restate; a forgotten `await` is the usual reason."""
    service, ran = Service("S"), []

    @service.handler()
    async def handle(ctx: Context) -> str:
        ctx.run_typed("forgotten", ran.append, RunOptions(), 1)
        await select(quick=ctx.sleep(timedelta(0)), slow=ctx.run_typed("lost", lambda: 1))
        await ctx.run_typed("awaited", lambda: 1)
        return "done"

    with caplog.at_level(logging.WARNING, "nbdurable"):
        async with opened(service) as engine:
            assert await engine.client.service_call(handle, None) == "done"
    said = [record.getMessage() for record in caplog.records]
    assert ran == []
    assert len(said) == 1
    assert "the step 'forgotten' was never awaited, so it was not executed" in said[0]
    assert "write: await ctx.run_typed('forgotten', …)" in said[0]


# -- arguments of another type --------------------------------------------------------------------


async def plain(ctx: Context) -> None:
    """Nobody has decorated it."""


async def begun() -> None: ...


MISTAKES: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "key": (lambda ctx, me: ctx.object_call(me, 5, None), "a key is a text, not 5; write: '5'"),
    "half a key": (lambda ctx, me: ctx.object_send(me, "\ud800", None), "has half a character"),
    "idempotency key": (
        lambda ctx, me: ctx.object_call(me, "k", None, idempotency_key=7),
        "an idempotency key is a text, not 7",
    ),
    "header": (
        lambda ctx, me: ctx.object_call(me, "k", None, headers={"a": 1}),
        "the header 'a' is a text, not 1",
    ),
    "headers": (
        lambda ctx, me: ctx.object_call(me, "k", None, headers=[("a", "b")]),
        "headers are a dict of texts",
    ),
    "sleep": (lambda ctx, me: ctx.sleep(5), "write: timedelta(seconds=5)"),
    "signal": (lambda ctx, me: ctx.signal(5), "a signal's name is a text, not 5"),
    "promise": (lambda ctx, me: ctx.promise("p"), "only workflows have promises"),
    "state": (lambda ctx, me: ctx.set(5, 1), "cannot be recorded"),
    "plain function": (lambda ctx, me: ctx.object_call(plain, "k", None), "plain is not a handler"),
    "nothing to select": (lambda ctx, me: select(), "select() needs at least one future"),
    "options": (
        lambda ctx, me: ctx.run_typed("x", str.upper, "arg"),
        "ctx.run_typed('x', upper, self='arg')",
    ),
    "result": (lambda ctx, me: ctx.run_typed("x", 5), "the step 'x' is given 5, the result of"),
    "coroutine": (lambda ctx, me: ctx.run_typed("x", begun()), "is given a coroutine, the result"),
    "attempts": (
        lambda ctx, me: ctx.run_typed("x", int, RunOptions(max_attempts="3")),
        "the step's retry options do not fit",
    ),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
async def test_what_the_next_attempt_would_do_again_pauses_at_once(opened: Opened, mistake: str):
    """It was tried 70 times, over hours, and said what msgspec says of it."""
    call, says = MISTAKES[mistake]
    obj = VirtualObject("O", invocation_retry_policy=AT_ONCE)

    @obj.handler()
    async def handle(ctx: Any) -> None:
        made = call(ctx, handle)
        if hasattr(made, "__await__"):
            await made

    async with opened(obj) as engine:
        sent = await engine.client.object_send(handle, "k", None)
        view = await until_status(engine, sent.invocation_id, "paused")
    assert view.attempt == 1
    assert says in str(view.failure)


async def test_a_call_of_what_is_not_registered_yet_is_still_tried_again(opened: Opened):
    service = Service("S")

    @service.handler(invocation_retry_policy=InvocationRetryPolicy(max_attempts=2, **SOON))
    async def handle(ctx: Context) -> None:
        await ctx.generic_call("Later", "greet", b"")

    async with opened(service) as engine:
        sent = await engine.client.service_send(handle, None)
        view = await until_status(engine, sent.invocation_id, "paused")
    assert view.attempt == 2


# -- odd values ----------------------------------------------------------------------------------


async def test_a_negative_sleep_is_over_at_once(opened: Opened):
    """`deadline - now` is negative as soon as one is late."""
    service = Service("S")

    @service.handler()
    async def other(ctx: Context) -> None: ...

    @service.handler()
    async def handle(ctx: Context) -> str:
        await ctx.sleep(timedelta(days=-3))
        ctx.service_send(other, None, send_delay=timedelta(seconds=-1))
        return "awake"

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == "awake"
        sent = await engine.client.service_send(other, None, timedelta(hours=-1))
        await engine.client.attach(sent.invocation_id)


@pytest.mark.parametrize("duration", [5, 1.5, "5s", None])
async def test_a_duration_that_is_no_timedelta_says_what_to_write(opened: Opened, duration: Any):
    """Seconds or milliseconds? Nobody has to guess."""

    async def handle(ctx: Context) -> None:
        try:
            await ctx.sleep(duration)
        except TypeError as error:
            raise TerminalError(str(error)) from error

    service = Service("S")
    service.handler("handle")(handle)
    async with opened(service) as engine:
        with pytest.raises(TerminalError, match="a duration is a timedelta") as raised:
            await engine.client.service_call(service.handlers["handle"].fn, None)
    assert f"timedelta(seconds={duration!r})" in raised.value.message


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "cannot be the name of a service"),
        ("9lives", "start with a letter"),
        ("two words", "cannot be the name of a service"),
        ("a/b", "cannot be the name of a service"),
        ("größe", "cannot be the name of a service"),
        ("restate", "is reserved"),
        ("Restate.Admin", "is reserved"),
        ("openapi", "is reserved"),
        (None, "cannot be the name of a service"),
    ],
)
@pytest.mark.parametrize("kind", [Service, VirtualObject, Workflow])
def test_malformed_and_reserved_names_are_refused_where_they_are_written(
    kind: Any, name: Any, says: str
):
    """They are segments of URLs, and two of them are taken."""
    with pytest.raises(DefinitionError) as raised:
        kind(name)
    assert says in str(raised.value)


@pytest.mark.parametrize("name", ["a-b", "a.b", "1st", "_", "with space"])
def test_malformed_names_of_handlers_are_refused(name: str):
    with pytest.raises(DefinitionError, match="cannot be the name of a handler of 'S'"):
        Service("S").handler(name)(lambda ctx: None)


def test_two_handlers_of_one_name_are_refused():
    """The second would silently replace the first."""
    service = Service("S")

    @service.handler("same")
    async def one(ctx: Context) -> None: ...

    with pytest.raises(DefinitionError, match="handler 'same' of 'S' is defined twice"):

        @service.handler("same")
        def two(ctx: Context) -> None: ...


@pytest.mark.parametrize("name", [5, None, b"step"])
async def test_a_name_of_a_step_that_is_no_text_is_said_at_the_call(opened: Opened, name: Any):
    async def handle(ctx: Context) -> None:
        try:
            await ctx.run_typed(name, lambda: 1)
        except TypeError as error:
            raise TerminalError(str(error)) from error

    service = Service("S")
    service.handler("handle")(handle)
    async with opened(service) as engine:
        with pytest.raises(TerminalError, match="a step's name is a text"):
            await engine.client.service_call(service.handlers["handle"].fn, None)
