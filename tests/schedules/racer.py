"""A process that wants the journal as much as the next one: `python racer.py JOURNAL`."""

from __future__ import annotations

import asyncio
import sys

import nbdurable
from nbdurable import ObjectContext, VirtualObject

counter = VirtualObject("Counter")


@counter.handler()
async def add(ctx: ObjectContext, n: int) -> None:
    ctx.set("n", (await ctx.get("n", type_hint=int) or 0) + n)


async def main() -> None:
    async with nbdurable.open(sys.argv[1], services=[counter]):
        print("open", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
