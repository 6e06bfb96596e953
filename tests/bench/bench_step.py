"""What a step in sequence costs, as a multiple of the commit it cannot do without.

    python tests/bench/bench_step.py [--steps 300] [--rounds 5] [--joined]

Both sides run in one process on one disk, in interleaved rounds: a workflow of trivial journaled
steps, one after another, on the engine as it ships; and bare durable commits of the same two rows
by a DuckDB Appender. The ratio of the medians is the figure; the target is at most 2.0. With
`--joined` the engine is in another process and the workflow runs over the attached link.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import duckdb

import nbdurable
from nbdurable import Workflow

flow = Workflow("Bench")


@flow.main()
async def run(ctx, request: dict) -> list[int]:
    """Return how long each step took. Units: nanoseconds."""

    async def step(i: int) -> dict[str, int]:
        return {"i": i}

    def blocking_step(i: int) -> dict[str, int]:
        return {"i": i}

    action = blocking_step if request["blocking"] else step
    took = []
    for i in range(request["steps"]):
        begun = time.monotonic_ns()
        await ctx.run_typed("step", action, nbdurable.RunOptions(), i)
        took.append(time.monotonic_ns() - begun)
    return took


class BareCommits:
    """The floor: the rows that one step writes, by an Appender into a table of the same shape."""

    def __init__(self, folder: Path) -> None:
        self.connection = duckdb.connect()
        self.connection.execute("set threads = 2; set memory_limit = '256MB'")
        self.connection.execute("set wal_autocheckpoint = '1GB'")
        self.connection.execute(
            f"attach '{folder / 'bare.duckdb'}' as bare (storage_version 'v1.5.0')"
        )
        self.connection.execute(
            "create table bare.fact(lsn bigint, epoch integer, at_ms bigint, kind varchar,"
            " invocation_id varchar, entry_index integer, name varchar, body varchar,"
            " payload blob, crc bigint)"
        )
        self.appender = self.connection.appender("bare.fact")
        self.lsn = 0

    def commit(self) -> int:
        """Return how long one durable commit of two rows took. Units: nanoseconds."""
        invocation_id = "inv_1peumy2mrbj4jevwdxvmnyjhnqq"
        rows = []
        for kind, index in (("Command: Run", 1), ("Notification: Run", 2)):
            self.lsn += 1
            rows.append(
                (
                    self.lsn,
                    1,
                    1795359423030,
                    kind,
                    invocation_id,
                    index,
                    "step",
                    '{"type":"EntryAppended","invocation_id":"'
                    + invocation_id
                    + '","entry_index":'
                    + str(self.lsn)
                    + ',"command":{"type":"Run","completion_id":1,"name":"step"}}',
                    b'{"i":1}',
                    2103924348,
                )
            )
        begun = time.monotonic_ns()
        self.appender.append_rows(rows)
        self.appender.flush()
        return time.monotonic_ns() - begun


OWNER = """
import asyncio, sys, nbdurable

async def main():
    async with nbdurable.open(sys.argv[1]):
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@contextmanager
def owner(journal: Path) -> Iterator[None]:
    """Another process that has the journal."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, journal], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield


async def measure(steps: int, rounds: int, *, is_joined: bool) -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        bare = BareCommits(Path(folder))
        if is_joined:
            stack.enter_context(owner(Path(folder) / "journal"))
        async with nbdurable.open(Path(folder) / "journal", services=[flow]) as engine:
            floor, sides = [], {"async step": False, "def step": True}
            took: dict[str, list[int]] = {name: [] for name in sides}
            for round_index in range(rounds):
                floor += [bare.commit() for _ in range(steps)]
                for name, blocking in sides.items():
                    request = {"steps": steps, "blocking": blocking}
                    key = f"{name}-{round_index}"
                    took[name] += await engine.client.workflow_call(run, key, request)
    commit_ms = statistics.median(floor) / 1e6
    print(f"bare Appender commit of 2 rows: {commit_ms:.3f} ms (p50 of {len(floor)})")
    for name, durations in took.items():
        p50, p99 = (
            statistics.median(durations) / 1e6,
            sorted(durations)[-len(durations) // 100] / 1e6,
        )
        print(f"{name}: p50 {p50:.3f} ms, p99 {p99:.3f} ms, {p50 / commit_ms:.2f}x the commit")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--joined", action="store_true")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.steps, arguments.rounds, is_joined=arguments.joined))
