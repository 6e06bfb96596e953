"""A process to be killed: a workflow of 20 steps on the real store, saying what it is about to do.

    python victim.py FOLDER KEY

Every line of `side.txt` is one write(2), so a kill never tears one:

    X 7      step 7 really runs
    R 7      the handler has the result of step 7: it was acknowledged
    commit, committed, absorb, absorbed …      where the store is
"""

import asyncio
import os
import sys
from pathlib import Path

from nbdurable import Workflow
from nbdurable.store.duck import DuckStore
from nbdurable.wiring import DurableEngine

STEP_COUNT = 20
FOLDER, KEY = Path(sys.argv[1]), sys.argv[2]
SIDE = os.open(FOLDER / "side.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

flow = Workflow("Flow")


def say(line: str) -> None:
    os.write(SIDE, f"{KEY} {line}\n".encode())


@flow.main()
async def run(ctx, start: int) -> int:
    total = start
    for i in range(STEP_COUNT):

        def step(i: int = i) -> int:
            say(f"X {i}")
            return i * i

        total += await ctx.run_typed(f"step {i}", step)
        say(f"R {i}")
        ctx.set("total", total)
    return total


async def main() -> None:
    # Absorbing every few commits, so that kills find the store doing that as well.
    store = DuckStore(FOLDER / "journal", absorb_commits=3, probe=say)
    async with DurableEngine(FOLDER / "journal", [flow], store=store) as engine:
        say("open")
        await engine.client.workflow_send(run, KEY, 1000)
        result = await engine.client.workflow_attach("Flow", KEY)
        state = (
            await engine.client.invocation((await engine.client.find(f"Flow/{KEY}")).id)
        ).status
        say(f"result {result} {state}")


asyncio.run(main())
