"""What waking up costs: a thousand runs whose process died, and one run among a million facts.

    python tests/bench/bench_resume.py                 # all three
    python tests/bench/bench_resume.py memory --of 100000

Prints numbers to look at; they never pass or fail.

resume    A process with 1,000 invocations of 5 finished steps each is killed with -9 in the sixth.
          Seconds from the start of the next process until all 1,000 are in their sixth step again.
wake      Milliseconds from resolving the awakeable of a suspended invocation until it has its
          value, in a journal that holds 10^6 facts of others.
memory    Bytes of engine memory for each sleeping, and for each completed invocation.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from datetime import timedelta
from pathlib import Path

from nbdurable import Service
from nbdurable import open as open_engine
from nbdurable.core.attempt import ref_of, success_of
from nbdurable.core.commands import OutputCommand, RunCommand, SleepCommand
from nbdurable.core.facts import EntryAppended, InvocationCompleted, InvocationCreated
from nbdurable.core.futures import Completion
from nbdurable.core.ids import keyed_invocation_id, random_invocation_id
from nbdurable.core.machine import EngineMachine
from nbdurable.core.manifest import HandlerManifest, ServiceManifest
from nbdurable.core.proposals import (
    AppendCommand,
    AttemptSteps,
    Invoke,
    LoadCode,
    Proposal,
    StartEpoch,
    Suspend,
    Timer,
    TimerFired,
)
from nbdurable.core.records import Record, encode
from nbdurable.core.values import Target
from nbdurable.engine.timers import Timers
from nbdurable.store.duck import DuckStore

RUNS = 1_000
STEPS = 5
FACTS = 1_000_000

service = Service("Bench")
there: list[str] = []
all_there = asyncio.Event()


@service.handler()
async def work(ctx, number: int) -> None:
    for step in range(STEPS):
        await ctx.run_typed(f"step {step}", lambda: number)
    await ctx.run_typed("the last", arrive, key=str(number))


async def arrive(key: str) -> None:
    there.append(key)
    if len(there) == RUNS:
        print(f"there {time.time()}", flush=True)
    await asyncio.sleep(3_600)


async def live(journal: str, count: int) -> None:
    async with open_engine(journal, services=[service]) as engine:
        for number in range(count):
            await engine.client.service_send(work, number)
        await asyncio.sleep(3_600)


def process(journal: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, "live", "--journal", journal, "--of", str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )


def arrival(running: subprocess.Popen[str]) -> float:
    assert running.stdout is not None
    said = running.stdout.readline().split()
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert said, "the process ended before all were there"
    return float(said[1])


def resume() -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = str(Path(folder) / "journal")
        arrival(process(journal, RUNS))
        seconds = []
        for _ in range(3):
            began = time.time()
            seconds.append(arrival(process(journal, 0)) - began)
        shown = ", ".join(f"{s:.2f}" for s in seconds)
        print(f"resume: {RUNS} runs of {STEPS} steps are at work again after {shown} s")


def foreign_facts(journal: Path, count: int) -> None:
    """A journal that others have filled: completed invocations of ten entries each."""
    store = DuckStore(journal)
    store.open()
    lsn, rows = store.last_lsn(), []
    for number in range(count // 12):
        one = random_invocation_id(10**9 + number)
        facts = [
            InvocationCreated(
                invocation_id=one,
                target=Target(service="Other", handler="work"),
                argument=ref_of(b""),
                status="ready",
                seed=number,
                service_type="service",
            ),
            *(
                EntryAppended(
                    invocation_id=one,
                    entry_index=index,
                    command=RunCommand(completion_id=index, name=f"step {index}"),
                )
                for index in range(1, 11)
            ),
            InvocationCompleted(
                invocation_id=one,
                result=success_of(b"x"),
                by="output",
                attempt=1,
                revision=1,
                entry_count=12,
                entry_index=11,
            ),
        ]
        for fact in facts:
            lsn += 1
            payload = b"x" if isinstance(fact, InvocationCompleted) else None
            rows.append(encode(Record(lsn, 1, fact, payload), 1, payload))
        if len(rows) >= 20_000:
            store.append(rows)
            store.absorb()
            rows = []
    if rows:
        store.append(rows)
    store.close()


async def wake() -> None:
    sleeper = Service("Sleeper", inactivity_timeout=timedelta(0))
    woken: asyncio.Queue[float] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    @sleeper.handler()
    async def wait(ctx) -> None:
        _, opened = ctx.awakeable()
        await opened
        loop.call_soon_threadsafe(woken.put_nowait, time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        began = time.perf_counter()
        foreign_facts(journal, FACTS)
        filled = time.perf_counter()
        async with open_engine(journal, services=[sleeper]) as engine:
            opened = time.perf_counter()
            print(f"wake: filled in {filled - began:.1f} s, opened in {opened - filled:.2f} s")
            waits = []
            for _ in range(30):
                sent = await engine.client.service_send(wait, None)
                view = await engine.client.invocation(sent.invocation_id)
                while view.status != "suspended":
                    await asyncio.sleep(0.001)
                    view = await engine.client.invocation(sent.invocation_id)
                # As after a restart: nothing of it is in memory but what every sleeper keeps.
                await asyncio.wrap_future(
                    engine.engine.ask(lambda one=view.id: engine.engine.vault.forget(one))
                )
                start = time.perf_counter()
                await engine.client.resolve_awakeable(view.open_awakeables[0], None)
                waits.append((await woken.get() - start) * 1_000)
        waits.sort()
        print(
            f"wake: {statistics.median(waits):.1f} ms median, {waits[-1]:.1f} ms at most,"
            f" with {FACTS} facts of others"
        )


class _Wall:
    def now_ms(self) -> int:
        return 0


async def memory(count: int) -> None:
    machine, timers = EngineMachine(), Timers(_Wall(), lambda _: None)

    def decide(proposal: Proposal, now_ms: int = 0) -> None:
        for action in machine.decide(proposal, now_ms).actions:
            if hasattr(action, "timer"):
                timers.set(action.timer, action.at_ms)

    decide(StartEpoch(owner="bench", version="0"))
    handler = HandlerManifest(name="run", type="workflow")
    manifest = ServiceManifest(name="Flow", type="workflow", handlers=(handler,), digest="1")
    decide(LoadCode(link="here", manifest=manifest))
    gc.collect()
    tracemalloc.start()
    for number in range(count):
        target = Target(service="Flow", handler="run", key=f"order-{number}")
        _begin_and_sleep(decide, target, number)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    print(f"memory: {held / count:.0f} bytes for each of {count} sleepers, its timer included")
    timers.clear()
    for inv in machine.state.live():
        decide(TimerFired(timer=Timer(invocation_id=inv.id, completion_id=1)), 10**13)
        output = AppendCommand(command=OutputCommand(result=success_of(b"x")), payload=b"x")
        decide(_steps(inv.id, inv.seed, 2, output))
    timers.clear()
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    print(f"memory: {held / count:.0f} bytes for each of {count} completed ones")


def _begin_and_sleep(decide, target: Target, number: int):
    one = keyed_invocation_id(target.service, target.key, target.handler, None)
    seed = 2**62 + number
    decide(
        Invoke(invocation_id=one, seed=seed, target=target, argument=ref_of(b"in"), payload=b"in")
    )
    sleep = AppendCommand(command=SleepCommand(completion_id=1, wake_up_at_ms=10**13))
    suspend = Suspend(waiting_for=Completion(id=1), notification_count=0)
    decide(_steps(one, seed, 1, sleep, suspend))


def _steps(one, seed: int, attempt: int, *steps) -> AttemptSteps:
    return AttemptSteps(epoch=1, invocation_id=one, seed=seed, attempt=attempt, steps=steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["resume", "wake", "memory"])
    parser.add_argument("--of", type=int, default=100_000)
    parser.add_argument("--journal")
    asked = parser.parse_args()
    for what in asked.what:
        match what:
            case "live":
                asyncio.run(live(asked.journal, asked.of))
            case "resume":
                resume()
            case "wake":
                asyncio.run(wake())
            case "memory":
                asyncio.run(memory(asked.of))
            case _:
                parser.error(f"{what} is not one of resume, wake, memory")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[2]))
    main()
