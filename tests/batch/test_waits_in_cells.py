"""What a suspended run is while nobody answers: rows, and nothing else. Without kernels.

The kernel's part is played by `Cell`, which asks what a cell asks and ends when it is answered.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import tracemalloc
from pathlib import Path

from support.joined import JoinedEngine

import nbdurable
from nbdurable import Workflow
from nbdurable.batch.inner import InnerKey, InnerSteps
from nbdurable.invoker.context import WorkflowInvoked

RUN_COUNT = 100
# What a wait for somebody takes in the memory of whoever owns the journal: 3.7 kB were measured
# where its code stays, most of it the engine's for any invocation (DECISIONS 0139).
RUN_BYTES_MAX = 5_000
# And where its process has ended, as notebook runs do: 1.6 kB were measured (DECISIONS 0144).
LEFT_BYTES_MAX = 2_048


class Cell:
    """One request of a cell that waits for an answer; the cell ends with it."""

    def __init__(self, **ask: object) -> None:
        self.ask = {"name": "publish", "question": None, **ask}
        self.payload = b""
        self.said: dict[str, object] | None = None
        self.ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def answer(self, payload: bytes = b"", **said: object) -> None:
        self.said = said
        if not said:
            self.ended.set_result(payload)


def waiting_workflow(suspended: list[str]) -> Workflow:
    """Each of its runs is a cell that waits for the promise `publish`."""
    flow = Workflow("Waits")

    @flow.main()
    async def run(ctx, _request: None) -> str:
        assert isinstance(ctx, WorkflowInvoked)
        cell = Cell(ask="promise")
        inner = InnerSteps(ctx, ctx.recorded_steps(), lambda take: take(cell), suspended.append)
        await inner.serve(0, cell.ended, is_volatile=False)
        return cell.ended.result().decode()

    return flow


async def until_suspended(client, target: str) -> None:
    """Told of each change of this run."""
    run = await client.find(target)
    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    stop = client.watch(run.id, lambda *_: loop.call_soon_threadsafe(changed.set))
    while (await client.invocation(run.id)).status != "suspended":
        await changed.wait()
        changed.clear()
    stop()


async def test_a_hundred_suspended_runs_take_no_thread_and_little_memory(tmp_path):
    """An approval may take a year, of a hundred reports at once; each goes on when it is given."""
    suspended: list[str] = []
    numbers = range(10 + RUN_COUNT)
    async with nbdurable.open(tmp_path / ".nbdurable") as engine:
        client = engine.client
        await client.register(waiting_workflow(suspended), keyed=True, digest="waits/1")

        async def begin(first: int, last: int) -> None:
            for number in range(first, last):
                await client.generic_send("Waits", "run", b"null", key=f"run-{number}")
            for number in range(first, last):
                await until_suspended(client, f"Waits/run-{number}/run")
            gc.collect()

        await begin(0, 10)
        threads = threading.active_count()
        tracemalloc.start()
        await begin(10, 10)
        before, _ = tracemalloc.get_traced_memory()
        await begin(10, 10 + RUN_COUNT)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert threading.active_count() == threads
        assert (after - before) / RUN_COUNT < RUN_BYTES_MAX
        assert suspended == ["somebody answers 'publish'"] * len(numbers)
        for number in numbers:
            await client.resolve_promise("Waits", f"run-{number}", "publish", number)
        answers = [await client.workflow_attach("Waits", f"run-{number}") for number in numbers]
    assert answers == [str(number) for number in numbers]


async def test_a_suspended_run_whose_process_has_ended_takes_two_kib_at_most(tmp_path):
    """Of its owner: of the run's own process nothing is left."""
    script = Path(__file__).with_name("suspending.py")
    journal = tmp_path / ".nbdurable"

    async def live(first: int, last: int) -> None:
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = await asyncio.create_subprocess_exec(
            sys.executable, script, journal, str(first), str(last), env={**os.environ, **path}
        )
        assert await process.wait() == 0
        run = await owner.find(f"Waits/run-{first}/run")
        while (await owner.invocation(run.id)).is_code_loaded:  # noqa: ASYNC110 - no event tells it.
            await asyncio.sleep(0)
        gc.collect()

    async with nbdurable.open(journal) as engine:
        owner = engine.client
        tracemalloc.start()
        await live(0, 10)
        before, _ = tracemalloc.get_traced_memory()
        await live(10, 10 + RUN_COUNT)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        runs = [run.status for run in await owner.invocations()]
    assert runs == ["suspended"] * (10 + RUN_COUNT)
    assert (after - before) / RUN_COUNT < LEFT_BYTES_MAX


async def test_of_a_suspended_run_whose_process_has_ended_no_journal_is_held():
    """It is read again when its next process is there, which takes a thousand times as long."""
    suspended: list[str] = []
    async with JoinedEngine() as engine:
        await engine.client.register(waiting_workflow(suspended), keyed=True, digest="waits/1")
        await engine.client.generic_send("Waits", "run", b"null", key="k")
        await until_suspended(engine.client, "Waits/k/run")
        owner = engine.owner.client
        run = await owner.find("Waits/k/run")
        assert run.id in engine.engine.vault._journals
        engine.joined.close()
        while (await owner.invocation(run.id)).is_code_loaded:  # noqa: ASYNC110 - no event tells it.
            await asyncio.sleep(0)
        assert run.id not in engine.engine.vault._journals
        await owner.resolve_promise("Waits", "k", "publish", 7)
        await owner.register(waiting_workflow(suspended), keyed=True, digest="waits/1")
        assert await owner.workflow_attach("Waits", "k") == "7"


def test_the_key_of_a_step_is_read_as_it_was_written():
    """Names are the user's: with slashes, or empty."""
    for name in ("charge", "a/b/c", ""):
        key = InnerKey(3, "run", "00ff", 2, 1, name)
        assert InnerKey.parse(str(key)) == key


class Time(int):
    """Counts how often it was compared."""

    compared = 0

    def __lt__(self, other: int) -> bool:
        Time.compared += 1
        return int(self) < int(other)

    def __gt__(self, other: int) -> bool:
        Time.compared += 1
        return int(self) > int(other)


class Recording:
    """What a handler's ctx is to `InnerSteps`, where nothing has to be durable."""

    def __init__(self) -> None:
        self.attempt = self
        self.at_ms = 0

    def now_ms(self) -> Time:
        self.at_ms += 1_000
        return Time(self.at_ms)

    async def run_keyed(self, _key, _name, call, _options) -> bytes:
        return await call()


async def test_an_item_of_a_map_is_not_held_against_all_before_it():
    """Of 10,000 items at a rate, each was sorted again with those that had begun."""
    items = 500
    inner = InnerSteps(Recording(), [], lambda _take: None, print)
    ask = {"name": "fetch", "limit": 2, "per_ms": 1_500}
    Time.compared = 0
    waits = [await inner._turn(ask, 0) for _ in range(items)]
    # Two within 1.5 s, at one question a second: never too early.
    assert waits == [0] * items
    assert Time.compared < items * 20
    assert await inner._turn({**ask, "per_ms": 5_000}, 0) == 3_000
