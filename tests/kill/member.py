"""One of several processes of a project, to be killed: it runs a workflow that only it has.

    python member.py FOLDER NAME ORDERS

Every line of `side.txt` is one write(2), so a kill never tears one:

    open owner | open joined        as what this process has begun
    X order-3 7                     step 7 of order-3 really runs
    R order-3 7                     the handler has its result: it was acknowledged
    result order-3 1285 True        what was returned to whoever waited here, and whether it is kept
"""

import asyncio
import os
import sys
import time
from pathlib import Path

import nbdurable
from nbdurable import Workflow

STEP_COUNT = 10
FOLDER, NAME, ORDERS = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
SIDE = os.open(FOLDER / "side.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

flow = Workflow(f"Flow{NAME}")


def say(line: str) -> None:
    os.write(SIDE, f"{NAME} {line}\n".encode())


@flow.main()
async def run(ctx, start: int) -> int:
    total = start
    for i in range(STEP_COUNT):

        def step(i: int = i) -> int:
            say(f"X {ctx.key()} {i}")
            # Long enough for a kill to fall inside of it.
            time.sleep(0.01)
            return i * i

        total += await ctx.run_typed(f"step {i}", step)
        say(f"R {ctx.key()} {i}")
    return total


async def main() -> None:
    async with nbdurable.open(FOLDER / "journal", services=[flow]) as engine:
        say(f"open {'owner' if engine.is_owner else 'joined'}")
        client = engine.client
        for number in range(ORDERS):
            key = f"order-{number}"
            await client.workflow_send(run, key, 1000)
            result = await client.workflow_attach(run, key)
            view = await client.find(f"Flow{NAME}/{key}")
            say(f"result {key} {result} {view.succeeded}")


asyncio.run(main())
