"""A server's life: it begins after the engine, ends before it, and says where it is meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from support.http import JSON, Reply, ask
from support.served import greeter, payment

import nbdurable
from nbdurable import EngineClosedError, JournalValueCodec, NbdurableError, ServeOptions
from nbdurable.client.views import InvocationView
from nbdurable.server.address import served_at
from nbdurable.store.lock import holder_of
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine, SyncDurableEngine

OPEN = ServeOptions(has_token=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".nbdurable"


def owner_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "owner.json").read_text())
    return content


def owning(folder: Path, *services: Any) -> SyncDurableEngine:
    """An engine that does not listen by itself, as `open()` does."""
    return SyncDurableEngine(DurableEngine(folder, services))


# -- where it is ----------------------------------------------------------------------------------


def test_the_owner_says_where_it_is_served_and_what_to_bring(folder: Path):
    with owning(folder, greeter) as engine:
        assert served_at(folder) is None
        with nbdurable.serve(engine.opened) as serving:
            note = owner_of(folder)
            assert note["pid"] == os.getpid()
            assert (note["ingress"], note["admin"]) == (serving.ingress_url, serving.admin_url)
            assert note["version"] == nbdurable.__version__
            assert stat.S_IMODE((folder / "owner.json").stat().st_mode) == 0o600
            assert str(serving.token) not in json.dumps(note)
            found = served_at(folder)
            assert found is not None
            reply = ask(found.ingress, "GET", "/restate/health", found.headers())
            assert reply.json == {"services": ["Greeter"]}
        assert served_at(folder) is None
        assert owner_of(folder)["ingress"] is None
    assert not (folder / "owner.json").exists()


def test_a_token_outlives_the_server(folder: Path):
    """Whoever has noted it can use it tomorrow."""
    tokens = set()
    for _ in range(2):
        with (
            owning(folder) as engine,
            nbdurable.serve(engine.opened) as serving,
        ):
            tokens.add(serving.token)
    assert len(tokens) == 1
    assert (folder / "token").read_text() in tokens


def test_a_note_of_a_dead_process_is_not_believed(folder: Path):
    """The file outlives a kill -9, the lock does not."""
    script = """
import os, signal, sys, nbdurable
with (
    nbdurable.SyncDurableEngine(nbdurable.DurableEngine(sys.argv[1])) as engine,
    nbdurable.serve(engine.opened),
):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    path = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", script, folder], check=False, env={"PYTHONPATH": path})
    assert owner_of(folder)["ingress"].startswith("http://127.0.0.1:")
    assert served_at(folder) is None
    # Nor does looking take anything from whoever comes next.
    with owning(folder, greeter) as engine:
        assert engine.client.services()[0].name == "Greeter"


@pytest.mark.parametrize("note", ["", "{", "[]", '{"pid": 1}', '{"ingress": "http://x"}'])
def test_a_note_that_is_none_is_nobodys(folder: Path, note: str):
    with owning(folder):
        (folder / "owner.json").write_text(note)
        assert served_at(folder) is None


def test_an_owner_is_known_by_its_program(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """A number says nothing to whoever wants to close it."""
    for words, shown in (
        (["/opt/lib/nbdurable/__main__.py", "up"], "(nbdurable up)"),
        (["jobs/nightly.py", "--day", "1"], "(nightly.py --day 1)"),
        ([""], ""),
    ):
        monkeypatch.setattr(sys, "argv", words)
        with nbdurable.open_sync(folder) as engine, nbdurable.serve(engine.opened):
            served = served_at(folder)
            assert served is not None
            assert served.who.endswith(shown)
            holder = holder_of(folder)
            assert holder is not None
            assert holder.program == (shown.strip("()") or "python")


def test_a_folder_that_never_was_is_nobodys(folder: Path):
    assert served_at(folder) is None
    assert not folder.exists()


# -- beginning ------------------------------------------------------------------------------------


async def test_it_serves_an_engine_that_is_open_and_nothing_else():
    closed = DurableEngine(store=MemoryStore())
    with pytest.raises(EngineClosedError):
        await nbdurable.serve(closed, OPEN).__aenter__()
    with pytest.raises(NbdurableError, match="nothing is served"):
        _ = nbdurable.serve(closed).ingress_url


async def test_ports_are_free_ones_unless_they_are_named():
    async with DurableEngine(store=MemoryStore(), services=[greeter]) as engine:
        async with nbdurable.serve(engine, OPEN) as one, nbdurable.serve(engine, OPEN) as two:
            urls = {one.ingress_url, one.admin_url, two.ingress_url, two.admin_url}
            assert len(urls) == 4
            assert all(url.startswith("http://127.0.0.1:") for url in urls)
        port = free_port()
        options = ServeOptions(has_token=False, ingress_port=port)
        async with nbdurable.serve(engine, options) as serving:
            assert serving.ingress_url == f"http://127.0.0.1:{port}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.mark.parametrize("which", ["ingress_port", "admin_port"])
async def test_a_port_that_is_taken_is_named_and_the_other_let_go(which: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = free_port()
        named = {"ingress_port": other, "admin_port": other, which: port}
        async with DurableEngine(store=MemoryStore()) as engine:
            with pytest.raises(NbdurableError, match=f"cannot listen on 127.0.0.1:{port}"):
                nbdurable.serve(engine, ServeOptions(has_token=False, **named)).start()
        socket.create_server(("127.0.0.1", other)).close()


async def test_it_listens_on_loopback_alone():
    async with DurableEngine(store=MemoryStore()) as engine, nbdurable.serve(engine) as serving:
        hosts = {listening.getsockname()[0] for listening in serving._sockets}
    assert hosts == {"127.0.0.1"}


async def test_ipv6_is_served_if_it_is_named():
    if not socket.has_ipv6:
        return
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return
    options = ServeOptions(host="::1", has_token=False)
    engine = DurableEngine(store=MemoryStore(), services=[greeter])
    async with engine, nbdurable.serve(engine, options) as serving:
        assert serving.ingress_url.startswith("http://[::1]:")
        reply = await asyncio.to_thread(ask, serving.ingress_url, "GET", "/restate/health")
        assert reply.status == 200


# -- ending ---------------------------------------------------------------------------------------


async def test_whoever_waits_when_it_ends_is_told_and_their_invocation_goes_on():
    async with DurableEngine(store=MemoryStore(), services=[payment]) as engine:
        async with nbdurable.serve(engine, OPEN) as serving:
            url = serving.ingress_url
            calling = asyncio.create_task(
                asyncio.to_thread(ask, url, "POST", "/PaymentWorkflow/w/run", JSON, '{"amount": 1}')
            )
            (view,) = await until_invoked(engine)
        reply: Reply = await calling
        assert (reply.status, reply.json["source"]) == (503, "ingress")
        assert "goes on" in reply.message
        assert not (await engine.client.invocation(view.id)).is_done
        await engine.client.resolve_promise("PaymentWorkflow", "w", "approval", value=True)
        assert (await engine.client.attach(view.id))["approved"] is True
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(ask, url, "GET", "/restate/health")


async def until_invoked(engine: DurableEngine) -> list[InvocationView]:
    """Look after every commit, until there is one."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    end = await asyncio.wrap_future(
        engine.engine.ask(
            lambda: engine.engine.feed.subscribe(lambda _: loop.call_soon_threadsafe(changed.set))
        )
    )
    try:
        while not (views := await engine.client.invocations()):
            await changed.wait()
            changed.clear()
        return views
    finally:
        end()


async def test_ending_twice_and_ending_what_never_began_does_no_harm():
    async with DurableEngine(store=MemoryStore()) as engine:
        serving = nbdurable.serve(engine, OPEN)
        serving.close()
        serving.start()
        serving.close()
        serving.close()
        assert "closed" in repr(serving)


async def test_no_thread_is_left_behind():
    before = set(threading.enumerate())
    async with DurableEngine(store=MemoryStore()) as engine, nbdurable.serve(engine, OPEN):
        assert any(thread.name == "nbdurable-server" for thread in threading.enumerate())
    assert not [
        thread
        for thread in set(threading.enumerate()) - before
        if thread.name == "nbdurable-server"
    ]


async def test_an_engine_that_has_ended_is_said_and_not_explained():
    """The engine's own sentence, or that its process's log has it; no path, no trace."""
    engine = DurableEngine(store=MemoryStore(), services=[greeter])
    async with engine, nbdurable.serve(engine, OPEN) as serving:
        await asyncio.to_thread(engine.engine.close)
        reply = await asyncio.to_thread(
            ask, serving.ingress_url, "POST", "/Greeter/greet", JSON, '"x"'
        )
        assert reply.status == 503
        assert "closed" in reply.message
        admin = await asyncio.to_thread(ask, serving.admin_url, "GET", "/services")
        assert admin.status == 503


# -- codecs ---------------------------------------------------------------------------------------


class Reversing(JournalValueCodec):
    def encode(self, buf: bytes) -> bytes:
        return buf[::-1]

    async def decode(self, buf: bytes) -> bytes:
        return buf[::-1]


async def test_with_a_codec_the_bodies_are_the_senders_affair():
    """Whoever sends has encoded them, so they look like anything; results come back encoded."""
    engine = DurableEngine(store=MemoryStore(), services=[greeter], journal_value_codec=Reversing())
    async with engine, nbdurable.serve(engine, OPEN) as serving:
        reply = await asyncio.to_thread(
            ask, serving.ingress_url, "POST", "/Greeter/greet", JSON, b'"adaX"'[::-1]
        )
        assert reply.body == b'"hello adaX"'[::-1]


# -- what it costs --------------------------------------------------------------------------------


def test_the_server_is_loaded_when_it_is_used():
    """A notebook that serves nothing pays for nothing."""
    script = """
import sys, nbdurable
nbdurable.open, nbdurable.ServeOptions
print(sorted({"starlette", "uvicorn", "httptools"} & set(sys.modules)))
"""
    path = os.pathsep.join(sys.path)
    said = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": path},
    ).stdout
    assert said.strip() == "[]"
