"""Whatever a process that has joined sends, the owner and everybody else go on as before."""

from __future__ import annotations

import contextlib
import logging

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_links import GREETER, HELLO, joining
from websockets.exceptions import ConnectionClosed

import nbdurable
from nbdurable import Serving
from nbdurable.core.proposals import LoadCode
from nbdurable.invoker.frames import Ask, Attach, Did, Leave, Propose, Query, Watch, Welcome, encode
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine, SyncDurableEngine

GARBAGE = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
RAW = GARBAGE.map(msgspec.msgpack.encode).map(msgspec.Raw)
TYPED = st.sampled_from(
    [
        "Invoke",
        "LoadCode",
        "EditState",
        "CleanUp",
        "AllInvocations",
        "AttemptSteps",
        "CancelInvocation",
    ]
).flatmap(
    lambda name: st.dictionaries(
        st.sampled_from(["invocation_id", "seed", "epoch", "attempt", "steps", "target", "link"]),
        GARBAGE,
    ).map(lambda rest: msgspec.Raw(msgspec.msgpack.encode({"type": name, **rest})))
)
IDS = st.integers(-(2**63), 2**63 - 1)
FRAMES = st.one_of(
    st.builds(Did, steps=RAW | TYPED),
    st.builds(Propose, id=IDS, proposal=RAW | TYPED),
    st.builds(Ask, id=IDS, question=RAW | TYPED),
    st.builds(Watch, id=IDS, question=RAW | TYPED),
    st.builds(Attach, id=IDS, invocation_id=st.text(max_size=9)),
    st.builds(Leave, id=IDS),
    st.builds(
        Query, id=IDS, question=st.binary(max_size=9), time_ms=IDS, rows_max=IDS, bytes_max=IDS
    ),
).map(encode)
# By name, because hypothesis writes out what it has tried.
DEEP = {"lists": b"\x91" * 100_000, "maps": b"\x81\xa1a" * 100_000}


@pytest.fixture(scope="module")
def standing():
    with (
        SyncDurableEngine(DurableEngine(store=MemoryStore())) as engine,
        nbdurable.serve(engine.opened.owned) as serving,
    ):
        yield serving, engine


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FRAMES | st.binary(max_size=20) | st.sampled_from([*DEEP]), min_size=1, max_size=6))
def test_nonsense_ends_its_link_at_most(
    standing: tuple[Serving, SyncDurableEngine],
    caplog: pytest.LogCaptureFixture,
    messages: list[bytes | str],
):
    serving, engine = standing
    with caplog.at_level(logging.ERROR), joining(serving) as process:
        process.say(HELLO)
        process.until(Welcome)
        with contextlib.suppress(ConnectionClosed):
            for message in messages:
                process.socket.send(DEEP[message] if isinstance(message, str) else message)
    assert engine.client.invocations() == []
    assert not caplog.records


def test_after_all_that_a_process_can_join_as_before(standing: tuple[Serving, SyncDurableEngine]):
    serving, engine = standing
    with joining(serving) as process:
        process.say(HELLO)
        process.until(Welcome)
        process.propose(LoadCode(link="", manifest=GREETER))
        assert [one.name for one in engine.client.services()] == ["Greeter"]
