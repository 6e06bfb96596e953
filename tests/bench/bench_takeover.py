"""How long until a joined process's engine answers again, after a kill -9 of the owner.

    python tests/bench/bench_takeover.py [TIMES] [RUNS]

RUNS finished runs of five steps are in the journal, because recovery reads what is there.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import nbdurable
from nbdurable import Context, Service

OWNER = """
import asyncio, sys, nbdurable

async def main():
    async with nbdurable.open(sys.argv[1]):
        print("open", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

service = Service("Bench")


@service.handler()
async def walk(ctx: Context, n: int) -> int:
    for i in range(5):
        n = await ctx.run_typed(f"step {i}", lambda n=n: n + 1)
    return n


async def fill(journal: Path, runs: int) -> None:
    async with nbdurable.open(journal, services=[service]) as engine:
        for first in range(0, runs, 200):
            calls = (engine.client.service_call(walk, i) for i in range(first, first + 200))
            await asyncio.gather(*calls)


async def takeover_ms(journal: Path) -> tuple[float, float]:
    """Joining, and taking over."""
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, journal, stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    await owner.stdout.readline()
    began = time.perf_counter()
    async with nbdurable.open(journal, services=[service]) as engine:
        joined = time.perf_counter() - began
        assert not engine.is_owner
        owner.kill()
        began = time.perf_counter()
        assert await engine.client.service_call(walk, 1) == 6
        took = time.perf_counter() - began
        assert engine.is_owner
    await owner.wait()
    return joined * 1000, took * 1000


async def main(times: int, runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        await fill(journal, runs)
        measured = [await takeover_ms(journal) for _ in range(times)]
    for name, values in zip(("join", "take over"), zip(*measured, strict=True), strict=True):
        print(
            f"{name:9}  median {statistics.median(values):6.0f} ms"
            f"   worst {max(values):6.0f} ms   of {times}, {runs} runs in the journal"
        )


if __name__ == "__main__":
    asyncio.run(main(*(int(a) for a in (*sys.argv[1:], 10, 2_000)[:2])))
