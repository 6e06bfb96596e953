"""Services for the command line: given to `up` by their path, or opened in this process."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

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

SIZE: Any = Literal["small", "large"]

greeter, counter, payment = Service("Greeter"), VirtualObject("Counter"), Workflow("Payment")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"hello {name}"


@greeter.handler()
async def fail(ctx: Context, message: str) -> None:
    raise TerminalError(message, 418)


@greeter.handler()
async def nap(ctx: Context, days: int) -> str:
    await ctx.sleep(timedelta(days=days))
    return "rested"


@greeter.handler()
async def ask(ctx: Context) -> str:
    size = await durable.approval("size", SIZE, title="Which size?", context={"order": 7})
    return f"heard {size}"


@counter.handler()
async def add(ctx: ObjectContext, n: int) -> int:
    total: int = (await ctx.get("n", type_hint=int) or 0) + n
    ctx.set("n", total)
    return total


@payment.main()
async def run(ctx: WorkflowContext, amount: int) -> str:
    await ctx.run_typed("reserve", lambda: "hold-1")
    await ctx.promise("approved").value()
    return f"captured {amount}"


SERVICES = (greeter, counter, payment)
