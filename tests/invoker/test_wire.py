"""What stands between a value and the journal: the size it may have, pickles' seal, the codec."""

from __future__ import annotations

import asyncio
import pickle
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.running import until_status

import nbdurable
from nbdurable import (
    ArrowSerde,
    Context,
    JournalValueCodec,
    ObjectContext,
    PickleSerde,
    RunOptions,
    SerializationError,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
)
from nbdurable.invoker.seal import Seal
from nbdurable.invoker.wire import MESSAGE_BYTES_MAX, Wire
from nbdurable.invoker.wire_source import WireSource
from nbdurable.sdk.serde import BytesSerde
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine

Opened = Callable[..., DurableEngine]
NOW = timedelta(0)


# -- size ----------------------------------------------------------------------------------------


def test_a_value_may_have_32_mib_and_no_byte_more() -> None:
    wire, most = Wire(Seal(lambda: b"k")), b"x" * MESSAGE_BYTES_MAX
    assert wire.write(BytesSerde(), most, "result").payload == most
    with pytest.raises(SerializationError) as raised:
        wire.write(BytesSerde(), most + b"x", "result")
    assert "is 33,554,433 bytes, and one value may have 33,554,432" in str(raised.value)
    assert "Keep it in a file" in str(raised.value)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("step", "step 'fetch': result is 40,000,002 bytes"),
        ("state", "state 'rows' is 40,000,002 bytes"),
        ("argument", "argument of 'other' is 40,000,002 bytes"),
        ("output", "result is 40,000,002 bytes"),
    ],
)
async def test_a_value_of_40_mb_pauses_and_says_which_and_how_large(
    opened: Opened, where: str, says: str
):
    """Retrying cannot make it smaller, and a journal is no warehouse."""
    obj = VirtualObject("O")

    def large() -> str:
        return "x" * 40_000_000

    @obj.handler()
    async def other(ctx: ObjectContext, value: str) -> None: ...

    @obj.handler()
    async def handle(ctx: ObjectContext) -> Any:
        match where:
            case "step":
                return await ctx.run_typed("fetch", large)
            case "state":
                ctx.set("rows", large())
            case "argument":
                await ctx.object_call(other, "k2", large())
        return large()

    async with opened(obj) as engine:
        sent = await engine.client.object_send(handle, "k", None)
        view = await until_status(engine, sent.invocation_id, "paused")
        assert says in str(view.failure)
        assert view.attempt == 1
        with pytest.raises(SerializationError, match="argument of 'other' is 40,000,002 bytes"):
            await engine.client.object_call(other, "k", large())


# -- pickles -------------------------------------------------------------------------------------


class Boom:
    """Unpickling it runs code, as anybody's pickle may."""

    def __reduce__(self) -> Any:
        return (run_by_pickle.append, (1,))


run_by_pickle: list[int] = []


class Model:
    """Whatever a cell defines."""

    def __init__(self, weight: float) -> None:
        self.weight = weight


async def test_steps_and_state_may_hold_anything_python_has(opened: Opened):
    obj = VirtualObject("O", inactivity_timeout=NOW)
    scale = 2

    @obj.handler()
    async def train(ctx: ObjectContext) -> list[Any]:
        pickled: RunOptions[Any] = RunOptions(serde=PickleSerde())
        model = await ctx.run_typed("train", lambda: Model(0.5), pickled)
        double = await ctx.run_typed("make", lambda: lambda x: scale * x, pickled)
        ctx.set("model", model, PickleSerde())
        await ctx.sleep(timedelta(milliseconds=1))
        kept = await ctx.get("model", PickleSerde())
        return [model.weight, kept.weight, double(21), await ctx.get("none", PickleSerde())]

    async with opened(obj) as engine:
        assert await engine.client.object_call(train, "k", None) == [0.5, 0.5, 42, None]


async def test_what_came_from_outside_is_never_unpickled(opened: Opened):
    """Bytes that a stranger sends to an ingress run no code here."""
    service = Service("S", inactivity_timeout=NOW)
    evil = pickle.dumps(Boom())

    @service.handler(input_serde=PickleSerde())
    async def take(ctx: Context, value: Any) -> str:
        return "taken"

    @service.handler()
    async def wait_for_it(ctx: Context) -> str:
        try:
            await ctx.awakeable(PickleSerde())[1]
        except SerializationError as error:
            return str(error)
        return "read it"

    async with opened(service) as engine:
        client = engine.client
        assert await client.service_call(take, Model(1.0)) == "taken"
        with pytest.raises(TerminalError, match="not written by a handler or step of this journal"):
            await client.generic_call("S", "take", evil)
        sent = await client.service_send(wait_for_it, None)
        view = await until_status(engine, sent.invocation_id, "suspended")
        await client.resolve_awakeable(view.open_awakeables[0], evil, BytesSerde())
        assert "not written by" in await client.attach(sent.invocation_id)
    assert run_by_pickle == []


def test_a_seal_is_of_one_key_and_one_payload() -> None:
    ours, theirs = Seal(lambda: b"ours"), Seal(lambda: b"theirs")
    sealed = ours.close(b"payload")
    assert ours.open(sealed) == b"payload"
    assert ours.open(ours.close(b"")) == b""
    for wrong in (sealed[:-1], sealed + b"x", theirs.close(b"payload"), b"payload", sealed[:20]):
        with pytest.raises(SerializationError, match="runs its writer's code"):
            ours.open(wrong)


async def test_the_key_stays_with_the_journal(tmp_path: Path):
    """What was pickled before a restart is read after it; nobody else can read the key."""
    obj = VirtualObject("O")

    @obj.handler()
    async def put(ctx: ObjectContext) -> None:
        ctx.set("model", Model(0.25), PickleSerde())

    @obj.handler(kind="shared")
    async def look(ctx: Any) -> float:
        return (await ctx.get("model", PickleSerde())).weight

    async with nbdurable.open(tmp_path, services=[obj]) as engine:
        assert not (tmp_path / "pickle.key").exists()
        await engine.client.object_call(put, "k", None)
        assert (tmp_path / "pickle.key").stat().st_mode & 0o777 == 0o600
    async with nbdurable.open(tmp_path, services=[obj]) as engine:
        assert await engine.client.object_call(look, "k", None) == 0.25


def test_what_cannot_be_pickled_says_so() -> None:
    with pytest.raises(SerializationError, match="result cannot be pickled"):
        PickleSerde().serialize(n for n in range(3))
    with pytest.raises(SerializationError, match="payload cannot be unpickled"):
        PickleSerde().deserialize(b"no pickle")
    assert PickleSerde().deserialize(PickleSerde().serialize(None)) is None
    assert not PickleSerde().canonical


async def test_tables_travel_through_steps_calls_and_replay(opened: Opened):
    service = Service("S", inactivity_timeout=NOW)
    arrow: RunOptions[Any] = RunOptions(serde=ArrowSerde())

    @service.handler(input_serde=ArrowSerde(), output_serde=ArrowSerde())
    async def double(ctx: Context, frame: pd.DataFrame) -> pd.DataFrame:
        return frame * 2

    @service.handler()
    async def handle(ctx: Context) -> list[Any]:
        frame = await ctx.run_typed("load", lambda: pd.DataFrame({"n": [1, 2]}), arrow)
        array = await ctx.run_typed("array", lambda: np.arange(4).reshape(2, 2), arrow)
        await ctx.sleep(timedelta(milliseconds=1))
        doubled = await ctx.service_call(double, frame)
        return [doubled["n"].tolist(), array.tolist()]

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == [[2, 4], [[0, 1], [2, 3]]]


# -- codecs --------------------------------------------------------------------------------------


class Compressing(JournalValueCodec):
    """Notes how often it worked, and never gives the same bytes twice. Mutable."""

    def __init__(self) -> None:
        self.encoded = 0
        self.decoded = 0

    def encode(self, buf: bytes) -> bytes:
        self.encoded += 1
        return self.encoded.to_bytes(4, "big") + zlib.compress(buf)

    async def decode(self, buf: bytes) -> bytes:
        self.decoded += 1
        await asyncio.sleep(0)
        return zlib.decompress(buf[4:])


def everything() -> tuple[list[Any], Any]:
    """A program that records every kind of value, and is replayed several times."""
    obj = VirtualObject("O", inactivity_timeout=NOW)
    flow = Workflow("Flow", inactivity_timeout=NOW)

    @obj.handler()
    async def callee(ctx: ObjectContext, text: str) -> str:
        ctx.set("seen", text)
        return f"{text}, {await ctx.get('seen')}"

    @flow.main()
    async def run(ctx: WorkflowContext, text: str) -> list[Any]:
        step = await ctx.run_typed("secret step", lambda: f"secret {text}")
        ctx.set("secret", step)
        awakeable_id, awakeable = ctx.awakeable(type_hint=str)
        ctx.resolve_awakeable(awakeable_id, "secret awakeable")
        ctx.resolve_signal(ctx.request().id, "note", "secret signal")
        open_promise = await ctx.promise("secret promise").peek()
        await ctx.promise("secret promise").resolve("secret promised")
        return [
            await ctx.object_call(callee, "k", "secret call"),
            await awakeable,
            await ctx.signal("note"),
            open_promise,
            await ctx.promise("secret promise"),
            await ctx.get("secret"),
            await ctx.get("absent"),
        ]

    return [obj, flow], run


EVERYTHING = [
    "secret call, secret call",
    "secret awakeable",
    "secret signal",
    None,
    "secret promised",
    "secret x",
    None,
]


async def test_a_codec_sees_every_value_and_the_journal_sees_none():
    services, run = everything()
    codec, store = Compressing(), MemoryStore()
    opening = DurableEngine(services=services, store=store, journal_value_codec=codec)
    async with opening as engine:
        assert await engine.client.workflow_call(run, "k", "x") == EVERYTHING
        assert await engine.client.workflow_attach("Flow", "k") == EVERYTHING
        payloads = [row.payload for row in store.read_rows(1, store.last_lsn()) if row.payload]
    assert len(payloads) > 10
    assert not any(b"secret" in payload for payload in payloads)
    assert codec.decoded > 10


async def test_a_codec_is_made_once_when_it_is_needed():
    """Fetching a key is slow, and costs money."""
    services, run = everything()
    made: list[int] = []

    async def provide() -> JournalValueCodec:
        made.append(1)
        await asyncio.sleep(0)
        return Compressing()

    opening = DurableEngine(services=services, store=MemoryStore(), journal_value_codec=provide)
    async with opening as engine:
        assert made == []
        calls = [engine.client.workflow_call(run, key, "x") for key in "abc"]
        assert await asyncio.gather(*calls) == [EVERYTHING] * 3
    assert made == [1]


async def test_a_provider_that_fails_is_asked_again() -> None:
    made: list[int] = []

    async def provide() -> JournalValueCodec:
        made.append(1)
        await asyncio.sleep(0)
        if len(made) < 2:
            raise OSError("no key")
        return Compressing()

    source = WireSource(Seal(lambda: b"k"), provide)
    first, *others = await asyncio.gather(*(source.get() for _ in range(3)), return_exceptions=True)
    assert isinstance(first, OSError)
    assert all(isinstance(wire, Wire) for wire in others)
    assert len(made) == 2


async def test_an_input_that_the_codec_cannot_decode_is_terminal():
    """Whoever sent it has another codec, or none; no retry changes that."""
    service = Service("S")

    @service.handler()
    async def greet(ctx: Context, name: str) -> str:
        return name

    class Forgetful(Compressing):
        async def decode(self, buf: bytes) -> bytes:
            raise ValueError("wrong key")

    opening = DurableEngine(
        services=[service], store=MemoryStore(), journal_value_codec=Forgetful()
    )
    async with opening as engine:
        with pytest.raises(TerminalError, match="cannot decode the input") as raised:
            await engine.client.service_call(greet, "ada")
    assert raised.value.status_code == 400
