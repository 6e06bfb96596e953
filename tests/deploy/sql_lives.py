"""The same lives on a real Restate server and on an engine here, and SQL asked of both."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from support.cluster import RestateServer
from support.http import JSON, ask

import nbdurable
from nbdurable import (
    Context,
    InvocationRetryPolicy,
    ObjectContext,
    ServeOptions,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from nbdurable.deploy.serving import Endpoint
from nbdurable.wiring import DurableEngine, SyncDurableEngine

shop, cart, order = Service("Shop"), VirtualObject("Cart"), Workflow("Order")

# Later than any test ends.
LATER = timedelta(hours=1)
ONCE = InvocationRetryPolicy(initial_interval=LATER)
# A query that what has been sent answers once it has happened; only a test that fails waits.
ASKED_S_MAX = 60.0


@shop.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"hello {name}"


@shop.handler()
async def refuse(ctx: Context) -> None:
    raise TerminalError("sold out", 410)


@shop.handler()
async def relay(ctx: Context, name: str) -> str:
    return await ctx.service_call(greet, name)


@shop.handler()
async def nap(ctx: Context) -> None:
    await ctx.sleep(LATER, "siesta")


@shop.handler()
async def ring(ctx: Context) -> str:
    return await ctx.awakeable()[1]


@shop.handler(invocation_retry_policy=ONCE)
async def fail(ctx: Context) -> None:
    raise RuntimeError("no luck")


@shop.handler(
    invocation_retry_policy=InvocationRetryPolicy(max_attempts=1, on_max_attempts="pause")
)
async def stop(ctx: Context) -> None:
    raise RuntimeError("no luck")


@cart.handler()
async def hold(ctx: ObjectContext, item: str) -> None:
    ctx.set("item", item)
    await ctx.sleep(LATER)


@cart.handler()
async def use(ctx: ObjectContext, item: str) -> str | None:
    before = await ctx.get("last")
    ctx.set("last", item)
    ctx.set("other", [1])
    ctx.clear("other")
    return before


@cart.handler()
async def everything(ctx: ObjectContext) -> None:
    """Every kind of entry that a handler can make, with values and without."""
    await ctx.get("none")
    ctx.set("a", 1)
    await ctx.get("a")
    await ctx.state_keys()
    ctx.clear("a")
    ctx.clear_all()
    await ctx.run_typed("nothing", lambda: None)
    with suppress(TerminalError):
        await ctx.run_typed("doomed", _sold_out)
    with suppress(TerminalError):
        await ctx.service_call(refuse, None)
    await ctx.sleep(timedelta(milliseconds=1))
    resolved, value = ctx.awakeable()
    ctx.resolve_awakeable(resolved, "yes")
    await value
    rejected, value = ctx.awakeable()
    ctx.reject_awakeable(rejected, "no")
    with suppress(TerminalError):
        await value
    napping = await ctx.service_send(nap, None).invocation_id()
    ctx.cancel_invocation(napping)
    with suppress(TerminalError):
        await ctx.attach_invocation(napping)


def _sold_out() -> None:
    raise TerminalError("sold out", 410)


@order.main()
async def run(ctx: WorkflowContext, item: str) -> str:
    price = await ctx.run_typed("price", lambda: 5)
    told = await ctx.service_call(greet, item)
    ctx.service_send(greet, "later", send_delay=LATER)
    ctx.object_send(use, f"sent by {ctx.key()}", "x")
    await ctx.promise("early").peek()
    return f"{told}, {price}, {await ctx.promise('approval').value()}"


@order.handler()
async def approve(ctx: WorkflowSharedContext, how: str) -> None:
    await ctx.promise("approval").resolve(how)


SERVICES = (shop, cart, order)
# Path, body, and the status in which it comes to rest.
CALLS: tuple[tuple[str, object, str], ...] = (
    ("Shop/greet", "Ada", "completed"),
    ("Shop/refuse", None, "completed"),
    ("Shop/relay", "Bea", "completed"),
    ("Shop/nap", None, "running"),
    ("Shop/ring", None, "running"),
    ("Shop/fail", None, "backing-off"),
    ("Shop/stop", None, "paused"),
    ("Cart/held/hold", "tea", "running"),
    ("Cart/held/hold", "milk", "pending"),
    ("Cart/used/use", "tea", "completed"),
    ("Cart/used/use", "milk", "completed"),
    ("Cart/all/everything", None, "completed"),
    ("Order/o1/run", "tea", "running"),
    ("Order/o2/run", "tea", "running"),
    ("Order/o1/approve", "yes", "completed"),
)


class Side(NamedTuple):
    """`ids` tells which invocation has which name: its target, and the how-manieth it is."""

    ingress_url: str
    admin_url: str
    ids: dict[str, str]

    def rows(self, sql: str) -> list[dict[str, Any]]:
        headers = {**JSON, "accept": "application/json"}
        reply = ask(self.admin_url, "POST", "/query", headers, json.dumps({"query": sql}))
        assert reply.status == 200, reply
        return list(reply.json["rows"])

    def named(self, sql: str) -> list[dict[str, Any]]:
        """The same with names for ids."""
        text = json.dumps(self.rows(sql))
        return list(json.loads(re.sub(r"inv_\w+", lambda id_: self.ids[id_[0]], text)))

    def live(self) -> None:
        """Have everything happen, one after another, each up to where it rests."""
        for path, body, status in CALLS:
            headers, given = ({}, None) if body is None else (JSON, json.dumps(body))
            sent = ask(self.ingress_url, "POST", f"/{path}/send", headers, given)
            assert sent.status == 202, sent
            self._rest(sent.json["invocationId"], status)
        # They follow from what was asked for, and end by themselves.
        completed = "select 1 from sys_invocation where status = 'completed' and target"
        self._until(f"{completed} like 'Cart/sent by%'", 2)
        self._until(f"{completed} = 'Order/o1/run'", 1)
        self._until("select 1 from sys_promise where service_key = 'o2'", 1)
        counted: dict[str, int] = {}
        for row in self.rows("select * from sys_invocation order by created_at, id"):
            # Two that one caller has sent at once have no order; they differ in when they begin.
            later = " later" if "scheduled_start_at" in row else ""
            name = f"{row['target']} of {row.get('invoked_by_target', 'ingress')}{later}"
            counted[name] = number = counted.get(name, 0) + 1
            self.ids[row["id"]] = f"inv_{name} #{number}"

    def _rest(self, invocation_id: str, status: str) -> None:
        self._until(
            f"select 1 from sys_invocation where id = '{invocation_id}' and status = '{status}'", 1
        )

    def _until(self, sql: str, count: int) -> None:
        end = time.monotonic() + ASKED_S_MAX
        while len(self.rows(sql)) < count:
            assert time.monotonic() < end, sql


class Sides(NamedTuple):
    there: Side
    here: Side


@contextmanager
def lives(program: Callable[[str], Path], folder: Path) -> Iterator[Sides]:
    engine = DurableEngine(folder / ".nbdurable", services=SERVICES, logs_failures=False)
    with (
        RestateServer(program, folder) as server,
        Endpoint(nbdurable.app(SERVICES), port=0) as endpoint,
        SyncDurableEngine(engine) as opened,
        nbdurable.serve(opened.opened, ServeOptions(has_token=False)) as serving,
    ):
        server.register(endpoint.url)
        sides = Sides(
            Side(server.ingress_url, server.admin_url, {}),
            Side(serving.ingress_url, serving.admin_url, {}),
        )
        for side in sides:
            side.live()
        yield sides
