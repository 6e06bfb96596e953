"""Scripts without asyncio: the same engine, the same client, nothing to await."""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import nbdurable
from nbdurable import (
    Context,
    ContextMisuseError,
    DefinitionError,
    EngineClosedError,
    InvocationNotReadyError,
    Service,
    SyncDurableEngine,
    TerminalError,
    Workflow,
)
from nbdurable.client.local import LocalClient
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


def test_it_has_every_method_of_the_asynchronous_client(engine: SyncDurableEngine):
    """It is derived, so that none can be forgotten and none can differ."""
    public = {name for name in dir(LocalClient) if not name.startswith("_")}
    assert set(dir(engine.client)) == public
    for name in public - {"scope", "without_codec"}:
        ours, theirs = getattr(engine.client, name), getattr(LocalClient, name)
        assert not inspect.iscoroutinefunction(ours)
        expected = list(inspect.signature(theirs).parameters)[1:]
        assert list(inspect.signature(ours).parameters) == expected
    with pytest.raises(AttributeError):
        engine.client.greet  # noqa: B018 - asking is the point.


def test_a_scope_of_it_is_synchronous_too(engine: SyncDurableEngine):
    scoped = engine.client.scope("tenant")
    assert scoped.service_call(greet, "ada", limit_key="a") == "hello ada"
    assert engine.client.without_codec().generic_call("Greeter", "greet", b'"x"') == b'"hello x"'
    assert "workflow_send" in dir(scoped)


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
