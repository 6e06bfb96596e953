"""A process whose runs wait for an answer, so that nothing is left of it but what its owner holds.

python suspending.py JOURNAL FIRST LAST
"""

import asyncio
import sys
from pathlib import Path

from test_waits_in_cells import until_suspended, waiting_workflow

import nbdurable


async def main(journal: Path, first: int, last: int) -> None:
    async with nbdurable.open(journal) as engine:
        client = engine.client
        await client.register(waiting_workflow([]), keyed=True, digest="waits/1")
        for number in range(first, last):
            await client.generic_send("Waits", "run", b"null", key=f"run-{number}")
        for number in range(first, last):
            await until_suspended(client, f"Waits/run-{number}/run")


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
