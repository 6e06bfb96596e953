"""Several engines of one project: one owns the journal, the others have joined it, and take over.

All are in this process, between which there is a socket all the same; real processes are killed in
`tests/kill`.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import nbdurable
from nbdurable import (
    Context,
    EngineOptions,
    InvocationRetryPolicy,
    JournalGoneError,
    JournalHeldError,
    NbdurableError,
    ObjectContext,
    PickleSerde,
    Service,
    VirtualObject,
    Workflow,
    WorkflowContext,
)
from nbdurable.sharing import joined as joining
from nbdurable.sharing.engine import SharedEngine
from nbdurable.wiring import DurableEngine


def greeter(name: str) -> tuple[Service, Any]:
    service = Service(name)

    @service.handler()
    async def greet(ctx: Context, who: str) -> str:
        return f"{name} greets {who}"

    return service, greet


flow, shelf = Workflow("Flow"), VirtualObject("Shelf")


@flow.main()
async def run(ctx: WorkflowContext, order: int) -> list[Any]:
    doubled = await ctx.run_typed("double", lambda: order * 2)
    return [doubled, await ctx.promise("approved").value()]


@shelf.handler()
async def keep(ctx: ObjectContext, n: int) -> None:
    ctx.set("value", {"n": n}, serde=PickleSerde())


@shelf.handler()
async def give(ctx: ObjectContext) -> int:
    kept = await ctx.get("value", serde=PickleSerde())
    return kept["n"] if kept else 0


@pytest.fixture(autouse=True)
def no_notebooks_are_sent_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has imported their room offers notebook runs; other tests have."""
    monkeypatch.delitem(sys.modules, "nbdurable.runs.target", raising=False)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


async def test_each_runs_its_own_handlers_and_all_can_call_them(journal: Path):
    one, greet_one = greeter("One")
    two, greet_two = greeter("Two")
    async with (
        nbdurable.open(journal, services=[one]) as first,
        nbdurable.open(journal, services=[two]) as second,
    ):
        assert (first.is_owner, second.is_owner) == (True, False)
        for engine in (first, second):
            assert await engine.client.service_call(greet_one, "ada") == "One greets ada"
            assert await engine.client.service_call(greet_two, "ada") == "Two greets ada"
        deployments = await first.client.operator().deployments()
        links = {deployment.manifest.name: deployment.link for deployment in deployments}
    assert str(links["One"]).startswith("local-")
    assert str(links["Two"]).startswith("attached-")


async def test_what_waits_at_the_owner_goes_on_at_whoever_takes_over(journal: Path):
    """A wait, a live view and a promise: the client stays the same, the engine is another one."""
    seen: list[str] = []
    async with nbdurable.open(journal, services=[]) as first:
        second = nbdurable.open(journal, services=[flow])
        await second.__aenter__()
        client = second.client
        sent = await client.workflow_send(run, "order", 21)
        waiting = asyncio.create_task(client.attach(sent.invocation_id))
        ended = threading.Event()

        def look(view: Any, entries: Any) -> None:
            seen.append(view.status)
            if view.is_done:
                ended.set()

        end = client.watch(sent.invocation_id, look)
        while not (await first.client.invocation(sent.invocation_id)).open_promises:
            pass
    await client.resolve_promise("Flow", "order", "approved", "yes")
    assert await waiting == [42, "yes"]
    assert second.is_owner
    assert await asyncio.to_thread(ended.wait, 10)
    end()
    assert (await client.invocation(sent.invocation_id)).revision == 1
    assert seen[-1] == "completed"
    await second.__aexit__(None, None, None)


async def test_those_left_join_whoever_took_over(journal: Path):
    two, greet_two = greeter("Two")
    three, greet_three = greeter("Three")
    async with nbdurable.open(journal) as first:
        second = nbdurable.open(journal, services=[two])
        third = nbdurable.open(journal, services=[three])
        for engine in (second, third):
            await engine.__aenter__()
        assert first.is_owner
    for engine in (second, third):
        assert await engine.client.service_call(greet_two, "ada") == "Two greets ada"
        assert await engine.client.service_call(greet_three, "ada") == "Three greets ada"
    assert sorted([second.is_owner, third.is_owner]) == [False, True]
    for engine in (second, third):
        await engine.__aexit__(None, None, None)


async def test_pickles_of_the_journal_are_read_wherever_its_handlers_run(journal: Path):
    """They are signed with the journal's key, which every process of the project has."""
    async with nbdurable.open(journal, services=[shelf]) as first:
        await first.client.object_call(keep, "k", 7)
        async with nbdurable.open(journal, services=[shelf]) as second:
            deployments = await second.client.operator().deployments()
            assert str(deployments[0].link).startswith("attached-"), "it would run at the owner"
            assert await second.client.object_call(give, "k", None) == 7


async def test_concurrency_of_one_that_joins_is_what_it_takes_at_once(journal: Path):
    async with nbdurable.open(journal) as first:
        options = EngineOptions(concurrency=1)
        async with nbdurable.open(journal, services=[flow], options=options) as second:
            sent = [await second.client.workflow_send(run, key, 1) for key in "abc"]
            for key in "abc":
                await second.client.resolve_promise("Flow", key, "approved", key)
            for one, key in zip(sent, "abc", strict=True):
                assert await first.client.attach(one.invocation_id) == [2, key]
            assert first.engine.machine.state.occupied == {}
            assert list(first.engine.machine.state.slots.values()) == [1]


async def test_failures_are_said_where_the_handler_runs(
    journal: Path, caplog: pytest.LogCaptureFixture
):
    """The engine may be in a notebook's kernel, whose log nobody reads who has started a script."""
    service = Service("S", invocation_retry_policy=InvocationRetryPolicy(max_attempts=2))

    @service.handler()
    async def fail(ctx: Context) -> None:
        raise ValueError("a bug")

    kernel = SharedEngine(journal, logs_failures=False)
    async with kernel, nbdurable.open(journal, services=[service]) as script:
        sent = await script.client.service_send(fail, None)
        while (await script.client.invocation(sent.invocation_id)).status != "paused":
            pass
    (said,) = [record for record in caplog.records if record.name == "nbdurable.failures"]
    assert said.getMessage().startswith("S/fail failed and is tried again as its retry policy says")
    assert "ValueError: a bug" in said.getMessage()


async def test_what_only_the_owner_can_do_says_where_it_is(journal: Path):
    async with nbdurable.open(journal), nbdurable.open(journal) as second:
        with pytest.raises(NbdurableError, match="in another process, which this one has joined"):
            nbdurable.serve(second)


async def test_an_owner_that_does_not_listen_is_named(
    journal: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whoever holds the journal for its own use, such as a command that is under way."""
    monkeypatch.setattr(joining, "JOIN_S_MAX", 0.1)
    async with DurableEngine(journal):
        with pytest.raises(JournalHeldError, match="is already open in this process"):
            await nbdurable.open(journal).__aenter__()


async def test_a_journal_that_is_deleted_is_not_begun_anew_by_those_who_joined(journal: Path):
    """The folder may only have been moved away; a new one would be in its way."""
    async with nbdurable.open(journal):
        second = nbdurable.open(journal)
        await second.__aenter__()
        shutil.rmtree(journal)
    with pytest.raises(JournalGoneError, match="deleted or moved away"):
        await second.client.services()
    assert not await asyncio.to_thread(journal.exists)
    await second.__aexit__(None, None, None)


UNCLOSED = """
import sys, nbdurable
engine = nbdurable.open_sync(sys.argv[1]).__enter__()
print("owner" if engine.opened.is_owner else "joined", engine.client.services())
"""


@pytest.mark.parametrize("how", ["owner", "joined"])
async def test_a_process_that_closes_nothing_ends_without_a_word(journal: Path, how: str):
    """As scripts and kernels do; what is left to itself must not complain, nor hang."""
    if how == "joined":
        async with nbdurable.open(journal):
            ended = await asyncio.to_thread(ended_script, journal)
    else:
        ended = await asyncio.to_thread(ended_script, journal)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{how} []\n", "")


def ended_script(journal: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", UNCLOSED, journal]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
