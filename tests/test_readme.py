"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.running import durable

README = Path(__file__).parent.parent / "README.md"


def python_blocks(after: str) -> list[str]:
    """The Python blocks of one section, in order."""
    section = README.read_text().split(f"\n## {after}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def test_the_script_runs_as_it_stands(tmp_path: Path) -> None:
    """It is the first thing that somebody without a notebook copies."""
    script, _ = python_blocks("In a script")
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert (shown.stdout, shown.stderr) == ("charged 100\n", "")
    assert (tmp_path / ".nbdurable").is_dir()


async def test_the_handler_of_steps_runs_as_it_stands() -> None:
    _, block = python_blocks("In a script")
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 - it is our own README.
    assert names["price"]("tea") == 9.99
    async with durable(names["shop"]) as engine:
        client = engine.client
        sent = await client.service_send(names["cheapest"], ["tea", "cake"])
        assert await client.attach(sent.invocation_id) == 9.99
        journal = await client.journal(sent.invocation_id)
    assert [entry.name for entry in journal if entry.kind == "Run"] == ["price", "price"]
