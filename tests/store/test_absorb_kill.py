"""Kill -9 at any moment: what was acknowledged is there once, in order, and state is exact."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nbdurable.core.records import decode
from nbdurable.store.duck import DuckStore

ROUNDS = 25
SEED = 20260
# Where it kills itself, in rounds after those: when is a matter of time, and this is not.
PLACES = ("commit", "committed", "absorb", "absorb: committed to base", "absorbed")

# Appends groups of one to five sets, absorbs often, and writes the last lsn of each group to a
# side file once it is acknowledged, and each step it takes to another. Plain writes without fsync:
# a kill of the process, unlike one of the machine, loses nothing that was written.
SCRIPT = """
import os, random, signal, sys
from pathlib import Path
from store_facts import Log
from nbdurable.store import absorb
from nbdurable.store.duck import DuckStore

folder, side, seed, place = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
acknowledged = os.open(side / "acknowledged", os.O_WRONLY | os.O_CREAT)
steps = os.open(side / "step", os.O_WRONLY | os.O_CREAT)

def probe(step):
    os.pwrite(steps, step.ljust(40).encode(), 0)
    if step == place:
        os.kill(os.getpid(), signal.SIGKILL)

chance = random.Random(seed)
# Sometimes six facts are too much for one transaction.
absorb.LOG_BYTES_MAX, absorb.PART_FACTS = chance.choice([0, absorb.LOG_BYTES_MAX]), 5
# Sometimes it falls behind, and what has grown is absorbed in helpings.
keeps_up, absorb_bytes = chance.choice([(1.0, 1 << 22), (0.2, 2_000)])
store = DuckStore(
    folder,
    absorb_bytes=absorb_bytes,
    absorb_commits=12,
    checkpoint_bytes=40_000,
    probe=probe,
)
store.open()
log = Log(store.last_lsn())
print("open", flush=True)
while True:
    group = []
    for _ in range(chance.choice([1, 1, 3, 5])):
        name = f"n{(log.last_lsn + 1) % 7}"
        if (log.last_lsn + 1) % 11 == 0:
            group.append(log.clear(name))
        else:
            group.append(log.set(name, str(log.last_lsn + 1).encode() * 50))
    store.append(group)
    os.pwrite(acknowledged, str(log.last_lsn).ljust(20).encode(), 0)
    if store.wants_absorb() and chance.random() < keeps_up:
        store.absorb_some()
"""


def expected_state(last_lsn: int) -> dict[str, int]:
    """Name to the lsn that set it, by the rule that the script writes by."""
    state: dict[str, int] = {}
    for lsn in range(1, last_lsn + 1):
        if lsn % 11 == 0:
            state.pop(f"n{lsn % 7}", None)
        else:
            state[f"n{lsn % 7}"] = lsn
    return state


def killed(folder: Path, side: Path, seed: int, where: str | float) -> tuple[int, str]:
    """Run the script until it is killed: at this place, or so many seconds after it has opened.

    What was acknowledged, and in which step it was.
    """
    for name in ("acknowledged", "step"):
        (side / name).unlink(missing_ok=True)
    path = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(side), str(seed), str(where)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": path},
    ) as process:
        assert process.stdout is not None
        if isinstance(where, float):
            assert process.stdout.readline() == b"open\n"
            threading.Timer(where, process.kill).start()
        assert process.wait() == -signal.SIGKILL
    # A kill may come before a file is made, and between that and its first write.
    acknowledged, step = (
        path.read_text().strip() if path.exists() else ""
        for path in (side / "acknowledged", side / "step")
    )
    return int(acknowledged or 0), step


@pytest.mark.kill
@pytest.mark.slow
def test_kill_9_at_any_moment_loses_nothing_and_doubles_nothing(tmp_path: Path):
    """Seeded, but timing decides where a kill falls; so there is one at each place as well."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    folder, steps, last_lsn, logs_left = tmp_path / "journal", [], 0, 0
    kills: list[str | float] = [chance.uniform(0.005, 0.3) for _ in range(ROUNDS)]
    for round_number, kill in enumerate([*kills, *PLACES]):
        acknowledged, step = killed(folder, tmp_path, chance.randrange(1_000_000), kill)
        steps.append(step)
        logs_left += (folder / "base.duckdb.wal").exists()
        store = DuckStore(folder)
        store.open()
        where = f"round {round_number}, killed in {step!r}"
        assert store.last_lsn() >= max(acknowledged, last_lsn), where
        # One group that was committed, but not yet acknowledged, may be there.
        assert store.last_lsn() <= max(acknowledged, last_lsn) + 5, where
        last_lsn = store.last_lsn()
        rows = store.read_rows(1, last_lsn + 100)
        assert [decode(row).lsn for row in rows] == list(range(1, last_lsn + 1)), where
        assert {row.name: row.lsn for row in store.load_state()} == expected_state(last_lsn), where
        assert all(
            store.read_payload(row.lsn) == str(row.lsn).encode() * 50 for row in store.load_state()
        )
        store.close()
    print({step: steps.count(step) for step in sorted(set(steps))})
    print(f"{logs_left} times base had a log")
    assert steps[ROUNDS:] == list(PLACES)
