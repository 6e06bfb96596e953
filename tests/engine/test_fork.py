"""A forked child shares the parent's descriptors and none of its threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import asyncio, os, sys, warnings
import nbdurable
from nbdurable import Service

warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside threads.
service = Service("S")

@service.handler()
async def echo(ctx, value: str) -> str:
    return value

async def main():
    async with nbdurable.open(sys.argv[1], services=[service]) as engine:
        pid = os.fork()
        if pid == 0:
            try:
                engine.engine.ask(lambda: None)
            except nbdurable.EngineClosedError as error:
                os.write(1, f"child: {error}\\n".encode())
            os._exit(0)
        os.waitpid(pid, 0)
        print("parent:", await engine.client.service_call(echo, "still here"), flush=True)

asyncio.run(main())
"""


def test_a_forked_child_is_told_and_the_parent_goes_on(tmp_path: Path) -> None:
    """A child that waited for threads it does not have would hang; one that wrote would corrupt."""
    shown = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "journal"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert shown.stdout.splitlines() == [
        "child: this process was forked from the one that owns the journal; use the engine there",
        "parent: still here",
    ]
