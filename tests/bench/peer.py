"""nbdurable as a peer of a side-by-side benchmark kit, whose interface is its `bench.api.Peer`.

    BENCH_NBDURABLE_ADAPTER=$PWD/tests/bench/peer.py python -m bench --peers restate,nbdurable

The engine is opened with the settings that ship; handlers are what a user would write. It lives in
the process that calls it, which is how notebooks and scripts have it.
"""

from __future__ import annotations

import time
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.api import Marks, Peer, measure, payload

import nbdurable
from nbdurable import Context, ObjectContext, ObjectSharedContext, Service, VirtualObject, gather

bench, counter = Service("Bench"), VirtualObject("Counter")
# Where handlers leave their marks: of the one peer of this process.
marks: list[Marks] = []


@bench.handler()
async def empty(ctx: Context, arg: dict[str, Any]) -> str:
    return "ok"


@bench.handler()
async def steps(ctx: Context, arg: dict[str, Any]) -> dict[str, Any]:
    n, size = arg["n"], arg["size"]
    total, seen, took_ns = 0, 0, []
    for i in range(n):
        began_ns = time.monotonic_ns()
        out = await ctx.run_typed(f"s{i}", payload, i=i, size=size)
        took_ns.append(time.monotonic_ns() - began_ns)
        seen += measure(i, out, size)
        total += i
    return {"sum": total, "bytes": seen, "d": took_ns}


@bench.handler()
async def child(ctx: Context, i: int) -> int:
    return i


@bench.handler()
async def fanout(ctx: Context, arg: dict[str, Any]) -> int:
    done = await gather(*(ctx.service_call(child, arg=i) for i in range(arg["n"])))
    return sum([await call for call in done])


@bench.handler()
async def sleep(ctx: Context, arg: dict[str, Any]) -> str:
    marks[0]("S", arg["wid"])
    await ctx.sleep(timedelta(seconds=arg["s"]))
    return "ok"


@bench.handler()
async def block(ctx: Context, arg: dict[str, Any]) -> dict[str, Any]:
    wid = arg["wid"]

    def marked(i: int) -> int:
        marks[0]("X", wid, i)
        return i

    for i in range(arg["steps"]):
        await ctx.run_typed(f"s{i}", marked, i=i)
    token, signal = ctx.awakeable()
    marks[0]("B", wid, token)
    value = await signal
    resumed_ns = time.monotonic_ns()
    marks[0]("R", wid)
    return {"v": value, "t": resumed_ns}


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    total = (await ctx.get("v", type_hint=int) or 0) + amount
    ctx.set("v", total)
    return total


@counter.handler(kind="shared")
async def get(ctx: ObjectSharedContext) -> int:
    return await ctx.get("v", type_hint=int) or 0


HANDLERS = {"empty": empty, "steps": steps, "fanout": fanout, "sleep": sleep, "block": block}


class NbdurablePeer(Peer):
    """Mutable: open between `start` and `stop`."""

    name = "nbdurable"
    durability = (
        "DuckDB commit, its WAL synced, before a step returns, a call is accepted or a caller"
        " is answered; steps that end while a commit runs share the next"
    )

    async def start(self) -> None:
        marks[:] = [Marks(self.marks_path)]
        self._engine = nbdurable.open(services=[bench, counter], path=Path(self.dir) / ".nbdurable")
        await self._engine.__aenter__()
        self._client = self._engine.client

    async def stop(self) -> None:
        await self._engine.__aexit__(None, None, None)

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("nbdurable", "duckdb")}

    async def call(self, handler: str, wid: str, arg: dict[str, Any]) -> Any:
        return await self._client.service_call(HANDLERS[handler], {"wid": wid, **arg})

    async def submit(self, handler: str, wid: str, arg: dict[str, Any]) -> str:
        # The key keeps the result, so that another process can attach to it.
        sent = await self._client.service_send(
            HANDLERS[handler], {"wid": wid, **arg}, idempotency_key=wid
        )
        return sent.invocation_id

    async def result(self, handle: str) -> Any:
        return await self._client.attach(handle)

    async def reattach(self, wid: str) -> str:
        # The same key finds the invocation that has it.
        return await self.submit("block", wid, {})

    async def signal(self, token: str, value: Any) -> None:
        await self._client.resolve_awakeable(token, value)

    async def add(self, key: str, amount: int) -> int:
        return await self._client.object_call(add, key, amount)

    async def get(self, key: str) -> int:
        return await self._client.object_call(get, key, None)
