"""`connect()`: what it says when it is not let in, and when nobody answers."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import Iterator

import pytest

import nbdurable
from nbdurable import HttpError, LinkLostError
from nbdurable.errors import QueryError
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine, SyncDurableEngine


@pytest.fixture
def serving() -> Iterator[nbdurable.Serving]:
    opening = DurableEngine(store=MemoryStore())
    with SyncDurableEngine(opening), nbdurable.serve(opening) as serving:
        yield serving


async def test_a_wrong_token_is_no_wrong_query(serving: nbdurable.Serving):
    url, admin = serving.ingress_url, serving.admin_url
    async with nbdurable.connect(url, token="wrong", admin_url=admin) as client:  # noqa: S106
        with pytest.raises(HttpError, match="HTTP 401: wrong token"):
            await client.query("select 1")
    async with nbdurable.connect(url, token=serving.token, admin_url=admin) as client:
        with pytest.raises(QueryError):
            await client.query("select nothing from nowhere")


async def test_that_nobody_answers_is_said_in_words():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with nbdurable.connect(url, admin_url=url) as client:
        for asking in (
            client.generic_call("Greeter", "greet", b'"Ada"'),
            client.attach("inv_1"),
            client.cancel("inv_1"),
            client.resolve_awakeable("sign_1"),
            client.query("select 1"),
        ):
            with pytest.raises(LinkLostError, match=f"nobody answers at {url}") as raised:
                await asking
            shown = "".join(traceback.format_exception(raised.value))
            assert "httpx.ConnectError" not in shown, "one sentence, and no tracebacks of others"


async def test_that_the_answer_is_cut_off_is_told_apart():
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, nbdurable.connect(url) as client:
        with pytest.raises(LinkLostError, match="may have happened or not") as raised:
            await client.generic_call("Greeter", "greet", b'"Ada"')
        assert "direct cause" not in "".join(traceback.format_exception(raised.value))
