"""Named signals between invocations, and scopes that set targets apart."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from support.running import HandClock, until, until_status

from nbdurable import (
    ConflictError,
    Context,
    HttpError,
    InvocationNotFoundError,
    ObjectContext,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from nbdurable.core.ids import random_invocation_id
from nbdurable.wiring import DurableEngine

Opened = Callable[..., DurableEngine]
NOW = timedelta(0)


# -- signals -------------------------------------------------------------------------------------


def listening(**settings: Any) -> tuple[Service, Any]:
    service = Service("S", **settings)

    @service.handler()
    async def listen(ctx: Context, count: int) -> list[Any]:
        heard = []
        for _ in range(count):
            try:
                heard.append(await ctx.signal("news", type_hint=str))
            except TerminalError as error:
                heard.append(f"{error.status_code} {error.message}")
        return heard

    return service, listen


async def test_a_handler_signals_another(opened: Opened):
    service, listen = listening()

    @service.handler()
    async def tell(ctx: Context, to: str) -> None:
        ctx.resolve_signal(to, "news", "good")
        ctx.reject_signal(to, "news", "boom", 418)
        ctx.resolve_signal(to, "other", "nobody listens")

    async with opened(service) as engine:
        sent = await engine.client.service_send(listen, 2)
        await engine.client.service_call(tell, sent.invocation_id)
        assert await engine.client.attach(sent.invocation_id) == ["good", "418 boom"]


async def test_a_client_signals_and_every_wait_takes_the_next(opened: Opened):
    service, listen = listening(inactivity_timeout=NOW)
    async with opened(service) as engine:
        client = engine.client
        sent = await client.service_send(listen, 3)
        await client.resolve_signal(sent.invocation_id, "news", "one")
        await client.resolve_signal(sent.invocation_id, "news", "two")
        await until_status(engine, sent.invocation_id, "suspended")
        await client.reject_signal(sent.invocation_id, "news", "three")
        assert await client.attach(sent.invocation_id) == ["one", "two", "500 three"]
        with pytest.raises(ConflictError):
            await client.resolve_signal(sent.invocation_id, "news", "late")
        with pytest.raises(InvocationNotFoundError):
            await client.resolve_signal(random_invocation_id(7), "news", "lost")


async def test_a_signal_to_a_scheduled_one_is_kept(opened: Opened):
    """Restate loses it in silence."""
    service, listen = listening()
    clock = HandClock()
    async with opened(service, clock=clock) as engine:
        sent = await engine.client.service_send(listen, 1, timedelta(hours=1))
        await engine.client.resolve_signal(sent.invocation_id, "news", "early")
        await clock.turn(engine, 3_600_000)
        assert await engine.client.attach(sent.invocation_id) == ["early"]


# -- scopes --------------------------------------------------------------------------------------


def tenants() -> tuple[VirtualObject, Any, Service, Any]:
    obj, service = VirtualObject("Counter"), Service("S")

    @obj.handler()
    async def add(ctx: ObjectContext, n: int) -> list[Any]:
        total = (await ctx.get("n", type_hint=int) or 0) + n
        ctx.set("n", total)
        request = ctx.request()
        return [total, request.scope, request.limit_key]

    @service.handler()
    async def both(ctx: Context) -> list[Any]:
        one, other = ctx.scope("tenant-1"), ctx.scope("tenant-2")
        await one.object_call(add, "k", 1)
        return [
            await one.object_call(add, "k", 1, limit_key="a/b"),
            await other.object_call(add, "k", 5),
            await ctx.object_call(add, "k", 7),
            (
                await ctx.generic_call("Counter", "add", b"1", "k", scope="tenant-1", limit_key="x")
            ).decode(),
        ]

    return obj, add, service, both


async def test_scopes_keep_objects_of_one_name_apart(opened: Opened):
    """Tenants must never see each other's state because they chose the same key."""
    obj, add, service, both = tenants()
    async with opened(obj, service) as engine:
        client = engine.client
        *plain, by_name = await client.service_call(both, None)
        assert plain == [[2, "tenant-1", "a/b"], [5, "tenant-2", None], [7, None, None]]
        assert by_name == '[3,"tenant-1","x"]'
        scoped = client.scope("tenant-2")
        assert await scoped.object_call(add, "k", 1, "x/y") == [6, "tenant-2", "x/y"]
        sent = await scoped.object_send(add, "k", 1)
        assert await client.attach(sent.invocation_id) == [7, "tenant-2", None]


async def test_idempotency_keys_and_workflows_are_of_a_scope(opened: Opened):
    service, flow, ran = Service("S"), Workflow("Flow"), []

    @service.handler()
    async def once(ctx: Context, n: int) -> int:
        ran.append(n)
        return n

    @flow.main()
    async def run(ctx: WorkflowContext, n: int) -> int:
        return n

    @service.handler()
    async def sender(ctx: Context) -> list[int]:
        scope = ctx.scope("b")
        scope.service_send(once, 3, idempotency_key="key")
        scope.workflow_send(run, "k", 4)
        return [
            await scope.service_call(once, 5, idempotency_key="key"),
            await ctx.attach_invocation(await scope.workflow_send(run, "k", 6).invocation_id()),
        ]

    async with opened(service, flow) as engine:
        client = engine.client
        one, two = client.scope("a"), client.scope("c")
        assert await one.service_call(once, 1, idempotency_key="key") == 1
        assert await one.service_call(once, 9, idempotency_key="key") == 1
        assert await two.service_call(once, 2, idempotency_key="key") == 2
        assert await client.service_call(once, 8, idempotency_key="key") == 8
        assert await client.service_call(sender, None) == [3, 4]
        assert await one.workflow_call(run, "k", 1) == 1
        assert await client.workflow_call(run, "k", 2) == 2
    assert ran == [1, 2, 8, 3]


@pytest.mark.parametrize(
    ("scope", "limit_key", "says"),
    [
        ("", None, "'' cannot be a scope"),
        ("a b", None, "'a b' cannot be a scope"),
        ("x" * 37, None, "cannot be a scope"),
        ("a\n", None, "cannot be a scope"),
        (None, "t", "has no scope to count in"),
        ("a", "", "'' cannot be a limit key"),
        ("a", "one/two/three", "'one/two/three' cannot be a limit key"),
        ("a", "one/", "'one/' cannot be a limit key"),
        ("a", "y" * 37, "cannot be a limit key"),
    ],
)
async def test_malformed_scopes_and_limit_keys_are_terminal(
    opened: Opened, scope: Any, limit_key: Any, says: str
):
    """They often come from data; retrying would send the same."""
    service = Service("S")

    @service.handler()
    async def target(ctx: Context) -> None: ...

    @service.handler()
    async def handle(ctx: Context) -> None:
        await ctx.generic_call("S", "target", b"", scope=scope, limit_key=limit_key)

    async with opened(service) as engine:
        with pytest.raises(TerminalError, match=says.replace("'", ".")) as raised:
            await engine.client.service_call(handle, None)
        assert raised.value.status_code == 400
        with pytest.raises(HttpError) as refused:
            await engine.client.generic_call("S", "target", b"", scope=scope, limit_key=limit_key)
        assert says in str(refused.value)


async def test_the_longest_names_are_allowed(opened: Opened):
    service, seen = Service("S"), []
    scope, limit_key = "a._-" * 9, f"{'L' * 36}/{'9' * 36}"

    @service.handler()
    async def target(ctx: Context) -> None:
        seen.append((ctx.request().scope, ctx.request().limit_key))

    async with opened(service) as engine:
        await engine.client.scope(scope).service_call(target, None, limit_key)
        sent = await engine.client.scope(scope).service_send(target, None, NOW, limit_key)
        await until(engine, sent.invocation_id, lambda view, _: view.is_done)
    assert seen == [(scope, limit_key)] * 2


async def test_a_scoped_workflow_is_reached_by_its_scope(opened: Opened):
    """Its promises and its result are not those of the same key without a scope."""
    flow = Workflow("Flow", inactivity_timeout=NOW)

    @flow.main()
    async def run(ctx: WorkflowContext) -> list[str]:
        by_client = await ctx.promise("client", type_hint=str)
        return [by_client, await ctx.promise("handler", type_hint=str)]

    @flow.handler()
    async def tell(ctx: WorkflowSharedContext, word: str) -> None:
        await ctx.promise("handler", type_hint=str).resolve(word)

    async with opened(flow) as engine:
        client = engine.client
        for scope, words in (("t", ["one", "two"]), (None, ["three", "four"])):
            scoped = client if scope is None else client.scope(scope)
            sent = await scoped.workflow_send(run, "k", None)
            view = await until_status(engine, sent.invocation_id, "suspended")
            assert view.target == ("Flow/k/run" if scope is None else "Flow/k/run@t")
            await client.resolve_promise("Flow", "k", "client", words[0], scope=scope)
            with pytest.raises(ConflictError, match="Flow/k@t" if scope else "Flow/k was"):
                await client.reject_promise("Flow", "k", "client", "late", scope=scope)
            await scoped.workflow_call(tell, "k", words[1])
            assert await client.workflow_attach(run, "k", scope=scope) == words
            assert await client.workflow_output("Flow", "k", scope=scope) == words
