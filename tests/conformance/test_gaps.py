"""Lines of the reference that no other module holds: one small program each.

Source: restate-semantics.md, sections 1.1 to 1.9; README.md beside this file says which line.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from support.running import HandClock, durable, until, until_status

from conformance.driver import eventually
from nbdurable import (
    Context,
    DurableEngine,
    EngineOptions,
    InvocationRetryPolicy,
    ObjectContext,
    ObjectSharedContext,
    RunOptions,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
    is_internal_exception,
)
from nbdurable.core.facts import AttemptFailed
from nbdurable.store.memory import MemoryStore

SOON = timedelta(milliseconds=1)
AT_ONCE = InvocationRetryPolicy(initial_interval=SOON, max_interval=SOON)
ALWAYS_SUSPENDING = EngineOptions(inactivity_timeout=timedelta(0))


def engine(*services: Any, **options: Any) -> DurableEngine:
    return DurableEngine(services=services, store=MemoryStore(), **options)


# -- 1.1 services and handlers -------------------------------------------------------------------


async def test_a_plain_service_runs_as_many_at_once_as_are_called():
    """Fifty wait for each other: one slot less, and none would ever end."""
    service, here, all_here = Service("S"), [], asyncio.Event()

    @service.handler()
    async def meet(ctx: Context) -> None:
        here.append(ctx)
        if len(here) == 50:
            all_here.set()
        await all_here.wait()

    async with durable(service) as opened:
        await asyncio.gather(*(opened.client.service_call(meet, None) for _ in range(50)))


@pytest.mark.parametrize("key", ["a key", None], ids=["with a key", "without a key"])
async def test_a_call_of_the_wrong_shape_backs_off_and_says_why(key: str | None):
    """RT0017: the entry is not stored, so that corrected code can go on from here."""
    service, obj = Service("S"), VirtualObject("O")

    @service.handler()
    async def plain(ctx: Context) -> None: ...

    @obj.handler()
    async def keyed(ctx: ObjectContext) -> None: ...

    @service.handler()
    async def call(ctx: Context) -> None:
        name, handler = ("S", "plain") if key else ("O", "keyed")
        await ctx.generic_call(name, handler, b"", key=key)

    async with durable(service, obj) as opened:
        sent = await opened.client.service_send(call, None)
        view = await until_status(opened, sent.invocation_id, "backing-off")
        assert "key" in (view.failure or "")
        kinds = [entry.kind for entry in await opened.client.journal(sent.invocation_id)]
        assert kinds == ["Input"]


async def test_all_exclusive_handlers_of_a_key_share_one_lock():
    """Not one lock each: they write the same state."""
    obj, running, most = VirtualObject("O"), [], []

    async def alone(ctx: ObjectContext) -> None:
        running.append(ctx)
        most.append(len(running))
        await ctx.run_typed("look", lambda: None)
        running.remove(ctx)

    @obj.handler()
    async def one(ctx: ObjectContext) -> None:
        await alone(ctx)

    @obj.handler()
    async def two(ctx: ObjectContext) -> None:
        await alone(ctx)

    async with durable(obj) as opened:
        client = opened.client
        await asyncio.gather(*(client.object_call(each, "k", None) for each in [one, two] * 5))
    assert most == [1] * 10


@pytest.mark.parametrize("status", ["suspended", "backing-off", "paused"])
async def test_the_lock_of_a_key_is_kept_until_its_holder_has_completed(status: str):
    """Through suspension, back-off and pause: what it has half done, nobody else may see."""
    retry = InvocationRetryPolicy(
        initial_interval=timedelta(hours=1), max_attempts=1 if status == "paused" else 2
    )
    obj = VirtualObject("O", inactivity_timeout=timedelta(0), invocation_retry_policy=retry)

    @obj.handler()
    async def hold(ctx: ObjectContext) -> None:
        if status == "suspended":
            await ctx.sleep(timedelta(hours=1))
        raise ValueError("not yet")

    @obj.handler()
    async def follow(ctx: ObjectContext) -> str:
        return "my turn"

    async with durable(obj) as opened:
        client = opened.client
        holder = await client.object_send(hold, "k", None)
        await until_status(opened, holder.invocation_id, status)
        follower = await client.object_send(follow, "k", None)
        assert (await client.invocation(follower.invocation_id)).status == "pending"
        await client.kill(holder.invocation_id)
        assert await client.attach(follower.invocation_id) == "my turn"


async def test_only_who_holds_the_lock_can_write_and_the_others_are_told():
    """Over there the write is refused by the server (RT0017); here the ctx has no such method."""
    obj, service, seen = VirtualObject("O"), Service("S"), []

    def try_to_write(ctx: Any) -> None:
        for name in ("set", "clear", "clear_all"):
            try:
                getattr(ctx, name)
            except AttributeError as error:
                seen.append(str(error))

    @obj.handler(kind="shared")
    async def look(ctx: ObjectSharedContext) -> None:
        try_to_write(ctx)

    @service.handler()
    async def plain(ctx: Context) -> None:
        try_to_write(ctx)

    async with durable(obj, service) as opened:
        await opened.client.object_call(look, "k", None)
        await opened.client.service_call(plain, None)
    assert len(seen) == 6
    assert all("write in an exclusive one" in said for said in seen)


def reviewing() -> tuple[Workflow, Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    flow = Workflow("Review")

    @flow.main()
    async def run(ctx: WorkflowContext) -> str:
        ctx.set("stage", "waiting")
        said = await ctx.promise("verdict", type_hint=str)
        ctx.set("stage", "over")
        return said

    @flow.handler()
    async def answer(ctx: WorkflowSharedContext, verdict: str) -> None:
        await ctx.promise("verdict", type_hint=str).resolve(verdict)

    @flow.handler()
    async def look(ctx: WorkflowSharedContext) -> list[Any]:
        return [await ctx.promise("verdict", type_hint=str).peek(), await ctx.get("stage")]

    return flow, run, answer, look


async def test_a_workflows_other_handlers_work_before_during_and_after_its_run():
    flow, run, answer, look = reviewing()
    async with durable(flow) as opened:
        client = opened.client
        assert await client.workflow_call(look, "k", None) == [None, None]
        await client.workflow_call(answer, "k", "fine")
        assert await client.workflow_call(look, "k", None) == ["fine", None]
        assert await client.workflow_call(run, "k", None) == "fine"
        assert await client.workflow_call(look, "k", None) == ["fine", "over"]
        with pytest.raises(TerminalError, match="already completed") as raised:
            await client.workflow_call(answer, "k", "not fine")
        assert raised.value.status_code == 409


async def test_an_annotation_is_not_enforced():
    """It describes; what JSON brings is what the handler gets."""
    service = Service("S")

    @service.handler()
    async def double(ctx: Context, said: str) -> str:
        return said + said

    async with durable(service) as opened:
        assert await opened.client.generic_call("S", "double", b"21") == b"42"


# -- 1.2 the context -----------------------------------------------------------------------------


async def test_none_in_a_state_is_read_as_no_value_is():
    obj = VirtualObject("O")

    @obj.handler()
    async def handle(ctx: ObjectContext) -> list[Any]:
        ctx.set("nothing", None)
        return [await ctx.get("nothing"), await ctx.get("missing"), await ctx.state_keys()]

    async with durable(obj) as opened:
        assert await opened.client.object_call(handle, "k", None) == [None, None, ["nothing"]]


async def test_a_lambda_that_returns_a_coroutine_is_awaited():
    """The official SDK would record the coroutine, which has no bytes: nobody can mean that."""
    service = Service("S")

    async def answer() -> int:
        return 42

    @service.handler()
    async def handle(ctx: Context) -> int:
        return await ctx.run_typed("answer", lambda: answer())  # noqa: PLW0108 - the point.

    async with durable(service) as opened:
        assert await opened.client.service_call(handle, None) == 42


async def test_a_request_says_what_the_invocation_was_started_with():
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context, said: str) -> list[Any]:
        request = ctx.request()
        return [request.id, request.headers, request.body.decode(), request.idempotency_key]

    async with durable(service) as opened:
        client = opened.client
        sent = await client.service_send(handle, "hi", idempotency_key="i", headers={"a": "b"})
        assert await client.attach(sent.invocation_id) == [
            sent.invocation_id,
            {"a": "b"},
            '"hi"',
            "i",
        ]


async def test_a_handler_attaches_to_what_is_kept():
    service = Service("S")

    @service.handler()
    async def answer(ctx: Context, fails: bool) -> str:  # noqa: FBT001 - a handler's input.
        if fails:
            raise TerminalError("no", 418)
        return "yes"

    @service.handler()
    async def attach(ctx: Context, invocation_id: str) -> str:
        try:
            return await ctx.attach_invocation(invocation_id, type_hint=str)
        except TerminalError as error:
            return f"{error.status_code} {error.message}"

    async with durable(service) as opened:
        client, said = opened.client, []
        for fails in (False, True):
            sent = await client.service_send(answer, fails)
            said.append(await client.service_call(attach, sent.invocation_id))
        unknown = await client.service_call(attach, f"{sent.invocation_id[:-1]}x")
    assert said == ["yes", "418 no"]
    assert unknown.startswith("404 ")


async def test_the_empty_key_is_a_key_like_any_other():
    """Over there the server takes it, and the official client drops it on the way."""
    obj = VirtualObject("O")

    @obj.handler()
    async def add(ctx: ObjectContext) -> list[Any]:
        ctx.set("n", (await ctx.get("n") or 0) + 1)
        return [ctx.key(), await ctx.get("n")]

    async with durable(obj) as opened:
        client = opened.client
        await client.object_call(add, "other", None)
        assert await client.object_call(add, "", None) == ["", 1]
        assert json.loads(await client.generic_call("O", "add", b"", key="")) == ["", 2]


# -- 1.4 errors and retries ----------------------------------------------------------------------


async def test_what_killed_an_invocation_reaches_its_caller_without_a_traceback():
    """Over there the traceback goes to whoever called, which shows code and paths to strangers."""
    service = Service(
        "S", invocation_retry_policy=InvocationRetryPolicy(max_attempts=1, on_max_attempts="kill")
    )

    @service.handler()
    async def handle(ctx: Context) -> None:
        raise ValueError("a secret path")

    async with durable(service) as opened:
        with pytest.raises(TerminalError) as raised:
            await opened.client.service_call(handle, None)
    error = raised.value
    assert (error.status_code, error.message) == (500, "ValueError('a secret path')")
    assert error.metadata is None


async def test_every_failed_attempt_is_recorded_also_when_all_are_alike():
    """Over there equal failures in a row are one event, and nobody can tell how many there were."""
    store = MemoryStore()
    service = Service(
        "S",
        invocation_retry_policy=InvocationRetryPolicy(
            initial_interval=SOON, max_interval=SOON, max_attempts=3
        ),
    )

    @service.handler()
    async def handle(ctx: Context) -> None:
        raise ValueError("always the same")

    async with durable(service, store=store) as opened:
        sent = await opened.client.service_send(handle, None)
        view = await until_status(opened, sent.invocation_id, "paused")
        assert view.failure_count == 3
        records = await asyncio.wrap_future(
            opened.engine.ask(
                lambda: opened.engine.vault.journal(
                    opened.engine.machine.state.invocations[sent.invocation_id]
                )
            )
        )
    failed = [record.fact for record in records if isinstance(record.fact, AttemptFailed)]
    assert [fact.failure_count for fact in failed] == [1, 2, 3]
    assert all("always the same" in fact.error.stacktrace for fact in failed)


async def test_whoever_catches_everything_can_tell_what_is_ours():
    """`except BaseException` meets suspension too; swallowing it changes nothing (design, 6.4)."""
    service, seen = Service("S"), []

    @service.handler()
    async def handle(ctx: Context) -> str:
        try:
            await ctx.sleep(SOON)
        except BaseException as error:  # noqa: BLE001 - the point.
            seen.append(is_internal_exception(error))
            return "swallowed"
        return "slept"

    clock = HandClock()
    async with engine(service, options=ALWAYS_SUSPENDING, clock=clock) as opened:
        sent = await opened.client.service_send(handle, None)
        await until_status(opened, sent.invocation_id, "suspended")
        await clock.turn(opened, 1)
        assert await opened.client.attach(sent.invocation_id) == "slept"
    assert seen == [True]


# -- 1.8 idempotency -----------------------------------------------------------------------------


async def test_an_idempotency_key_is_of_one_handler_of_one_key():
    """(service, key, handler): the same text elsewhere is another key."""
    obj, ran = VirtualObject("O"), []

    @obj.handler()
    async def one(ctx: ObjectContext, said: str) -> str:
        ran.append(f"one {ctx.key()}")
        return said

    @obj.handler()
    async def two(ctx: ObjectContext, said: str) -> str:
        ran.append(f"two {ctx.key()}")
        return said

    async with durable(obj) as opened:
        client = opened.client
        for handler, key in [(one, "a"), (one, "b"), (two, "a"), (one, "a")]:
            await client.object_call(handler, key, "x", idempotency_key="same")
    assert ran == ["one a", "one b", "two a"]


async def test_the_first_submission_wins_and_its_failure_is_kept_too():
    """What a later one brings is ignored: its key says that it means the same."""
    service, ran = Service("S"), []

    @service.handler()
    async def handle(ctx: Context, said: str) -> None:
        ran.append(said)
        raise TerminalError(f"no {said}")

    async with durable(service) as opened:
        for said in ("first", "second"):
            with pytest.raises(TerminalError, match="no first"):
                await opened.client.service_call(handle, said, idempotency_key="k")
    assert ran == ["first"]


async def test_callers_with_one_key_join_the_one_that_runs():
    service, ran, go_on = Service("S"), [], asyncio.Event()

    @service.handler()
    async def handle(ctx: Context) -> int:
        ran.append(1)
        await go_on.wait()
        return len(ran)

    async with durable(service) as opened:
        client = opened.client
        calls = [
            asyncio.ensure_future(client.service_call(handle, None, idempotency_key="k"))
            for _ in range(20)
        ]
        sent = await client.service_send(handle, None, idempotency_key="k")
        await until(opened, sent.invocation_id, lambda view, _: view.status == "running")
        opened._link._loop.call_soon_threadsafe(go_on.set)
        assert await asyncio.gather(*calls) == [1] * 20


# -- 1.9 logging ----------------------------------------------------------------------------------


async def test_what_a_handler_prints_is_printed_again_when_it_is_replayed(
    capsys: pytest.CaptureFixture[str],
):
    """As over there: the code really runs again. What must happen once belongs in a step."""
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> None:
        print("begins")
        await ctx.run_typed("say", print, RunOptions(), "said once")
        await ctx.sleep(SOON)

    clock = HandClock()
    async with engine(service, options=ALWAYS_SUSPENDING, clock=clock) as opened:
        sent = await opened.client.service_send(handle, None)
        await until_status(opened, sent.invocation_id, "suspended")
        await clock.turn(opened, 1)
        await opened.client.attach(sent.invocation_id)
    printed = capsys.readouterr().out.splitlines()
    assert printed.count("begins") == 2
    assert printed.count("said once") == 1


# -- 4 the life of an invocation -----------------------------------------------------------------


async def test_an_invocation_that_crashed_within_its_own_step_runs_it_again():
    """Over there one that suspended on its own open step is never run again (restate#5196)."""
    service, ran, store = Service("S"), [], MemoryStore()

    async def step() -> str:
        ran.append(1)
        if len(ran) == 1:
            await asyncio.Event().wait()
        return "done"

    @service.handler()
    async def handle(ctx: Context) -> str:
        return await ctx.run_typed("step", step)

    async with durable(service, store=store) as opened:
        sent = await opened.client.service_send(handle, None)
        await until(opened, sent.invocation_id, lambda _, entries: len(entries) > 1)
    async with durable(service, store=store) as opened:
        assert await opened.client.attach(sent.invocation_id) == "done"
    assert len(ran) == 2


async def test_what_is_over_says_how_it_went():
    """`succeeded`, `failed`, `killed`: the results that SQL shows too."""
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context, how: str) -> str:
        if how == "fails":
            raise TerminalError("no")
        if how == "waits":
            await ctx.sleep(timedelta(hours=1))
        return how

    async with durable(service) as opened:
        client, views = opened.client, []
        for how in ("works", "fails", "waits"):
            sent = await client.service_send(handle, how)
            if how == "waits":
                await client.kill(sent.invocation_id)
            views.append(await until(opened, sent.invocation_id, lambda view, _: view.is_done))
        await eventually(lambda: _live(client), 0)
    assert [(view.succeeded, view.completed_by) for view in views] == [
        (True, "output"),
        (False, "output"),
        (False, "killed"),
    ]


async def _live(client: Any) -> int:
    return sum(not view.is_done for view in await client.invocations())
