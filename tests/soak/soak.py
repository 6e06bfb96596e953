"""Random programs under load, with a kill -9 every few seconds, checked against the model.

    python tests/soak/soak.py --minutes 30

In the end nothing is killed any more, and then: everything that was asked for has ended, each with
its result; every counter is what the programs say; no attempt has observed anything else than one
before it; every fact is what was written; and memory is as it was after the first minutes.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nbdurable.store.repair import examine
from nbdurable.testing.programs import increments

SOAKED = Path(__file__).with_name("soaked.py")
LIFE_S = (0.3, 6.0)
# Now and then one is left alone, so that memory can be seen to grow if it does.
LONG_LIFE_S = 30.0
LONG_LIFE_EVERY = 8
# A process that does not open its journal in this time hangs, which is a failure.
OPEN_S_MAX = 60.0
# Of the last third of all long lives over the first: allocators keep what they had at the peak.
GROWTH_MAX = 1.25
# Fewer say nothing: a life ends with what its programs took, which are 400 to 2,000 of them.
LONG_LIVES_MIN = 12


class Report(NamedTuple):
    seed: int
    minutes: float
    kills: int
    programs: int
    observations: int
    counted: int
    last_lsn: int
    journal_bytes: int
    rss_kib: list[int]

    def __str__(self) -> str:
        rss = ", ".join(f"{kib / 1024:.0f}" for kib in self.rss_kib)
        return (
            f"seed {self.seed}: {self.minutes:.1f} minutes, {self.kills} kills, {self.programs}"
            f" programs, {self.observations} observations, {self.counted} increments counted,"
            f" {self.last_lsn} facts, {self.journal_bytes / 1024**2:.1f} MiB of files in the end;"
            f" MiB of memory beside the model's at the end of each long life: {rss or 'none'}"
        )


def soak(folder: Path, seed: int, duration_s: float) -> Report:
    """Raises AssertionError when anything is not as the model says."""
    chance = random.Random(seed)
    begun_s = time.monotonic()
    side, life = folder / "side.txt", 0
    side.touch()
    ends_of_long_lives: list[int] = []
    while time.monotonic() - begun_s < duration_s:
        life += 1
        is_long = life % LONG_LIFE_EVERY == 0
        before = side.stat().st_size
        process = started(folder, seed, life)
        until_open(side, before, process)
        until_s = time.monotonic() + (LONG_LIFE_S if is_long else chance.uniform(*LIFE_S))
        while time.monotonic() < until_s:
            assert process.poll() is None, f"it ended by itself with {process.returncode}"
            time.sleep(0.05)
        process.kill()
        process.wait()
        if is_long:
            ends_of_long_lives.append(last_rss_kib(side))
    calm = started(folder, seed, life + 1, "calm")
    assert calm.wait() == 0, "what was accepted has not ended; see above"
    minutes = (time.monotonic() - begun_s) / 60
    return checked(folder, seed, minutes, life, ends_of_long_lives)


def started(folder: Path, seed: int, life: int, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, SOAKED, folder, str(seed), str(life), *more])


def until_open(side: Path, before: int, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + OPEN_S_MAX
    while not any(line.startswith("open ") for line in lines_after(side, before)):
        assert process.poll() is None, f"it could not open its journal: {process.returncode}"
        assert time.monotonic() < deadline_s, "it does not open its journal"
        time.sleep(0.02)


def lines_after(side: Path, offset: int) -> Iterator[str]:
    with side.open() as file:
        file.seek(offset)
        yield from file.read().splitlines()


def last_rss_kib(side: Path) -> int:
    measured = [line for line in lines_after(side, 0) if line.startswith("M ")]
    return int(measured[-1].split()[1])


def checked(folder: Path, seed: int, minutes: float, kills: int, rss_kib: list[int]) -> Report:
    lines = list(lines_after(folder / "side.txt", 0))
    told = [line for line in lines if line.startswith("! ")]
    assert told == [], told[:3]
    expected: Counter[tuple[int, str]] = Counter()
    asked: dict[str, int] = {}
    for line in lines:
        if line.startswith("P "):
            _, number, key, program = line.split(" ", 3)
            expected += increments(json.loads(program), (0, key))
            asked[number] = len(json.loads(program))
    ended = {line.split()[1]: line.split()[2] for line in lines if line.startswith("D ")}
    assert asked.keys() == ended.keys(), f"never ended: {asked.keys() - ended.keys()}"
    wrong = {n: got for n, got in ended.items() if got not in (str(asked[n]), "forgotten")}
    assert wrong == {}, f"other results than their programs': {wrong}"
    counted = {
        (int(layer), key): int(count)
        for layer, key, count in (line.split()[1:] for line in lines if line.startswith("C "))
    }
    assert counted == dict(expected), f"counted {counted}, expected {dict(expected)}"
    found = examine(folder / ".nbdurable", 0)
    assert found.harms == [], found.harms
    assert found.lost_files == {}, found.lost_files
    if len(rss_kib) >= LONG_LIVES_MIN:
        third = len(rss_kib) // 3
        first, last = statistics.median(rss_kib[:third]), statistics.median(rss_kib[-third:])
        assert last <= first * GROWTH_MAX, f"memory has grown from {first} to {last} KiB"
    files = [path for path in (folder / ".nbdurable").rglob("*") if path.is_file()]
    return Report(
        seed,
        minutes,
        kills,
        len(asked),
        sum(line.startswith("S ") for line in lines),
        sum(counted.values()),
        found.acknowledged,
        sum(path.stat().st_size for path in files),
        rss_kib,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--keep", type=Path, help="a folder to work in, which is kept")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
        folder = asked.keep or Path(scratch)
        folder.mkdir(exist_ok=True, parents=True)
        print(soak(folder, asked.seed, asked.minutes * 60))


if __name__ == "__main__":
    main()
