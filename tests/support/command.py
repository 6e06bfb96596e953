"""The command line in tests: in this process, or `up` as a real one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner, Result

from nbdurable.cli.main import main
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
