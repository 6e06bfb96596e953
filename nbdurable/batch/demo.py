"""Kill a report half-way and go on: `python -m nbdurable.batch.demo`, from a clone.

Runs `notebooks/report.ipynb` with papermill in `out/report`, kills papermill and its kernel with
SIGKILL in the middle of a cell, and gives the same command again. What it prints is read from the
journal between the two and after them; it exits with 1 if a restored cell ran a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import nbdurable
from nbdurable.client.views import EntryView

SOURCE = Path("notebooks/report.ipynb")
FOLDER = Path("out/report")
NOTEBOOK, OUTPUT, SUMMARY, LOG = "report.ipynb", "report-out.ipynb", "summary.json", "papermill.log"
# Each of the two slow cells then takes a few seconds.
TREES = 100
COMMAND = [
    *("papermill", NOTEBOOK, OUTPUT, "--engine", "nbdurable"),
    *("-p", "trees", str(TREES), "--no-progress-bar"),
]
# Of all cells; past it, the next one that takes a moment is the one that is killed.
KILL_SHARE = 0.6
KILL_AFTER_S = 1.0
LOOK_S = 0.05
START_S_MAX = 120


class DemoError(Exception):
    """The demo did not show what it is there to show."""


def main() -> int:
    if not SOURCE.exists():
        print(f"There is no {SOURCE} here: run this from a clone of nbdurable, in its top folder.")
        return 1
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    shutil.copy(SOURCE, FOLDER / NOTEBOOK)
    try:
        _show()
    except DemoError as error:
        print(f"\nFailed: {error}\n\n{_log_tail()}")
        return 1
    return 0


def _show() -> None:
    print(f"In {FOLDER}:  {' '.join(COMMAND)}\n")
    pid, kernel_pid = _run_and_kill()
    print(f"kill -9 {pid} {kernel_pid}: papermill and its kernel. The journal has:\n")
    before = asyncio.run(_entries())
    for entry in before:
        is_open = entry.ended_at_ms is None
        word, took = ("begun", "did not end") if is_open else ("finished", _took(entry))
        print(f"  {word:<12} {took:>11}   {entry.name}")

    print("\nThe same command again:\n")
    with _papermill() as process:
        if process.wait() != 0:
            raise DemoError(f"the second run exited with {process.returncode}")
    after = asyncio.run(_entries())
    executions = Counter(entry.name for entry in after)
    finished = {entry.name for entry in before if entry.ended_at_ms is not None}
    cells = [cell for cell in _output()["cells"] if "nbdurable" in cell["metadata"]]
    latest = {entry.name: entry for entry in after}
    again = []
    for (name, entry), cell in zip(sorted(latest.items(), key=_number), cells, strict=True):
        is_restored = cell["metadata"]["nbdurable"]["restored"]
        word = "not run" if is_restored else "run"
        if name in finished and not is_restored:
            word = "setup, again"
        print(f"  {word:<12} {'restored' if is_restored else _took(entry):>11}   {name}")
        if is_restored and executions[name] != 1:
            again.append(name)
    if again:
        raise DemoError(f"restored, and yet executed a second time: {', '.join(map(str, again))}")
    restored = sum(cell["metadata"]["nbdurable"]["restored"] for cell in cells)
    if not (FOLDER / SUMMARY).exists():
        raise DemoError(f"the report wrote no {SUMMARY}")
    if not restored:
        raise DemoError("no cell was restored")
    print(f"\nThe journal counts one execution for each of the {restored} restored cells.")
    print(f"Output notebook: {FOLDER / OUTPUT}")
    print(f"Summary:         {FOLDER / SUMMARY}")
    print(f"Journal:         {FOLDER / '.nbdurable'}")


def _papermill() -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if key != "NBDURABLE_HOME"}
    with (FOLDER / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *COMMAND], cwd=FOLDER, env=environment, stdout=log, stderr=log
        )


def _run_and_kill() -> tuple[int, int]:
    """Let more than half of the cells be journaled, and kill in the middle of the next."""
    with _papermill() as process:
        until = time.monotonic() + START_S_MAX
        while not _is_in_the_middle():
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                raise DemoError("the first run could not be killed half-way")
            time.sleep(LOOK_S)
        kernel_pid = int(_output()["metadata"]["nbdurable"]["kernel_pid"])
        for pid in (process.pid, kernel_pid):
            # The kernel looks after its parent, and may have gone by itself.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
    while _is_alive(kernel_pid):
        time.sleep(LOOK_S)
    return process.pid, kernel_pid


def _is_in_the_middle() -> bool:
    """Told by the output notebook, where a cell is completed once the journal has it."""
    if not (FOLDER / OUTPUT).exists():
        return False
    cells = [cell for cell in _output()["cells"] if cell["cell_type"] == "code"]
    status = [cell["metadata"]["papermill"]["status"] for cell in cells]
    if "running" not in status or status.count("completed") < KILL_SHARE * len(cells):
        return False
    written_at_s = (FOLDER / OUTPUT).stat().st_mtime
    return time.time() - written_at_s > KILL_AFTER_S


def _is_alive(pid: int) -> bool:
    """A killed orphan may stay for a moment, until init has heard of it."""
    with contextlib.suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return False


async def _entries() -> list[EntryView]:
    """The executions of cells, as the journal has them; nobody else has it open now."""
    async with nbdurable.open(FOLDER / ".nbdurable") as engine:
        (run,) = await engine.client.invocations()
        return [entry for entry in await engine.client.journal(run.id) if entry.kind == "Run"]


def _output() -> dict[str, Any]:
    content = json.loads((FOLDER / OUTPUT).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def _number(named: tuple[str | None, EntryView]) -> int:
    """`cell 4: import json` is 4."""
    return int((named[0] or "").split(":")[0].removeprefix("cell "))


def _took(entry: EntryView) -> str:
    assert entry.ended_at_ms is not None
    return f"{(entry.ended_at_ms - entry.started_at_ms) / 1000:.2f} s"


def _log_tail() -> str:
    log = FOLDER / LOG
    return "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:]) if log.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
