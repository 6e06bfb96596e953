"""Kill -9 at each point where something could be lost, one after the other, and not at random."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

EVERYWHERE = Path(__file__).with_name("everywhere.py")
AWAITS = ("def step", "gather", "sleep", "call", "awakeable", "state", "undo", "promise", "shared")
STORE = ("commit", "committed", "absorb", "absorb: committed to base", "absorbed")
DONE_S_MAX = 250


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What some eighty processes have left: each was killed at a point of its own."""
    folder = tmp_path_factory.mktemp("everywhere")
    ended = subprocess.run(
        [sys.executable, EVERYWHERE, folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=DONE_S_MAX,
    )
    assert ended.returncode == 0, ended.stderr
    return (folder / "side.txt").read_text().splitlines()


@pytest.mark.kill
@pytest.mark.slow
def test_a_kill_at_any_point_of_a_run_loses_nothing_and_repeats_nothing(side: list[str]):
    """What a handler was told never runs again, and every run ends as if nothing had happened."""
    told: set[tuple[str, str]] = set()
    for line in side:
        what, _, rest = line.partition(" ")
        key, _, name = rest.partition(" ")
        if what == "X":
            assert (key, name) not in told, line
        elif what == "R":
            told.add((key, name))
    results = Counter(line for line in side if line.startswith("result "))
    assert results
    assert {line for line in results if not line.endswith(" true")} == set()
    begun = {line.split(" ")[1] for line in side if line.startswith(("R run", "X run"))}
    assert begun <= {line.split(" ")[1] for line in results}


@pytest.mark.kill
@pytest.mark.slow
def test_what_was_sent_from_a_run_that_was_killed_arrives_once(side: list[str]):
    arrived = json.loads(side[-1].removeprefix("seen "))
    finished = {line.split(" ")[1] for line in side if line.startswith("result ")}
    assert len(arrived) == len(set(arrived))
    assert finished <= set(arrived)


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.parametrize(
    "point", [*(f"before {name}" for name in AWAITS), *(f"after {name}" for name in AWAITS), *STORE]
)
def test_there_was_a_kill_at(side: list[str], point: str):
    """Else the others would claim what nobody has tried."""
    assert side.count(f"killed at {point}") > 0
