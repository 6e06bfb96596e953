"""What is registered, and state by hand, on a whole engine."""

from __future__ import annotations

import pytest
from support.running import durable, until_status

from nbdurable import (
    ConflictError,
    Context,
    HttpError,
    InvocationNotFoundError,
    ObjectContext,
    Service,
    VirtualObject,
)
from nbdurable.core.ids import awakeable_id, random_invocation_id
from nbdurable.core.manifest import ServicePatch
from nbdurable.core.values import ObjectId

greeter, counter = Service("Greeter"), VirtualObject("Counter")
ADA = ObjectId(service="Counter", key="ada")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"hello {name}"


@counter.handler()
async def add(ctx: ObjectContext, n: int) -> int:
    total = (await ctx.get("n") or 0) + n
    ctx.set("n", total)
    return total


@counter.handler()
async def hold(ctx: ObjectContext) -> None:
    await ctx.awakeable()[1]


async def test_each_revision_is_a_deployment():
    async with durable(greeter, counter) as engine:
        await engine.client.register(greeter, digest="another")
        one, two, three = await engine.client.operator().deployments()
        named = [(d.manifest.name, d.revision) for d in (one, two, three)]
        assert named == [("Greeter", 1), ("Greeter", 2), ("Counter", 1)]
        assert len({d.id for d in (one, two, three)}) == 3
        assert [d.is_latest for d in (one, two, three)] == [False, True, True]
        assert one.registered_at_ms <= two.registered_at_ms
        assert one.link == two.link is not None


async def test_a_patched_service_is_private_at_once():
    async with durable(greeter) as engine:
        operator = engine.client.operator()
        await operator.patch_service("Greeter", ServicePatch(public=False))
        with pytest.raises(HttpError, match="not public"):
            await engine.client.service_call(greet, "ada")
        with pytest.raises(HttpError, match="404"):
            await operator.patch_service("Nobody", ServicePatch(public=False))


async def test_the_next_handler_sees_the_state_that_was_edited():
    async with durable(counter) as engine:
        operator = engine.client.operator()
        await engine.client.object_call(add, "ada", 1)
        found = await operator.state(ADA)
        assert found.values == {"n": b"1"}
        await operator.edit_state(ADA, {"n": b"40", "empty": b""}, found.version)
        assert await engine.client.object_call(add, "ada", 2) == 42
        with pytest.raises(ConflictError, match="has changed"):
            await operator.edit_state(ADA, {}, found.version)
        assert (await operator.state(ADA)).values == {"n": b"42", "empty": b""}


async def test_an_edit_waits_until_the_key_is_free():
    async with durable(counter) as engine:
        operator = engine.client.operator()
        sent = await engine.client.object_send(hold, "ada", None)
        await until_status(engine, sent.invocation_id, "running")
        await operator.edit_state(ADA, {"n": b"40"})
        assert (await operator.state(ADA)).values == {}
        await engine.client.kill(sent.invocation_id)
        assert await engine.client.object_call(add, "ada", 2) == 42


async def test_an_awakeable_of_no_invocation_is_not_found():
    async with durable(greeter) as engine:
        nobody = awakeable_id(random_invocation_id(1), 1, 17)
        with pytest.raises(InvocationNotFoundError):
            await engine.client.resolve_awakeable(nobody, 1)
