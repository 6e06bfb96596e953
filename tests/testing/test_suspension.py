"""Handlers that fight their suspension cannot change the journal.

Each is suspended once or more on its way, in two modes: by inactivity at its one long wait, and at
every await. Whatever it then does on its way out is not recorded, and it ends as if it had not been
suspended at all: same result, same journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from nbdurable import ObjectContext, VirtualObject
from nbdurable.testing import DurableEnv


@pytest.fixture(params=["by inactivity", "at every await"])
def env(request: pytest.FixtureRequest) -> Iterator[DurableEnv]:
    with DurableEnv(always_replay=request.param == "at every await") as env:
        yield env


async def lived(env: DurableEnv, obj: VirtualObject) -> tuple[Any, list[str]]:
    """The result of `handle`, whose awakeable is answered with "up", and what its journal is."""
    env.serve(obj)
    client = env.client
    sent = await client.generic_send(obj.name, "handle", b"", key="k")
    await env.settle()
    view = await client.invocation(sent.invocation_id)
    assert view.status == "suspended"
    await client.resolve_awakeable(view.open_awakeables[0], "up")
    value = await client.attach(view.id)
    assert (await client.invocation(view.id)).attempt > 1
    known = await client.invocations()
    assert [other.id for other in known] == [view.id], "it has called somebody on its way out"
    return value, [entry.kind for entry in await client.journal(view.id)]


def an_object() -> VirtualObject:
    return VirtualObject("O", inactivity_timeout=timedelta(0))


async def wait(ctx: ObjectContext) -> str:
    return await ctx.awakeable(type_hint=str)[1]


def test_a_finally_block_runs_at_every_suspension_and_is_recorded_at_the_end_only(env: DurableEnv):
    obj, ran = an_object(), []

    @obj.handler()
    async def handle(ctx: ObjectContext) -> str:
        try:
            return await wait(ctx)
        finally:
            ran.append("finally")
            ctx.set("late", 1)
            await ctx.run_typed("late", lambda: ran.append("step"))

    value, kinds = env.run(lived(env, obj))
    assert value == "up"
    assert kinds == ["Input", "Awakeable", "SetState", "Run", "Output"]
    assert ran.count("step") == 1
    assert ran.count("finally") > 1


def test_what_except_base_exception_returns_is_dropped(env: DurableEnv):
    obj = an_object()

    @obj.handler()
    async def handle(ctx: ObjectContext) -> str:
        try:
            return await wait(ctx)
        except BaseException:  # noqa: BLE001 - the very thing users are told not to do.
            ctx.set("late", 1)
            ctx.object_send(handle, "other", None)
            return "swallowed"

    assert env.run(lived(env, obj)) == ("up", ["Input", "Awakeable", "Output"])


# It cannot be ended at all, which Python says when the test lets go of it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("awaits", ["a future", "state"])
def test_trying_again_for_ever_gets_nowhere_and_stops_nobody(env: DurableEnv, awaits: str):
    """However often it was told that it is over, it once kept all other handlers from running."""
    obj = an_object()

    @obj.handler()
    async def handle(ctx: ObjectContext) -> str:
        waiting, seen = ctx.awakeable(type_hint=str)[1], False
        while True:
            try:
                if seen and awaits == "state":
                    await ctx.get("nothing")
                return await waiting
            except BaseException:  # noqa: BLE001
                seen = True
                ctx.set("late", 1)

    assert env.run(lived(env, obj)) == ("up", ["Input", "Awakeable", "Output"])


def test_an_async_generator_is_closed_and_adds_nothing(env: DurableEnv):
    obj = an_object()

    @obj.handler()
    async def handle(ctx: ObjectContext) -> list[str]:
        async def parts() -> AsyncIterator[str]:
            try:
                yield await ctx.run_typed("first", lambda: "first")
                yield await wait(ctx)
                yield await ctx.run_typed("last", lambda: "last")
            finally:
                ctx.set("late", 1)

        return [part async for part in parts()]

    value, kinds = env.run(lived(env, obj))
    assert value == ["first", "up", "last"]
    assert kinds == ["Input", "Run", "Awakeable", "Run", "SetState", "Output"]


def test_leaving_an_async_with_is_recorded_at_the_end_only(env: DurableEnv):
    obj, held = an_object(), []

    @asynccontextmanager
    async def lock(ctx: ObjectContext) -> AsyncIterator[None]:
        await ctx.run_typed("lock", lambda: None)
        held.append(True)
        try:
            yield
        finally:
            held.pop()
            await ctx.run_typed("unlock", lambda: None)

    @obj.handler()
    async def handle(ctx: ObjectContext) -> str:
        async with lock(ctx):
            return await wait(ctx)

    value, kinds = env.run(lived(env, obj))
    assert (value, held) == ("up", [])
    assert kinds == ["Input", "Run", "Awakeable", "Run", "Output"]


def test_a_task_group_inside_a_step_is_let_finish(env: DurableEnv):
    obj, ran = an_object(), []

    @obj.handler()
    async def handle(ctx: ObjectContext) -> list[Any]:
        async def part(number: int) -> int:
            await asyncio.sleep(number)
            ran.append(number)
            return number

        async def step() -> int:
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(part(number)) for number in range(3)]
            return sum(done.result() for done in parts)

        return [await ctx.run_typed("parts", step), await wait(ctx)]

    async def main() -> tuple[Any, list[str]]:
        env.serve(obj)
        sent = await env.client.generic_send("O", "handle", b"", key="k")
        await env.advance(timedelta(seconds=2))
        view = await env.client.invocation(sent.invocation_id)
        assert view.status == "suspended"
        await env.client.resolve_awakeable(view.open_awakeables[0], "up")
        value = await env.client.attach(view.id)
        return value, [entry.kind for entry in await env.client.journal(view.id)]

    assert env.run(main) == ([3, "up"], ["Input", "Run", "Awakeable", "Output"])
    assert ran == [0, 1, 2]


def test_a_task_of_the_handlers_own_that_outlives_it_adds_nothing(env: DurableEnv):
    obj, tasks, met = an_object(), [], []

    @obj.handler()
    async def handle(ctx: ObjectContext) -> str:
        async def meddle() -> None:
            await asyncio.sleep(1)
            try:
                ctx.set("late", 1)
                await ctx.run_typed("late", lambda: 1)
            except BaseException as error:  # noqa: BLE001
                met.append(type(error).__name__)

        tasks.append(asyncio.create_task(meddle()))
        return await wait(ctx)

    async def main() -> list[str]:
        await lived(env, obj)
        await env.advance(timedelta(seconds=5))
        view = await env.client.find("O/k")
        return [entry.kind for entry in await env.client.journal(view.id)]

    assert env.run(main) == ["Input", "Awakeable", "Output"]
    # The attempts that were suspended, and the one that ended.
    assert met == [*["AttemptClosed"] * (len(tasks) - 1), "ContextMisuseError"]
