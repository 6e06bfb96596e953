"""`create_client()`: the same calls, over HTTP, to whatever ingress there is."""

from __future__ import annotations

import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from support.ingress import Ingress, serving
from support.running import durable

from nbdurable import (
    Context,
    HttpError,
    JournalValueCodec,
    NbdurableError,
    ObjectContext,
    PickleSerde,
    RestateClient,
    SerializationError,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    create_client,
)
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine

greeter, counter, flow = Service("Greeter"), VirtualObject("Counter"), Workflow("Flow")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    if not name:
        raise TerminalError("nobody to greet", 418)
    return f"hello {name} {ctx.request().headers.get('x-mine', '')}".strip()


@greeter.handler()
async def wave(ctx: Context) -> None: ...


@greeter.handler(input_serde=PickleSerde())
async def take(ctx: Context, value: Any) -> None: ...


@counter.handler()
async def add(ctx: ObjectContext, n: int) -> list[Any]:
    total = (await ctx.get("n") or 0) + n
    ctx.set("n", total)
    return [total, ctx.key(), ctx.request().scope, ctx.request().limit_key]


@flow.main()
async def run(ctx: WorkflowContext, text: str) -> str:
    return f"{ctx.key()}: {text}"


@asynccontextmanager
async def clients(**settings: Any) -> AsyncIterator[tuple[RestateClient, Ingress, DurableEngine]]:
    async with durable(greeter, counter, flow) as engine:
        with serving(engine.client) as ingress:
            async with create_client(ingress.url, **settings) as client:
                yield client, ingress, engine


async def test_calls_return_what_the_handlers_return():
    async with clients() as (client, _, _):
        assert await client.service_call(greet, "ada") == "hello ada"
        assert await client.service_call(wave, None) is None
        assert await client.object_call(add, "k", 2) == [2, "k", None, None]
        assert await client.workflow_call(run, "w", "done") == "w: done"
        assert await client.generic_call("Greeter", "greet", b'"bob"') == b'"hello bob"'
        assert await client.generic_call("Counter", "add", b"1", "k") == b'[3,"k",null,null]'


async def test_sends_return_a_handle_that_can_be_attached_to():
    async with clients() as (client, _, engine):
        for sent in (
            await client.service_send(greet, "ada"),
            await client.service_send(greet, "ada", timedelta(milliseconds=1)),
            await client.generic_send("Greeter", "greet", b'"ada"'),
        ):
            assert (sent.status_code, sent.existing) == (202, False)
            assert await engine.client.attach(sent.invocation_id) == "hello ada"
        sent = await client.object_send(add, "k", 1)
        assert await engine.client.attach(sent.invocation_id) == [1, "k", None, None]
        first, second = [await client.workflow_send(run, "w", "text") for _ in range(2)]
        assert second.existing
        assert first.invocation_id == second.invocation_id


async def test_a_delay_has_a_unit():
    """Restate refuses a bare number; the official client sends one."""
    async with clients() as (client, ingress, _):
        await client.service_send(greet, "ada", timedelta(seconds=1.5))
        assert ingress.seen[-1][0] == "/Greeter/greet/send?delay=1500ms"


@pytest.mark.parametrize("key", ["a/b", "ä ö", "50%", "?x=1", "#1", ".."])
async def test_a_key_may_hold_what_a_url_may_not(key: str):
    """It is one segment, whatever it holds."""
    async with clients() as (client, _, _):
        assert (await client.object_call(add, key, 1))[1] == key


async def test_headers_and_idempotency_keys_travel():
    async with clients(headers={"Authorization": "Bearer secret"}) as (client, ingress, _):
        said = await client.service_call(greet, "ada", "key-1", {"x-mine": "!"})
        assert said == "hello ada !"
        assert await client.service_call(greet, "bob", "key-1") == "hello ada !"
        assert ingress.seen[0][1]["authorization"] == "Bearer secret"
        assert ingress.seen[0][1]["idempotency-key"] == "key-1"


async def test_scopes_have_paths_of_their_own():
    async with clients() as (client, ingress, _):
        scoped = client.scope("tenant")
        assert await scoped.object_call(add, "k", 1, "a/b") == [1, "k", "tenant", "a/b"]
        assert ingress.seen[-1][0] == "/restate/scope/tenant/call/Counter/k/add"
        await scoped.service_send(greet, "ada", timedelta(milliseconds=2))
        assert ingress.seen[-1][0] == "/restate/scope/tenant/send/Greeter/greet?delay=2ms"
        await client.generic_call("Greeter", "greet", b'"x"', scope="tenant", limit_key="l")
        assert ingress.seen[-1][1]["x-restate-limit-key"] == "l"
        with pytest.raises(HttpError, match="cannot be a scope"):
            client.scope("a b")


async def test_what_the_other_side_refuses_is_an_http_error():
    """As from the official client: status, reason, and the body for whoever wants more."""
    async with clients() as (client, _, _):
        with pytest.raises(HttpError) as raised:
            await client.service_call(greet, "")
        assert raised.value.status_code == 418
        assert "nobody to greet" in str(raised.value.body)
        with pytest.raises(HttpError, match="404"):
            await client.generic_call("Nobody", "greet", b"")
        await client.workflow_call(run, "w", "once")


async def test_pickles_are_not_sent_over_http():
    async with clients() as (client, _, _):
        with pytest.raises(SerializationError, match="pickles are not sent over HTTP"):
            await client.service_call(take, object())


class Compressing(JournalValueCodec):
    def encode(self, buf: bytes) -> bytes:
        return zlib.compress(buf)

    async def decode(self, buf: bytes) -> bytes:
        return zlib.decompress(buf)


async def test_a_codec_is_applied_to_what_is_sent_and_received():
    """The ingress between them sees compressed bytes only, as the journal does."""
    opening = DurableEngine(
        services=[greeter], store=MemoryStore(), journal_value_codec=Compressing()
    )
    async with opening as engine:
        with serving(engine.client.without_codec()) as ingress:
            async with create_client(ingress.url, None, Compressing()) as client:
                assert await client.service_call(greet, "ada") == "hello ada"
                sent = await client.generic_send("Greeter", "greet", b'"bob"')
                assert await engine.client.attach(sent.invocation_id) == "hello bob"


async def test_without_an_url_it_says_what_to_write():
    with pytest.raises(NbdurableError, match=r"create_client\('http://localhost:8080'\)"):
        async with create_client():
            pass


async def test_without_httpx_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ImportError, match=r"pip install 'nbdurable\[client\]'"):
        async with create_client("http://localhost"):
            pass
