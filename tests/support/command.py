"""The command line in tests: in this process, or `up` as a real one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner, Result

from nbdurable.cli.main import main
from nbdurable.server.address import ServedAt, served_at
from support.http import JSON, Reply, ask

# Long for a machine under load; only a test that fails waits for it.
END_S_MAX = 60

FLOWS = Path(__file__).with_name("flows.py")


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


def until_served(journal: Path) -> ServedAt:
    """Its owner listens a moment after it has opened it."""
    deadline = time.monotonic() + END_S_MAX
    while (served := served_at(journal)) is None:
        assert time.monotonic() < deadline, "it does not listen"
    return served


def start_apart(*words: str, stdin: int | None = None) -> subprocess.Popen[str]:
    """A command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "nbdurable", *words],
        stdin=stdin,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
