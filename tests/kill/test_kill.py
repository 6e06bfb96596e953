"""kill -9 of a real process at random moments of a real workflow on the real store."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

VICTIM = Path(__file__).with_name("victim.py")
KILL_COUNT = 50
SEED = 20261122
STEP_COUNT = 20
RESULT = 1000 + sum(i * i for i in range(STEP_COUNT))
# A process that neither ends nor says anything for this long hangs, which is a failure.
SILENCE_S_MAX = 60


class Side:
    """The side file, read as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def lines(self) -> list[str]:
        return self._path.read_text().splitlines()

    def wait_for(self, count: int, process: subprocess.Popen[bytes]) -> None:
        """Return when there are so many lines, or the process has ended."""
        deadline = time.monotonic() + SILENCE_S_MAX
        while len(self.lines()) < count and process.poll() is None:
            assert time.monotonic() < deadline, "the process is silent"


def where(lines: list[str]) -> str:
    """What the store was doing when the last line was written."""
    store = [line.split(" ", 1)[1] for line in lines]
    marks = [mark for mark in store if mark.startswith(("commit", "absorb", "open"))]
    return marks[-1] if marks else "opening"


@pytest.mark.kill
@pytest.mark.slow
def test_no_step_is_lost_or_repeated_over_fifty_kills(tmp_path: Path) -> None:
    """The promise of the whole product: what was acknowledged is there, and never runs again."""
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    side = Side(tmp_path / "side.txt")
    found: list[str] = []
    finished = 0
    while len(found) < KILL_COUNT:
        before = len(side.lines())
        process = subprocess.Popen([sys.executable, VICTIM, tmp_path, f"order-{finished}"])
        side.wait_for(before + chance.randrange(1, 90), process)
        if process.poll() is None:
            process.kill()
            process.wait()
            found.append(where(side.lines()[before:]))
        else:
            assert process.returncode == 0, f"exit {process.returncode}"
            finished += 1
    process = subprocess.run([sys.executable, VICTIM, tmp_path, f"order-{finished}"], check=True)

    executions = check_history(side.lines())

    print(f"kills: {sorted(found)}")
    assert any(place == "commit" for place in found), "no kill fell inside a commit"
    assert any(place.startswith("absorb") and place != "absorbed" for place in found), (
        "no kill fell inside an absorb"
    )
    assert executions >= STEP_COUNT


def check_history(lines: list[str]) -> int:
    """A step whose result the handler had never runs again. Returns how many steps ran."""
    acknowledged: set[tuple[str, str]] = set()
    executions = 0
    for line in lines:
        key, what, *rest = line.split(" ")
        if what == "X":
            executions += 1
            assert (key, rest[0]) not in acknowledged, f"{line}: it was finished before"
        elif what == "R":
            acknowledged.add((key, rest[0]))
        elif what == "result":
            assert rest == [str(RESULT), "completed"], line
    keys = {line.split(" ", 1)[0] for line in lines}
    assert acknowledged == {(key, str(i)) for key in keys for i in range(STEP_COUNT)}
    return executions
