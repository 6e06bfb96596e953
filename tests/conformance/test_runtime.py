"""KillRuntime, StopRuntime and SleepWithFailures of the suite: real processes on a real journal."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.driver import SERVICES, Runtime, eventually, fresh
from conformance.programs import Expected, counters, counts_of, generated
from nbdurable import DurableEngine

PROCESS = Path(__file__).with_name("process.py")
SLEEP_MS = 700
KILL_COUNT = 8
SEED = 20261125

pytestmark = pytest.mark.kill


class Process:
    """The engine of a journal, in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, PROCESS, folder, *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self.line() == "ready"

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def end(self, by: signal.Signals) -> int:
        self._process.send_signal(by)
        code = self._process.wait(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


@contextmanager
def running(folder: Path, *arguments: str, end: signal.Signals) -> Iterator[Process]:
    process = Process(folder, *arguments)
    try:
        yield process
    finally:
        code = process.end(end)
    assert code == (-signal.SIGKILL if end is signal.SIGKILL else 0)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
async def test_what_was_acknowledged_outlives_the_process(tmp_path: Path, end: signal.Signals):
    """KillRuntime and StopRuntime.startAndKill…RetainsTheState."""
    journal, key = tmp_path / "journal", fresh()
    with running(journal, "call", f"Counter/{key}/add", "1", end=end) as process:
        assert json.loads(process.line()) == {"oldValue": 0, "newValue": 1}
    async with DurableEngine(journal, SERVICES) as engine:
        runtime = Runtime(engine)
        assert await runtime.call(f"Counter/{key}/get") == 1
        assert await runtime.call(f"Counter/{key}/add", 1) == {"oldValue": 1, "newValue": 2}


async def test_a_sleep_outlives_kill_9_and_is_neither_shorter_nor_begun_anew(tmp_path: Path):
    """SleepWithFailures.sleepAndKillServiceEndpoint."""
    journal = tmp_path / "journal"
    sleep = ["send", "TestUtilsService/sleepConcurrently", f"[{SLEEP_MS}]"]
    with running(journal, *sleep, end=signal.SIGKILL) as process:
        invocation_id = process.line()
    async with DurableEngine(journal, SERVICES) as engine:
        await engine.client.attach(invocation_id)
        view = await engine.client.invocation(invocation_id)
        # A sleep begun anew would take what the second process needed to open besides.
        entries = await engine.client.journal(invocation_id)
        due = [json.loads(e.value)["wake_up_at_ms"] for e in entries if e.kind == "Sleep"]
        assert len(due) == 1
        assert view.completed_at_ms >= due[0] >= view.created_at_ms + SLEEP_MS
        assert due[0] <= entries[1].started_at_ms + SLEEP_MS


@pytest.mark.slow
def test_programs_count_right_whatever_is_killed(tmp_path: Path):
    """The interpreters of the suite, over three layers of objects, with kill -9 in between."""
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    journal, expected = tmp_path / "journal", Expected()
    for _ in range(KILL_COUNT):
        key, program = str(chance.randrange(3)), generated(chance)
        expected += counts_of(program, key)
        begin = ["send", f"ObjectInterpreterL0/{key}/interpret", json.dumps(program)]
        with running(journal, *begin, end=signal.SIGKILL) as process:
            # Acknowledged: from here on it must happen, and happen once.
            assert process.line().startswith("inv_")

    async def check() -> None:
        async with DurableEngine(journal, SERVICES) as engine:
            runtime = Runtime(engine)
            await eventually(runtime.unfinished, [])
            assert await counters(runtime) == +expected

    asyncio.run(check())
