"""`app = nbdurable.app([…])`: one line for both homes of a handler."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

import nbdurable
from nbdurable import Context, DefinitionError, JournalValueCodec, Service
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine

greeter, waver = Service("Greeter"), Service("Waver")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"hello {name}"


@waver.handler()
def wave(ctx: Context) -> str:
    return "o/"


class Compressing(JournalValueCodec):
    def encode(self, buf: bytes) -> bytes:
        return zlib.compress(buf)

    async def decode(self, buf: bytes) -> bytes:
        return zlib.decompress(buf)


def test_an_app_is_opened_as_its_services_are(tmp_path: Any):
    app = nbdurable.app([greeter, waver])
    assert list(app) == [greeter, waver]
    assert repr(app) == "<App Greeter, Waver>"
    with nbdurable.open_sync(tmp_path, services=app) as engine:
        assert engine.client.service_call(greet, "ada") == "hello ada"
        assert engine.client.service_call(wave, None) == "o/"


async def test_an_app_brings_its_codec():
    store = MemoryStore()
    app = nbdurable.app([greeter], journal_value_codec=Compressing())
    async with DurableEngine(services=app, store=store) as engine:
        assert await engine.client.service_call(greet, "ada") == "hello ada"
        rows = store.read_rows(1, store.last_lsn())
    assert not any(b"ada" in (row.payload or b"") for row in rows)


@pytest.mark.parametrize(
    ("services", "says"),
    [
        ([greeter, Service("Greeter")], "service 'Greeter' is named twice"),
        ([greet], "is no service; write: [greeter]"),
    ],
)
def test_what_cannot_be_served_together_is_refused(services: Any, says: str):
    with pytest.raises(DefinitionError) as raised:
        nbdurable.app(services)
    assert says in str(raised.value)
