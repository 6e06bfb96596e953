"""Services to be served over HTTP, and what a test says to an engine that serves them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import nbdurable
from nbdurable import (
    BytesSerde,
    Context,
    ObjectContext,
    ObjectSharedContext,
    Service,
    Serving,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from nbdurable.client.local import LocalClient
from nbdurable.wiring import SyncDurableEngine
from support.http import JSON, Reply, ask

greeter = Service("Greeter", description="Says hello.", metadata={"team": "hello"})
counter, payment = VirtualObject("Counter"), Workflow("PaymentWorkflow")
private = Service("Private", ingress_private=True)


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    """Say hello."""
    return f"hello {name}"


@greeter.handler()
async def wave(ctx: Context) -> None: ...


@greeter.handler(
    accept="*/*",
    content_type="application/octet-stream",
    input_serde=BytesSerde(),
    output_serde=BytesSerde(),
)
async def echo(ctx: Context, data: bytes) -> bytes:
    return data


@greeter.handler()
async def told(ctx: Context) -> dict[str, str]:
    return dict(ctx.request().headers)


@greeter.handler()
async def fail(ctx: Context, how: dict[str, Any]) -> None:
    raise TerminalError(how["message"], how["code"], how.get("metadata"))


@greeter.handler(
    invocation_retry_policy=nbdurable.InvocationRetryPolicy(max_attempts=1, on_max_attempts="kill")
)
async def crash(ctx: Context) -> None:
    secret = "a secret of the code's own"  # noqa: S105 - it is looked for in what leaves.
    raise RuntimeError(f"crashed{secret[:0]}")


@greeter.handler()
async def nap(ctx: Context, seconds: float) -> str:
    await ctx.sleep(timedelta(seconds=seconds))
    return "rested"


@greeter.handler()
async def wait_for_it(ctx: Context) -> str:
    """Hand the id of an awakeable out by way of an object, and wait for it."""
    name, value = ctx.awakeable()
    ctx.object_send(keep, "awakeable", name)
    return f"got {await value}"


@counter.handler()
async def add(ctx: ObjectContext, n: int) -> int:
    total = (await ctx.get("count") or 0) + n
    ctx.set("count", total)
    return total


@counter.handler(kind="shared")
async def get(ctx: ObjectSharedContext) -> int:
    return await ctx.get("count") or 0


@counter.handler()
async def keep(ctx: ObjectContext, value: str) -> None:
    ctx.set("kept", value)


@counter.handler(kind="shared")
async def kept(ctx: ObjectSharedContext) -> str | None:
    return await ctx.get("kept")


@counter.handler(kind="shared")
async def has_kept(ctx: ObjectSharedContext) -> bool:
    return await ctx.get("kept") is not None


@counter.handler()
async def hold(ctx: ObjectContext) -> str:
    """Keep the lock until cancelled or killed."""
    await ctx.sleep(timedelta(hours=1))
    return "done"


@payment.main()
async def run(ctx: WorkflowContext, order: dict[str, Any]) -> dict[str, Any]:
    approved = await ctx.promise("approval").value()
    return {"order": ctx.key(), "amount": order["amount"], "approved": approved}


@payment.handler()
async def approve(ctx: WorkflowSharedContext, approved: bool) -> None:  # noqa: FBT001 - a body.
    await ctx.promise("approval").resolve(approved)


@private.handler()
async def hidden(ctx: Context) -> str:
    return "seen"


class Served(NamedTuple):
    """What is served, and a client that says what it is told to say."""

    engine: SyncDurableEngine
    serving: Serving
    services: tuple[Any, ...]

    @property
    def client(self) -> LocalClient:
        return self.engine.opened.client

    def wait(self, asked: Any) -> Any:
        return self.client.wait(asked)

    def until(self, found: Callable[[], Any]) -> Any:
        """Ask by way of the engine until there is an answer: what is awaited is on its way."""
        for _ in range(ASKED_MAX):
            answer = found()
            if answer:
                return answer
            self.wait(asyncio.sleep(0))
        raise AssertionError("it never came")

    def ingress(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes | str | None = None,
    ) -> Reply:
        return ask(self.serving.ingress_url, method, path, headers, body)

    def admin(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes | str | None = None,
    ) -> Reply:
        return ask(self.serving.admin_url, method, path, headers, body)

    def post(self, path: str, body: str, **headers: str) -> Reply:
        """JSON to the ingress."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ingress("POST", path, {**JSON, **named}, body)

    def send(self, path: str, body: str) -> str:
        """The id of what was sent."""
        reply = self.post(f"{path}/send", body)
        assert reply.status == 202, reply
        return str(reply.json["invocationId"])


# A question takes some 100 us, so this is long; only a test that fails asks so often.
ASKED_MAX = 100_000

SERVICES = (greeter, counter, payment, private)
