"""The process that runs the handlers takes more memory than there is: the journal is elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.running import until

import nbdurable
from nbdurable import Context, Service
from nbdurable.wiring import DurableEngine

HUNGRY = Path(__file__).with_name("hungry.py")
SIZE = 7
here = Service("Here")


@here.handler()
async def echo(ctx: Context, number: int) -> int:
    return number


class Hungry:
    """Mutable: the process of the handlers that lives now."""

    def __init__(self, folder: Path, how: str, times: int) -> None:
        self._words = [sys.executable, str(HUNGRY), str(folder), how, str(times)]
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            self._words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self.process.stdout is not None
        # Its run begins as soon as it has joined, so it may be gone before it has said that.
        assert self.process.stdout.readline() in ("joined\n", "")

    def ended(self) -> int:
        """How it has ended by itself."""
        assert self.process is not None
        code = self.process.wait(timeout=60)
        self.process.communicate()
        return code

    def end(self) -> int:
        assert self.process is not None
        self.process.communicate("", timeout=60)
        return self.process.returncode

    def steps(self) -> list[str]:
        return (self.folder / "side.txt").read_text().splitlines()


@pytest.fixture
def hungry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hungry]:
    how, times = request.param
    hungry = Hungry(tmp_path, how, times)
    yield hungry
    if hungry.process is not None and hungry.process.poll() is None:
        hungry.process.kill()
        hungry.process.communicate()


@pytest.mark.kill
@pytest.mark.parametrize("hungry", [("killed", 2)], indirect=True)
async def test_who_runs_out_of_memory_takes_nobody_along(hungry: Hungry):
    """Its run is lost, not failed; it waits for its code, and goes on after its last record."""
    async with nbdurable.open(hungry.folder / "journal", services=[here]) as owner:
        assert isinstance(owner.owned, DurableEngine)
        await asyncio.to_thread(hungry.start)
        sent = await owner.client.generic_send("There", "work", str(SIZE).encode())
        for _ in range(2):
            assert await asyncio.to_thread(hungry.ended) == -signal.SIGKILL
            view = await until(
                owner.owned, sent.invocation_id, lambda view, _: not view.is_code_loaded
            )
            assert (view.status, view.failure_count) == ("ready", 0)
            assert view.headline.startswith("waiting for its code: run the script of There")
            assert await owner.client.service_call(echo, 1) == 1
            await asyncio.to_thread(hungry.start)
        assert await owner.client.attach(sent.invocation_id) == SIZE
        assert await asyncio.to_thread(hungry.end) == 0
    assert hungry.steps() == ["prepare", "train", "train", "train"]


@pytest.mark.kill
@pytest.mark.parametrize("hungry", [("refused", 1)], indirect=True)
async def test_memory_that_python_does_not_get_is_a_failure_like_any_other(hungry: Hungry):
    """It is tried again, and said until then."""
    async with nbdurable.open(hungry.folder / "journal", services=[here]) as owner:
        await asyncio.to_thread(hungry.start)
        sent = await owner.client.generic_send("There", "work", str(SIZE).encode())
        view = await until(
            owner.owned, sent.invocation_id, lambda view, _: view.failure is not None
        )
        assert "MemoryError" in (view.failure or "")
        assert await owner.client.attach(sent.invocation_id) == SIZE
        assert await asyncio.to_thread(hungry.end) == 0
    assert hungry.steps() == ["prepare", "train", "train"]
