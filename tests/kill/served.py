"""A process to be killed: two objects, served over HTTP on a port that stays the same.

    python served.py FOLDER PORT

It says `served` on standard output when it answers, and serves until it is killed.
"""

import asyncio
import sys
from pathlib import Path

import nbdurable
from nbdurable import ObjectContext, VirtualObject
from nbdurable.store.duck import DuckStore
from nbdurable.wiring import DurableEngine

FOLDER, PORT = Path(sys.argv[1]), int(sys.argv[2])

counter, book = VirtualObject("Counter"), VirtualObject("Book")


@counter.handler()
async def add(ctx: ObjectContext) -> int:
    """Count, with a step on the way, and say how far that is."""
    total = (await ctx.get("total") or 0) + 1
    await ctx.run_typed("step", lambda: total)
    ctx.set("total", total)
    return total


@book.handler()
async def enter(ctx: ObjectContext) -> None:
    """Write down which invocation this is."""
    ctx.set("entered", [*(await ctx.get("entered") or []), ctx.request().id])


@book.handler(kind="shared")
async def entered(ctx) -> list[str]:
    return await ctx.get("entered") or []


async def main() -> None:
    # Absorbing often, so that kills find the store doing that as well.
    store = DuckStore(FOLDER / "journal", absorb_commits=40)
    options = nbdurable.ServeOptions(ingress_port=PORT, has_token=False)
    opening = DurableEngine(FOLDER / "journal", [counter, book], store=store)
    async with opening as engine, nbdurable.serve(engine, options):
        print("served", flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
