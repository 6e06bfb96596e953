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
