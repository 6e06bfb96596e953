"""The command line on a journal of its own; and `up`, which is a real process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result
from support.http import JSON, Reply, ask

from nbdurable.cli.main import main

# Long for a machine under load; only a test that fails waits for it.
END_S_MAX = 60

FLOWS = """
from datetime import timedelta
from nbdurable import Service, VirtualObject, Workflow, TerminalError

greeter, counter, payment = Service("Greeter"), VirtualObject("Counter"), Workflow("Payment")

@greeter.handler()
async def greet(ctx, name: str) -> str:
    return f"hello {name}"

@greeter.handler()
async def fail(ctx, message: str) -> None:
    raise TerminalError(message, 418)

@greeter.handler()
async def nap(ctx, days: int) -> str:
    await ctx.sleep(timedelta(days=days))
    return "rested"

@counter.handler()
async def add(ctx, n: int) -> int:
    total = (await ctx.get("n") or 0) + n
    ctx.set("n", total)
    return total

@payment.main()
async def run(ctx, amount: int) -> str:
    await ctx.run_typed("reserve", lambda: "hold-1")
    await ctx.promise("approved").value()
    return f"captured {amount}"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with `flows.py`, and the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBDURABLE_HOME", raising=False)
    (tmp_path / "flows.py").write_text(FLOWS)
    return tmp_path


def nbdurable(*words: str, typed: str | None = None) -> Result:
    """Run a command in this process; what it prints for programs and for people is kept apart."""
    return CliRunner().invoke(main, list(words), input=typed, prog_name="nbdurable")


class Up(NamedTuple):
    """A running `nbdurable up`, and what it said of itself."""

    process: subprocess.Popen[str]
    said: dict[str, Any]

    def post(self, path: str, body: str) -> Reply:
        token = Path(self.said["token_file"]).read_text() if self.said["token_file"] else ""
        headers = {**JSON, "authorization": f"Bearer {token}"}
        return ask(self.said["ingress"], "POST", path, headers, body)

    def end(self, number: int) -> tuple[int, str]:
        """Its exit code, and what it wrote to stderr."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=END_S_MAX)
        return self.process.returncode, err


@pytest.fixture
def start_up(folder: Path) -> Iterator[Callable[..., Up]]:
    """Start `nbdurable up --app flows.py` on free ports; killed at the end of the test."""
    running: list[subprocess.Popen[str]] = []

    def start(*words: str) -> Up:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "nbdurable", "up", "--json"),
                *("--app", "flows.py", "--ingress", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
                *words,
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        return Up(process, json.loads(line))

    yield start
    for process in running:
        process.kill()
        process.communicate()
