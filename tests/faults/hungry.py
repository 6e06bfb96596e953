"""A process that joins, and whose handlers take more memory than there is.

    python hungry.py FOLDER killed|refused TIMES

The first TIMES tries of the step end as the kernel ends what takes too much, or as Python says it.
"""

import asyncio
import os
import resource
import signal
import sys
from pathlib import Path

import nbdurable
from nbdurable import Service

FOLDER, HOW, TIMES = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
SIDE = os.open(FOLDER / "side.txt", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
ROOM_BYTES = 256 * 1024 * 1024

there = Service("There")


def train(size: int) -> int:
    os.write(SIDE, b"train\n")
    if len((FOLDER / "side.txt").read_text().splitlines()) - 1 <= TIMES:
        if HOW == "killed":
            # What the kernel sends to whoever takes the last of the memory.
            os.kill(os.getpid(), signal.SIGKILL)
        return len(bytearray(8 * ROOM_BYTES))
    return size


@there.handler()
async def work(ctx, size: int) -> int:
    prepared = await ctx.run_typed("prepare", lambda: os.write(SIDE, b"prepare\n") and size)
    return await ctx.run_typed("train", train, size=prepared)


async def main() -> None:
    async with nbdurable.open(FOLDER / "journal", services=[there]):
        if HOW == "refused":
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (4 * ROOM_BYTES, hard))
        print("joined", flush=True)
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main())
