"""Files beside the databases: each is there as long as it is named, and an hour longer."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_facts import ONE, TWO, Log

from nbdurable.core.ids import digest_of
from nbdurable.core.records import decode
from nbdurable.store.duck import DuckStore

LARGE = b"large " * 10_000
OTHER = b"other " * 10_000
HOUR_MS = 60 * 60 * 1000
SEED = 20260
PLACES = ("commit", "committed", "absorb", "absorb: committed to base", "absorbed")


class Clock:
    """Mutable. Begins with the file system's time, which says how old a file is."""

    def __init__(self) -> None:
        self.now_ms = time.time_ns() // 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[DuckStore]:
    store = DuckStore(tmp_path / "j", now_ms=clock)
    store.open()
    yield store
    store.close()


def kept(store: DuckStore) -> set[str]:
    return {path.name for path in (store.folder / "blobs").iterdir()}


def absorb(store: DuckStore, *rows) -> None:
    """Sweeps too, whether there is anything to absorb or not."""
    if rows:
        store.append(rows)
    store.absorb()


def test_a_purge_frees_its_files_after_an_hour(store: DuckStore, clock: Clock):
    """Not at once: a query that began before may be about to read them."""
    log = Log()
    absorb(store, log.created(ONE, LARGE), log.created(TWO, OTHER), log.completed(ONE))
    clock.now_ms += 10 * HOUR_MS
    absorb(store, log.purged(ONE))
    assert kept(store) == {digest_of(LARGE), digest_of(OTHER)}
    clock.now_ms += HOUR_MS - 1
    absorb(store)
    assert kept(store) == {digest_of(LARGE), digest_of(OTHER)}
    clock.now_ms += 1
    absorb(store)
    assert kept(store) == {digest_of(OTHER)}
    assert store.read_payload(2) == OTHER


def test_a_file_that_two_name_stays_until_both_are_purged(store: DuckStore, clock: Clock):
    log = Log()
    absorb(store, log.created(ONE, LARGE), log.created(TWO, LARGE))
    absorb(store, log.completed(ONE), log.purged(ONE))
    clock.now_ms += 2 * HOUR_MS
    absorb(store)
    assert store.read_payload(2) == LARGE
    absorb(store, log.completed(TWO), log.purged(TWO))
    clock.now_ms += HOUR_MS
    absorb(store)
    assert kept(store) == set()


def test_state_keeps_its_file_beyond_the_fact_that_set_it(store: DuckStore, clock: Clock):
    """Until it is set anew, or cleared."""
    log = Log()
    absorb(store, log.created(ONE), log.set("n", LARGE), log.completed(ONE), log.purged(ONE))
    clock.now_ms += 2 * HOUR_MS
    absorb(store)
    assert store.read_payload(2) == LARGE
    absorb(store, log.set("n", OTHER, by=TWO))
    clock.now_ms += HOUR_MS
    absorb(store)
    assert kept(store) == {digest_of(OTHER)}


def test_bytes_that_are_written_again_are_named_again(store: DuckStore, clock: Clock):
    log = Log()
    absorb(store, log.created(ONE, LARGE), log.completed(ONE), log.purged(ONE))
    clock.now_ms += HOUR_MS
    # The file is still there, so it is not written; hot alone names it when it is swept.
    store.append([log.created(TWO, LARGE)])
    absorb(store)
    clock.now_ms += 2 * HOUR_MS
    absorb(store)
    assert store.read_payload(4) == LARGE


def test_what_a_crash_left_is_swept_at_opening_once_it_is_an_hour_old(
    store: DuckStore, clock: Clock
):
    """A file whose fact was never committed, and half of one."""
    absorb(store, Log().created(ONE, LARGE))
    store.close()
    for name in ("0" * 32, "1" * 32 + ".77.tmp"):
        (store.folder / "blobs" / name).write_bytes(b"left")
    store.open()
    assert len(kept(store)) == 3
    store.close()
    clock.now_ms += HOUR_MS + 1_000
    store.open()
    assert kept(store) == {digest_of(LARGE)}


def test_a_folder_that_is_gone_or_holds_what_cannot_be_removed_is_no_harm(
    store: DuckStore, clock: Clock
):
    log, blobs = Log(), store.folder / "blobs"
    (blobs / "folder").mkdir()
    absorb(store, log.epoch())
    clock.now_ms += 2 * HOUR_MS
    absorb(store, log.epoch())
    assert kept(store) == {"folder"}
    (blobs / "folder").rmdir()
    blobs.rmdir()
    absorb(store, log.epoch())
    assert store.last_lsn() == 3


# Invocations of three payloads each, some in files, live and are purged; every sweep is two hours
# after the one before, so a file goes as soon as nobody names it.
SCRIPT = """
import itertools, os, random, signal, sys, time
from pathlib import Path
from store_facts import Log
from nbdurable.store.duck import DuckStore

folder, side, chance = Path(sys.argv[1]), Path(sys.argv[2]), random.Random(int(sys.argv[3]))
place = sys.argv[4]
steps = os.open(side, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

def probe(step):
    os.pwrite(steps, step.ljust(40).encode(), 0)
    if step == place and chance.random() < 0.3:
        os.kill(os.getpid(), signal.SIGKILL)

hours = itertools.count(time.time_ns() // 1_000_000, 2 * 60 * 60 * 1000)
store = DuckStore(
    folder, absorb_commits=6, now_ms=lambda: next(hours),
    probe=probe,
)
store.open()
log, begun = Log(store.last_lsn()), []

def value():
    return bytes([chance.randrange(4)]) * chance.choice([10, 40_000, 50_000])

print("open", flush=True)
while True:
    one = f"inv_1{log.last_lsn}"
    group = [log.created(one, value()), log.set("n", value(), by=one), log.notified(one, value())]
    begun.append(one)
    if len(begun) > 3:
        old = begun.pop(chance.randrange(3))
        group += [log.completed(old), log.purged(old)]
    store.append(group)
    if store.wants_absorb():
        store.absorb()
"""


@pytest.mark.kill
@pytest.mark.slow
def test_kill_9_at_any_moment_leaves_each_named_file_and_no_other_after_an_hour(tmp_path: Path):
    """By time, and at each place of a commit and of an absorb."""
    print(f"seed {SEED}")
    chance, steps = random.Random(SEED), []
    path = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    for place in ("",) * 12 + PLACES:
        side, seed = tmp_path / "step", str(chance.randrange(10**6))
        with subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "j"), str(side), seed, place],
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": path},
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"open\n"
            if not place:
                threading.Timer(chance.uniform(0.005, 0.4), process.kill).start()
            assert process.wait() == -signal.SIGKILL
        steps.append(side.read_text().strip())
        late = time.time_ns() // 1_000_000 + 10**9
        store = DuckStore(tmp_path / "j", now_ms=lambda late=late: late)
        store.open()
        # Reading finds what is missing, or is not what was written.
        rows = [decode(row) for row in store.read_rows(1, store.last_lsn())]
        held = [row.payload for row in rows]
        held += [store.read_payload(row.lsn) for row in store.load_state()]
        assert kept(store) == {digest_of(p) for p in held if isinstance(p, bytes) and len(p) > 99}
        store.close()
    print({step: steps.count(step) for step in sorted(set(steps))})
    assert tuple(steps[12:]) == PLACES
