"""What opening costs in a journal full of runs that have ended.

    python tests/bench/bench_open.py                   # 10^4, 10^5 and 10^6 facts
    python tests/bench/bench_open.py --facts 100000

A run has twelve facts. Each journal is opened by fresh processes; the best of them counts, because
noise only ever adds. Prints numbers to look at; they never pass or fail.

store      Seconds until the store is open: attached, verified, nothing left to absorb.
recovery   Seconds from there until the engine's state is in memory, and CPU seconds of all threads,
           which say more where others use the machine too.
memory     What the process has grown by meanwhile at most, and what of it the state takes.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from bench_resume import foreign_facts

from nbdurable.engine.recovery import recover
from nbdurable.store.duck import DuckStore

FACTS = (10_000, 100_000, 1_000_000)


def resident_kib(which: str) -> int:
    """VmRSS: now; VmHWM: at most so far. Not `getrusage`, which counts the parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(which + ":")[2].split()[0])


def open_once(journal: Path, *, traced: bool) -> dict[str, float]:
    store = DuckStore(journal)
    before_kib = resident_kib("VmRSS")
    if traced:
        tracemalloc.start()
    began = time.perf_counter()
    store.open()
    opened, cpu = time.perf_counter(), time.process_time()
    machine = recover(store)
    recovered, cpu = time.perf_counter(), time.process_time() - cpu
    grown_kib = resident_kib("VmHWM") - before_kib
    gc.collect()
    held_bytes = tracemalloc.get_traced_memory()[0] if traced else 0
    store.close()
    return {
        "store": opened - began,
        "recovery": recovered - opened,
        "cpu": cpu,
        "grown_mib": grown_kib / 1024,
        "completed": len(machine.state.completed),
        "held_bytes": held_bytes,
    }


def in_a_process(journal: Path, how: str) -> dict[str, float]:
    shown = subprocess.run(
        [sys.executable, __file__, how, "--journal", str(journal)],
        check=True,
        capture_output=True,
        text=True,
    )
    measured: dict[str, float] = json.loads(shown.stdout)
    return measured


def measure(fact_count: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        foreign_facts(journal, fact_count)
        timed = [in_a_process(journal, "timed") for _ in range(rounds)]
        traced = in_a_process(journal, "traced")
    best = {name: min(one[name] for one in timed) for name in timed[0]}
    each_bytes = traced["held_bytes"] / best["completed"]
    print(
        f"{fact_count:>9,} facts of {best['completed']:,.0f} runs: store {best['store']:.2f} s, "
        f"recovery {best['recovery']:.2f} s ({best['cpu']:.2f} s of CPU), "
        f"memory +{best['grown_mib']:.0f} MiB, state {each_bytes:.0f} bytes a run",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("how", nargs="?", choices=["timed", "traced"])
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--facts", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if asked.how:
        print(json.dumps(open_once(asked.journal, traced=asked.how == "traced")))
    else:
        for facts in [asked.facts] if asked.facts else FACTS:
            measure(facts, asked.rounds)
