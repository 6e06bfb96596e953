"""One number per key."""

from __future__ import annotations

from nbdurable import ObjectContext, ObjectSharedContext, TerminalError, VirtualObject

COUNT = "counter"

counter = VirtualObject("Counter")


@counter.handler()
async def add(ctx: ObjectContext, by: int) -> dict[str, int]:
    old = await ctx.get(COUNT, type_hint=int) or 0
    ctx.set(COUNT, old + by)
    return {"oldValue": old, "newValue": old + by}


@counter.handler("addThenFail")
async def add_then_fail(ctx: ObjectContext, by: int) -> None:
    await add(ctx, by)
    raise TerminalError(ctx.key())


@counter.handler(kind="shared")
async def get(ctx: ObjectSharedContext) -> int:
    return await ctx.get(COUNT, type_hint=int) or 0


@counter.handler()
async def reset(ctx: ObjectContext) -> None:
    ctx.clear(COUNT)
