"""The services of the journals that are kept in this folder. Never changed: their runs replay them.

`STEPS` says which steps really ran in this process.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from nbdurable import (
    Context,
    ObjectContext,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    durable,
)

STEPS: list[str] = []

greeter, cart, order = Service("Greeter"), VirtualObject("Cart"), Workflow("Order")


def step(name: str, result: str) -> str:
    STEPS.append(name)
    return result


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"hello {name}"


@greeter.handler()
async def fail(ctx: Context, message: str) -> None:
    raise TerminalError(message, 418)


@greeter.handler()
async def nap(ctx: Context, days: int) -> str:
    bed = await ctx.run_typed("make the bed", step, name="make the bed", result="bed 7")
    await ctx.sleep(timedelta(days=days))
    return f"rested in {bed}"


@greeter.handler()
async def ask(ctx: Context) -> str:
    size = await durable.approval("size", Literal["small", "large"], title="Which size?")
    return f"heard {size}"


@cart.handler()
async def add(ctx: ObjectContext, item: str) -> int:
    items = await ctx.get("items", type_hint=list) or []
    ctx.set("items", [*items, item])
    return len(items) + 1


@order.main()
async def run(ctx: WorkflowContext, amount: int) -> str:
    hold = await ctx.run_typed("reserve", step, name="reserve", result="hold-1")
    scan = await ctx.run_typed("scan", step, name="scan", result="x" * 100_000)
    count = await ctx.object_call(add, ctx.key(), "lamp")
    who = await ctx.promise("approved").value()
    done = await ctx.run_typed("capture", step, name="capture", result="captured")
    return f"{hold}: {done} {amount} for {who}, {count} items, {len(scan)} bytes"


SERVICES = (greeter, cart, order)
