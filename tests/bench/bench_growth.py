"""What a journal costs as it grows: whether a step among a million facts is as cheap as the first.

    python tests/bench/bench_growth.py                 # all three
    python tests/bench/bench_growth.py entries --upto 100000
    python tests/bench/bench_growth.py live
    python tests/bench/bench_growth.py churn

Prints numbers to look at; they never pass or fail. Medians, because others use the machine too; the
floor is a bare commit of one fact to the same journal, which shows how busy it is just now.

entries   Facts of others in the journal, put there in bulk as an absorb would: seconds to open it,
          and milliseconds of a sequential step, of a call from start to result, and of a signal to
          a suspended invocation until it has it.
live      The same beside so many invocations that sleep for a day.
churn     Invocations that end and are forgotten a second later: MiB of files after each 20,000.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from bench_resume import foreign_facts

from nbdurable import EngineOptions, Service
from nbdurable.wiring import DurableEngine

ENTRIES = (1_000, 10_000, 100_000, 1_000_000)
LIVE = (1, 1_000, 10_000, 100_000)
STEPS = 300
CALLS = 200
WAKES = 50
AT_ONCE = 200
CHURNED, CHURN_ROUNDS = 20_000, 6

bench = Service("Bench")
sleeper = Service("Sleeper", inactivity_timeout=timedelta(0))


@bench.handler()
async def steps(ctx, count: int) -> list[float]:
    took = []
    for _ in range(count):
        began = time.perf_counter()
        await ctx.run_typed("step", lambda: 1)
        took.append(time.perf_counter() - began)
    return took


@bench.handler()
async def nothing(ctx, number: int) -> int:
    return number


@sleeper.handler()
async def sleep(ctx, number: int) -> None:
    await ctx.sleep(timedelta(days=1))


@sleeper.handler()
async def hear(ctx) -> float:
    _, opened = ctx.awakeable()
    await opened
    return time.time()


SERVICES = (bench, sleeper)


def ms(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1_000:6.2f}"


async def one_by_one(count: int, deed: Callable[[], Awaitable[object]]) -> list[float]:
    took = []
    for _ in range(count):
        began = time.perf_counter()
        await deed()
        took.append(time.perf_counter() - began)
    return took


async def wake(client) -> float:
    """Seconds from the answer until its handler has it."""
    sent = await client.service_send(hear, None)
    view = await client.invocation(sent.invocation_id)
    while view.status != "suspended":
        await asyncio.sleep(0.001)
        view = await client.invocation(sent.invocation_id)
    began = time.time()
    await client.resolve_awakeable(view.open_awakeables[0], None)
    return await client.attach(sent.invocation_id) - began


async def measured(engine: DurableEngine) -> str:
    client = engine.client
    await client.service_call(steps, 50)
    stepped = await client.service_call(steps, STEPS)
    called = await one_by_one(CALLS, lambda: client.service_call(nothing, 1))
    woken = [await wake(client) for _ in range(WAKES)]
    return f"step {ms(stepped)} ms, call {ms(called)} ms, wake {ms(woken)} ms"


async def entries(upto: int) -> None:
    for count in (count for count in ENTRIES if count <= upto):
        with tempfile.TemporaryDirectory() as folder:
            journal = Path(folder) / "journal"
            foreign_facts(journal, count)
            opens = []
            for _ in range(3):
                engine = DurableEngine(journal, SERVICES, is_settled=True)
                began = time.perf_counter()
                engine.start()
                opens.append(time.perf_counter() - began)
                await asyncio.to_thread(engine.close)
            async with DurableEngine(journal, SERVICES, is_settled=True) as engine:
                found = await measured(engine)
            print(f"{count:>9,} facts: opened in {min(opens):.2f} s, {found}", flush=True)


async def live(upto: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        there = 0
        async with DurableEngine(Path(folder) / "j", SERVICES, is_settled=True) as engine:
            for count in (count for count in LIVE if count <= upto):
                began = time.perf_counter()
                await many(count - there, lambda n: engine.client.service_send(sleep, n))
                await until_none_runs(engine)
                rate = (count - there) / (time.perf_counter() - began)
                there = count
                found = await measured(engine)
                print(f"{count:>9,} live: {found} (begun at {rate:,.0f} a second)", flush=True)


async def until_none_runs(engine: DurableEngine) -> None:
    """Looked at, not heard: what listens would be paid for by what is measured."""

    async def running() -> int:
        return (await engine.client.newest_invocations(0, statuses=["running"])).found_count

    while await running():  # noqa: ASYNC110 - as said.
        await asyncio.sleep(0.2)


async def many(count: int, deed: Callable[[int], Awaitable[object]]) -> None:
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await deed(number)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


async def churn() -> None:
    options = EngineOptions(
        journal_retention=timedelta(seconds=1),
        idempotency_retention=timedelta(seconds=1),
        cleanup_interval=timedelta(seconds=1),
    )
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        for _ in range(CHURN_ROUNDS):
            async with DurableEngine(journal, SERVICES, options=options, is_settled=True) as engine:
                began = time.perf_counter()
                await many(CHURNED, lambda n: engine.client.service_call(nothing, n))
                rate = CHURNED / (time.perf_counter() - began)
                await engine.client.clean_up()
                kept = (await engine.client.newest_invocations(0)).found_count
            sizes = {path.name: path.stat().st_size for path in journal.glob("*.duckdb*")}
            shown = ", ".join(f"{name} {size / 1024**2:.1f}" for name, size in sizes.items())
            print(f"churn: {rate:,.0f} a second, {kept} kept; MiB: {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="*", default=["entries", "live", "churn"])
    parser.add_argument("--upto", type=int, default=1_000_000)
    asked = parser.parse_args()
    for what in asked.what:
        match what:
            case "entries":
                asyncio.run(entries(asked.upto))
            case "live":
                asyncio.run(live(asked.upto))
            case "churn":
                asyncio.run(churn())
            case _:
                parser.error(f"there is no {what}")


if __name__ == "__main__":
    main()
