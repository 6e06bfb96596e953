"""Scripts without asyncio: the same engine, the same client, nothing to await."""

from __future__ import annotations

import inspect
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import nbdurable
from nbdurable import (
    ConnectedClient,
    Context,
    ContextMisuseError,
    DefinitionError,
    EngineClosedError,
    InvocationNotReadyError,
    Service,
    SyncClient,
    SyncConnectedClient,
    SyncDurableEngine,
    TerminalError,
    Workflow,
)
from nbdurable.client.base import RestateScopedClient
from nbdurable.client.engine import EngineClient
from nbdurable.client.waited import SyncScopedClient
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine

greeter, flow = Service("Greeter"), Workflow("Flow")


@greeter.handler()
def greet(ctx: Context, name: str) -> str:
    if not name:
        raise TerminalError("nobody to greet", 418)
    return ctx.run_typed("compose", lambda: f"hello {name}").result()


@greeter.handler()
async def greet_all(ctx: Context, names: list[str]) -> list[str]:
    return [await ctx.service_call(greet, name) for name in names]


@flow.main()
async def run(ctx: Any, request: str) -> str:
    return request + await ctx.promise("answer", type_hint=str)


@pytest.fixture
def engine() -> Iterator[SyncDurableEngine]:
    opened = DurableEngine(services=[greeter, flow], store=MemoryStore())
    with SyncDurableEngine(opened) as engine:
        yield engine


def test_calls_return_values(engine: SyncDurableEngine):
    """Both kinds of handlers, without one `await`."""
    assert engine.client.service_call(greet, "ada") == "hello ada"
    assert engine.client.service_call(greet_all, ["ada", "bob"]) == ["hello ada", "hello bob"]


def test_a_workflow_is_sent_answered_and_awaited(engine: SyncDurableEngine):
    sent = engine.client.workflow_send(run, "k", "it is ")
    with pytest.raises(InvocationNotReadyError):
        engine.client.workflow_output(run, "k")
    engine.client.resolve_promise("Flow", "k", "answer", "done")
    assert engine.client.attach(sent.invocation_id) == "it is done"
    assert engine.client.workflow_output(run, "k") == "it is done"
    assert [view.service for view in engine.client.invocations()] == ["Flow"]


def test_failures_are_raised_as_they_are_by_the_asynchronous_client(engine: SyncDurableEngine):
    with pytest.raises(TerminalError, match="nobody to greet") as raised:
        engine.client.service_call(greet, "")
    assert raised.value.status_code == 418


PAIRS = [
    (SyncClient, EngineClient),
    (SyncConnectedClient, ConnectedClient),
    (SyncScopedClient, RestateScopedClient),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=lambda each: each.__name__)
def test_it_has_every_method_of_the_asynchronous_client(ours: type, theirs: type):
    """All are derived, so that none can differ; here none is forgotten."""
    # What calls are made of inside.
    inside = {"call_handler", "send_handler"}
    names = {name for name in dir(theirs) if not name.startswith("_")} - inside
    assert {name for name in dir(ours) if not name.startswith("_")} == names
    for name in names:
        assert not inspect.iscoroutinefunction(getattr(ours, name))
        expected = inspect.signature(getattr(theirs, name)).parameters
        assert inspect.signature(getattr(ours, name)).parameters == expected


TYPED = """
from typing import Any

import nbdurable

async def greet(ctx: Any, name: str) -> int: ...

def ask() -> None:
    with nbdurable.connect("http://localhost:8080") as connected:
        reveal_type(connected.service_call(greet, "Ada"))
        reveal_type(connected.scope("a").service_call(greet, "Ada"))
        reveal_type(connected.service_send(greet, arg="Ada"))
        connected.no_such_method(1)
        connected.service_call(greet)
        connected.invocations()
    with nbdurable.open_sync() as engine:
        reveal_type(engine.client.service_call(greet, "Ada"))
        engine.client.no_such_method(1)
        engine.client.attach(5)

async def ask_async() -> None:
    async with nbdurable.connect("http://localhost:8080") as connected:
        reveal_type(await connected.service_call(greet, "Ada"))
        connected.no_such_method(1)
"""


@pytest.mark.slow
def test_a_type_checker_knows_every_method(tmp_path: Path):
    """A misspelt name, a forgotten argument and a wrong one are found before they run."""
    script = tmp_path / "script.py"
    script.write_text(TYPED)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--disable-error-code=empty-body", script],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r'Revealed type is "([^"]*)"|\[([a-z-]+)\]$', checked.stdout, re.MULTILINE)
    assert [revealed or code for revealed, code in found] == [
        "int",
        "int",
        "nbdurable.client.base.RestateClientSendHandle",
        "attr-defined",
        "call-arg",
        "attr-defined",
        "int",
        "attr-defined",
        "arg-type",
        "int",
        "attr-defined",
    ], checked.stdout + checked.stderr


def test_a_scope_of_it_is_synchronous_too(engine: SyncDurableEngine):
    scoped = engine.client.scope("tenant")
    assert scoped.service_call(greet, "ada", limit_key="a") == "hello ada"
    assert engine.client.generic_call("Greeter", "greet", b'"x"') == b'"hello x"'


async def test_on_an_event_loop_it_says_what_to_use_instead():
    """Blocking there would stop the loop, and a call to a handler might wait for itself."""
    opened = DurableEngine(services=[greeter], store=MemoryStore())
    async with opened:
        client = SyncDurableEngine(opened).client
        with pytest.raises(ContextMisuseError, match=r"write: await client\.service_call"):
            client.service_call(greet, "ada")


def test_it_opens_a_journal_on_disk_and_lets_go_of_it(tmp_path: Path):
    with nbdurable.open_sync(tmp_path / "j", services=[greeter]) as engine:
        assert engine.client.service_call(greet, "ada") == "hello ada"
        with nbdurable.open_sync(tmp_path / "j", services=[greeter]) as joined:
            assert joined.client.service_call(greet, "bob") == "hello bob"
        assert repr(engine).startswith("<SyncSharedEngine ")
    with pytest.raises(EngineClosedError):
        engine.client  # noqa: B018 - asking is the point.
    with nbdurable.open_sync(tmp_path / "j") as engine:
        assert [view.status for view in engine.client.invocations()] == ["completed"] * 2


def test_a_service_that_cannot_be_served_leaves_nothing_open(tmp_path: Path):
    with pytest.raises(DefinitionError), nbdurable.open_sync(tmp_path, services=[Service("Empty")]):
        pass
    with nbdurable.open_sync(tmp_path, services=[greeter]) as engine:
        assert engine.client.service_call(greet, "ada") == "hello ada"


def test_ctrl_c_ends_the_waiting_and_not_the_run(engine: SyncDurableEngine):
    """A script that waits for a person must be interruptible; the run goes on."""
    sent = engine.client.workflow_send(run, "k", "it is ")
    main = threading.main_thread().ident
    assert main is not None
    pressed = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))

    def interrupted() -> None:
        pressed.start()
        engine.client.attach(sent.invocation_id)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    engine.client.resolve_promise("Flow", "k", "answer", "done")
    assert engine.client.attach(sent.invocation_id) == "it is done"


def test_sends_may_be_delayed(engine: SyncDurableEngine):
    sent = engine.client.service_send(greet, "ada", send_delay=timedelta(milliseconds=1))
    assert engine.client.attach(sent.invocation_id) == "hello ada"
