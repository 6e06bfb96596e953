"""A sleep that outlasts the inactivity timeout holds no attempt, and nobody can tell."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from datetime import timedelta
from typing import Any

import pytest

from nbdurable import Context, Service, TerminalError, select
from nbdurable.invoker.beside import note_task
from nbdurable.testing import DurableEnv

LONG = timedelta(hours=10)
MINUTE = timedelta(minutes=1)
A_BIT = timedelta(seconds=1)


@pytest.fixture
def env() -> Iterator[DurableEnv]:
    with DurableEnv() as env:
        yield env


def sleeping(ran: list[str]) -> tuple[Service, Any]:
    """A service whose handler sleeps for long, and says what it does."""
    service = Service("S")

    @service.handler()
    async def sleep(ctx: Context) -> str:
        ran.append("begun")
        try:
            await ctx.sleep(LONG)
        except TerminalError:
            ran.append("cancelled")
            await ctx.run_typed("undo", lambda: ran.append("undone"))
            raise
        finally:
            ran.append("left")
        return "slept"

    return service, sleep


async def kinds(env: DurableEnv, invocation_id: str) -> list[str]:
    return [entry.kind for entry in await env.client.journal(invocation_id)]


def test_it_runs_for_a_minute_with_no_handler_and_is_suspended_then(env: DurableEnv):
    ran: list[str] = []
    service, sleep = sleeping(ran)
    env.serve(service)

    async def lived() -> None:
        sent = await env.client.service_send(sleep, None)
        await env.advance(A_BIT)
        assert ran == ["begun", "left"]
        seen = []
        for _ in range(2):
            view = await env.client.invocation(sent.invocation_id)
            seen.append((view.status, view.attempt))
            await env.advance(MINUTE - A_BIT)
            await env.settle()
        view = await env.client.invocation(sent.invocation_id)
        assert [*seen, (view.status, view.attempt)] == [
            ("running", 1),
            ("suspended", 1),
            ("suspended", 1),
        ]
        assert await env.client.attach(sent.invocation_id) == "slept"
        assert ran == ["begun", "left", "begun", "left"]
        assert await kinds(env, sent.invocation_id) == ["Input", "Sleep", "Output"]
        assert (await env.client.invocation(sent.invocation_id)).attempt == 2

    env.run(lived())


def test_a_cancellation_within_the_minute_is_raised_where_it_sleeps(env: DurableEnv):
    ran: list[str] = []
    service, sleep = sleeping(ran)
    env.serve(service)

    async def lived() -> None:
        sent = await env.client.service_send(sleep, None)
        began = env.now
        await env.advance(A_BIT)
        assert ran == ["begun", "left"]
        await env.client.cancel(sent.invocation_id)
        with pytest.raises(TerminalError, match="cancelled"):
            await env.client.attach(sent.invocation_id)
        assert env.now - began < MINUTE
        assert ran == ["begun", "left", "begun", "cancelled", "undone", "left"]

    env.run(lived())


@pytest.mark.parametrize("then", ["kill", "pause"])
def test_what_ends_it_within_the_minute_ends_it_for_good(env: DurableEnv, then: str):
    ran: list[str] = []
    service, sleep = sleeping(ran)
    env.serve(service)

    async def lived() -> None:
        sent = await env.client.service_send(sleep, None)
        await env.advance(A_BIT)
        await getattr(env.client, then)(sent.invocation_id)
        await env.advance(2 * MINUTE)
        status = {"kill": "completed", "pause": "paused"}[then]
        assert (await env.client.invocation(sent.invocation_id)).status == status
        if then == "pause":
            await env.client.resume(sent.invocation_id)
            assert await env.client.attach(sent.invocation_id) == "slept"

    env.run(lived())


def test_a_kill_of_the_process_within_the_minute_loses_nothing(env: DurableEnv):
    ran: list[str] = []
    service, sleep = sleeping(ran)
    env.serve(service)

    async def lived() -> None:
        sent = await env.client.service_send(sleep, None)
        await env.advance(A_BIT)
        await env.crash()
        await env.advance(2 * MINUTE)
        assert (await env.client.invocation(sent.invocation_id)).status == "suspended"
        assert await env.client.attach(sent.invocation_id) == "slept"

    env.run(lived())


def test_a_def_handler_is_unwound_too(env: DurableEnv):
    service, ran = Service("S"), []

    @service.handler()
    def sleep(ctx: Context) -> str:
        try:
            ctx.sleep(LONG).result()
        finally:
            ran.append("left")
        return "slept"

    env.serve(service)

    async def lived() -> None:
        sent = await env.client.service_send(sleep, None)
        await env.advance(A_BIT)
        assert ran == ["left"]
        assert (await env.client.invocation(sent.invocation_id)).status == "running"
        assert await env.client.attach(sent.invocation_id) == "slept"

    env.run(lived())


async def _asleep(ctx: Context) -> None:
    await ctx.sleep(LONG)


async def _asleep_beside_another(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(30))
        await ctx.sleep(LONG)


async def _asleep_beside_a_task_of_another_context(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(30), context=contextvars.Context())
        await ctx.sleep(LONG)


async def _asleep_beside_a_task_of_a_copied_context(ctx: Context) -> None:
    work = asyncio.create_task(asyncio.Event().wait(), context=contextvars.copy_context())
    try:
        await ctx.sleep(LONG)
    finally:
        work.cancel()


async def _asleep_in_a_task(ctx: Context) -> None:
    await asyncio.gather(_asleep(ctx), asyncio.sleep(30))


async def _asleep_for_less(ctx: Context) -> None:
    await ctx.sleep(MINUTE)


async def _asleep_or_answered(ctx: Context) -> None:
    await select(asleep=ctx.sleep(LONG), answer=ctx.awakeable()[1])


@pytest.mark.parametrize(
    "sleeps",
    [
        _asleep_beside_another,
        _asleep_beside_a_task_of_another_context,
        _asleep_beside_a_task_of_a_copied_context,
        _asleep_in_a_task,
        _asleep_for_less,
        _asleep_or_answered,
    ],
    ids=lambda sleeps: sleeps.__name__.removeprefix("_asleep_"),
)
def test_what_may_go_on_within_the_minute_is_left_alone(env: DurableEnv, sleeps: Any):
    """Its suspension may end it, as ever; nothing ends it before."""
    service, ran = Service("S"), []

    @service.handler()
    async def sleep(ctx: Context) -> str:
        try:
            await sleeps(ctx)
        finally:
            ran.append("left")
        return "slept"

    env.serve(service)

    async def lived() -> None:
        sent = await env.client.service_send(sleep, None)
        await env.advance(MINUTE - A_BIT)
        assert ran == []
        assert await env.client.attach(sent.invocation_id) == "slept"

    env.run(lived())


async def _is_left_at_once(env: DurableEnv, sleep: Any, ran: list[str]) -> None:
    """Long before the minute is over; and the next attempt comes to its end."""
    sent = await env.client.service_send(sleep, None)
    await env.advance(3 * A_BIT)
    assert ran == ["left"]
    assert await env.client.attach(sent.invocation_id) == "slept"


def test_a_task_that_is_over_keeps_nobody(env: DurableEnv):
    service, ran = Service("S"), []

    @service.handler()
    async def sleep(ctx: Context) -> str:
        await asyncio.gather(asyncio.sleep(1), asyncio.sleep(2))
        try:
            await ctx.sleep(LONG)
        finally:
            ran.append("left")
        return "slept"

    env.serve(service)
    env.run(_is_left_at_once(env, sleep, ran))


async def test_tasks_are_made_with_whatever_options_a_python_has():
    """Since 3.13 a factory is given the name as well."""

    async def named() -> str:
        task = asyncio.current_task()
        assert task is not None
        return task.get_name()

    task = note_task(asyncio.get_running_loop(), named(), name="told", context=None)
    assert await task == "told"


# -- timers and threads of the handler's own ------------------------------------------------------


async def _asyncio_timeout(ctx: Context) -> None:
    async with asyncio.timeout(30):
        await ctx.sleep(LONG)


async def _asyncio_timeout_of_long_ago(ctx: Context) -> None:
    async with asyncio.timeout(30):
        await asyncio.sleep(10)
        await ctx.sleep(LONG)


async def _asyncio_timeout_that_is_due(ctx: Context) -> None:
    async with asyncio.timeout(0):
        await ctx.sleep(LONG)


async def _asyncio_wait_for(ctx: Context) -> None:
    await asyncio.wait_for(ctx.sleep(LONG), 30)


async def _callback_that_cancels(ctx: Context) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(30, task.cancel, context=contextvars.Context())
    try:
        await ctx.sleep(LONG)
    except asyncio.CancelledError:
        task.uncancel()
        raise TimeoutError from None


@pytest.mark.parametrize(
    "waits",
    [
        _asyncio_timeout,
        _asyncio_timeout_of_long_ago,
        _asyncio_timeout_that_is_due,
        _asyncio_wait_for,
        _callback_that_cancels,
    ],
    ids=lambda waits: waits.__name__,
)
def test_what_ends_the_wait_within_the_minute_ends_it(env: DurableEnv, waits: Any):
    """Unwound at once, and begun again when the sleep is over, it would sleep for all of it."""
    service, ran = Service("S"), []

    @service.handler()
    async def sleep(ctx: Context) -> str:
        ran.append("begun")
        try:
            await waits(ctx)
        except TimeoutError:
            return "timed out"
        return "slept"

    env.serve(service)

    async def lived() -> None:
        began = env.now
        assert await env.client.service_call(sleep, None) == "timed out"
        assert env.now - began < MINUTE
        assert ran == ["begun"]

    env.run(lived())


class Holding(Executor):
    """Mutable: what it is given is never begun; it is over when this is told so."""

    def __init__(self) -> None:
        self.given: list[Future[Any]] = []

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        self.given.append(Future())
        return self.given[-1]


@pytest.mark.parametrize("is_over", [True, False])
def test_what_a_thread_does_keeps_the_handler_until_it_is_over(env: DurableEnv, *, is_over: bool):
    service, ran, threads = Service("S"), [], Holding()

    @service.handler()
    async def sleep(ctx: Context) -> str:
        work = asyncio.get_running_loop().run_in_executor(threads, print)
        if is_over:
            threads.given[-1].set_result(None)
            await work
        try:
            await ctx.sleep(LONG)
        finally:
            ran.append("left")
        return "slept"

    env.serve(service)

    async def lived() -> None:
        sent = await env.client.service_send(sleep, None)
        await env.advance(A_BIT)
        assert ran == (["left"] if is_over else [])
        assert await env.client.attach(sent.invocation_id) == "slept"

    env.run(lived())


def _nothing(_: list[str]) -> None:
    pass


def _later_than_the_minute(ran: list[str]) -> None:
    asyncio.get_running_loop().call_later(120, ran.append, "rung")


def _cancelled(ran: list[str]) -> None:
    asyncio.get_running_loop().call_later(30, ran.append, "rung").cancel()


@pytest.mark.parametrize("begins", [_nothing, _later_than_the_minute, _cancelled])
def test_timers_that_are_over_or_come_later_keep_nobody(
    env: DurableEnv, begins: Callable[[list[str]], None]
):
    service, ran = Service("S"), []

    @service.handler()
    async def sleep(ctx: Context) -> str:
        await asyncio.sleep(1)
        begins(ran)
        print("prints are said a moment later, by a timer of ours")
        try:
            await ctx.sleep(LONG)
        finally:
            ran.append("left")
        return "slept"

    env.serve(service)
    env.run(_is_left_at_once(env, sleep, ran))
