"""kill -9 of the owner, of those who have joined it, and of all of them, with handlers in each."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from nbdurable.store.lock import is_held

MEMBER = Path(__file__).with_name("member.py")
NAMES = ("a", "b", "c")
ORDERS = 12
STEP_COUNT = 10
RESULT = 1000 + sum(i * i for i in range(STEP_COUNT))
SEED = 20261126
# A project in which nothing happens for this long hangs, which is a failure.
SILENCE_S_MAX = 60


class Project:
    """Mutable: the processes that run, and the side file that they write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.side = folder / "side.txt"
        self.side.touch()
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        command = [sys.executable, MEMBER, self.folder, name, str(ORDERS)]
        self.running[name] = subprocess.Popen(command)

    def lines(self) -> list[str]:
        return self.side.read_text().splitlines()

    def wait_for(self, count: int) -> None:
        """Return when there are so many lines, or a process has ended by itself."""
        deadline = time.monotonic() + SILENCE_S_MAX
        while len(self.lines()) < count and all(p.poll() is None for p in self.running.values()):
            assert time.monotonic() < deadline, f"silence after {self.lines()[-5:]}"

    def owner(self) -> str | None:
        """Who owns the journal, as far as that is known."""
        journal = self.folder / "journal"
        if not is_held(journal):
            return None
        try:
            pid = json.loads((journal / "owner.json").read_text())["pid"]
        except (OSError, ValueError, KeyError):
            return None
        return next((name for name, p in self.running.items() if p.pid == pid), None)

    def kill(self, *names: str) -> None:
        for name in names:
            self.running[name].kill()
        for name in names:
            self.running.pop(name).wait()

    def reap(self) -> list[str]:
        """Those who have done all they had to do, and have ended."""
        ended = [name for name, process in self.running.items() if process.poll() is not None]
        for name in ended:
            assert self.running.pop(name).returncode == 0, f"{name} failed"
        return ended


@pytest.mark.kill
@pytest.mark.slow
def test_nothing_acknowledged_is_lost_whoever_is_killed(tmp_path: Path) -> None:
    """The journal outlives its owner, and a handler's process outlives the journal's."""
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    project = Project(tmp_path)
    unfinished, kills = set(NAMES), Counter[str]()
    # In turn, so that none of them is left out by chance.
    hows = ["the owner", "one that joined", "both", "nobody"]
    while unfinished:
        for name in sorted(unfinished - project.running.keys()):
            project.start(name)
        project.wait_for(len(project.lines()) + chance.randrange(10, 60))
        unfinished -= set(project.reap())
        owner = project.owner()
        others = [name for name in project.running if name != owner]
        if owner is None or not others:
            continue
        how = hows.pop(0)
        hows.append(how)
        match how:
            case "the owner":
                project.kill(owner)
            case "one that joined":
                project.kill(chance.choice(others))
            case "both":
                project.kill(owner, chance.choice(others))
            case _:
                pass
        kills[how] += 1

    check_history(project.lines())
    began = Counter(line.split(" ", 1)[1] for line in project.lines() if " open " in line)
    print(f"kills: {dict(kills)}, began: {dict(began)}")
    for how in ("the owner", "one that joined", "both"):
        assert kills[how] > 0, f"{how} was never killed"
    assert began["open joined"] > 0


def check_history(lines: list[str]) -> None:
    """A step whose result its handler had never runs again, and every result is there."""
    acknowledged: set[tuple[str, str, str]] = set()
    results: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        name, what, *rest = line.split(" ")
        match what:
            case "X":
                assert (name, *rest) not in acknowledged, f"{line}: it was finished before"
            case "R":
                acknowledged.add((name, rest[0], rest[1]))
            case "result":
                results[name, rest[0]] = rest[1:]
    orders = [(name, f"order-{number}") for name in NAMES for number in range(ORDERS)]
    assert results == {order: [str(RESULT), "True"] for order in orders}
    assert acknowledged == {(*order, str(i)) for order in orders for i in range(STEP_COUNT)}
