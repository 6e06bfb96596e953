"""The handlers of bench_http.py as they are written for restate-sdk, on the server its docs use.

Says its port on standard output, then serves until standard input ends.
"""

from __future__ import annotations

import asyncio
import socket
import sys

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

greeter, counter = restate.Service("Greeter"), restate.VirtualObject("Counter")


@greeter.handler()
async def greet(ctx: restate.Context, name: str) -> str:
    return f"hello {name}"


@counter.handler()
async def add(ctx: restate.ObjectContext, n: int) -> int:
    total = (await ctx.get("n", type_hint=int) or 0) + n
    ctx.set("n", total)
    return total


async def main() -> None:
    config = Config()
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listening.getsockname()[1], flush=True)
    config.bind = [f"fd://{listening.detach()}"]
    config.loglevel = "ERROR"
    config.h2_max_concurrent_streams = config.keep_alive_max_requests = 2**31 - 1

    async def ended() -> None:
        await asyncio.to_thread(sys.stdin.read)

    await serve(restate.app([greeter, counter]), config, shutdown_trigger=ended)


if __name__ == "__main__":
    asyncio.run(main())
