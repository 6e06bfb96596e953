"""A list and a map per key."""

from __future__ import annotations

from nbdurable import ObjectContext, VirtualObject

ITEMS = "items"

list_object = VirtualObject("ListObject")
map_object = VirtualObject("MapObject")


@list_object.handler()
async def append(ctx: ObjectContext, item: str) -> None:
    ctx.set(ITEMS, [*(await ctx.get(ITEMS) or []), item])


@list_object.handler("get")
async def items(ctx: ObjectContext) -> list[str]:
    return await ctx.get(ITEMS) or []


@list_object.handler()
async def clear(ctx: ObjectContext) -> list[str]:
    had = await ctx.get(ITEMS) or []
    ctx.clear(ITEMS)
    return had


@map_object.handler("set")
async def set_entry(ctx: ObjectContext, entry: dict[str, str]) -> None:
    ctx.set(entry["key"], entry["value"])


@map_object.handler("get")
async def get_entry(ctx: ObjectContext, key: str) -> str:
    return await ctx.get(key) or ""


@map_object.handler("clearAll")
async def clear_all(ctx: ObjectContext) -> list[dict[str, str]]:
    had = [{"key": key, "value": await ctx.get(key) or ""} for key in await ctx.state_keys()]
    ctx.clear_all()
    return had
