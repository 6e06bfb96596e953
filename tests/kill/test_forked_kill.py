"""A forked child has its parent's sockets; whoever is at their other end must not be misled by it.

Children of `multiprocessing` outlive a parent that is killed. If they kept its sockets open, those
who had joined it would wait for an owner that is gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import nbdurable
from nbdurable import Context, Service

pytestmark = [pytest.mark.kill, pytest.mark.slow]

# It forks when it is told to, says who its child is, and waits.
PARENT = """
import asyncio, os, sys, warnings
import nbdurable
from nbdurable import Service

warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside threads.
there = Service("There")

@there.handler()
async def hang(ctx) -> None:
    await asyncio.Event().wait()

async def main():
    async with nbdurable.open(sys.argv[1], services=[there]) as engine:
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        child = os.fork()
        if child == 0:
            try:
                engine.client.wait(engine.client.services())
            except nbdurable.EngineClosedError:
                print(f"refused {os.getpid()}", flush=True)
            import time
            time.sleep(600)
        await asyncio.Event().wait()

asyncio.run(main())
"""

here = Service("Here")


@here.handler()
async def echo(ctx: Context, value: str) -> str:
    return value


class Parent:
    def __init__(self, journal: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PARENT, journal],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.said() == "open"

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def fork(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        refused, pid = self.said().split(" ")
        assert refused == "refused", "the child uses the engine of its parent"
        return int(pid)


@contextmanager
def forking(journal: Path) -> Iterator[Parent]:
    parent = Parent(journal)
    try:
        yield parent
    finally:
        parent.process.kill()
        parent.process.wait()
        for pipe in (parent.process.stdin, parent.process.stdout):
            assert pipe is not None
            pipe.close()


async def test_a_child_of_the_owner_keeps_nobody_from_taking_over(tmp_path: Path) -> None:
    with forking(tmp_path / "journal") as parent:
        async with nbdurable.open(tmp_path / "journal", services=[here]) as engine:
            assert not engine.is_owner
            child = parent.fork()
            try:
                parent.process.kill()
                assert await engine.client.service_call(echo, "still here") == "still here"
                assert engine.is_owner
            finally:
                os.kill(child, signal.SIGKILL)


async def test_a_child_of_one_that_joined_does_not_keep_its_attempts_running(
    tmp_path: Path,
) -> None:
    async with nbdurable.open(tmp_path / "journal", services=[here]) as engine:
        with forking(tmp_path / "journal") as parent:
            client = engine.client
            sent = await client.generic_send("There", "hang", b"")
            assert (await client.invocation(sent.invocation_id)).status == "running"
            child = parent.fork()
            try:
                parent.process.kill()
                while (await client.invocation(sent.invocation_id)).status != "ready":
                    pass
            finally:
                os.kill(child, signal.SIGKILL)
