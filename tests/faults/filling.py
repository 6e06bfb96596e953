"""A process whose journal's disk is full at some time, and has room again when that was said.

    python filling.py FOLDER commit|absorb|payload disk|limit

It calls until the engine says that the disk is full, makes room, and goes on; then the journal is
closed and opened again. It prints as JSON what the engine has said and whose answers were lost.
"""

import asyncio
import json
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path

import nbdurable
from nbdurable import Service
from nbdurable.store.duck import DuckStore
from nbdurable.wiring import DurableEngine

FOLDER, WHERE, HOW = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
LIMIT_BYTES = 8 * 1024 * 1024
# What a row holds, or what becomes a file.
VALUE_BYTES = 100_000 if WHERE == "payload" else 15_000
NEVER_BYTES = 2**50

service = Service("S")


@service.handler()
async def keep(ctx, number: int) -> int:
    await ctx.run_typed("make", lambda: os.urandom(VALUE_BYTES // 2).hex())
    return number


class Said(logging.Handler):
    """Mutable: what the engine has said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.is_full = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self._loop.call_soon_threadsafe(self.is_full.set)


def make_room() -> None:
    if HOW == "limit":
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    else:
        remounting = ["mount", "-o", "remount,size=512m", "tmpfs", FOLDER]
        subprocess.run(remounting, check=True)


def store() -> DuckStore:
    if WHERE == "absorb":
        return DuckStore(FOLDER / "j")
    return DuckStore(FOLDER / "j", absorb_bytes=NEVER_BYTES, absorb_commits=NEVER_BYTES)


async def main() -> None:
    said, answered = Said(), []
    logging.getLogger("nbdurable").addHandler(said)
    if HOW == "limit":
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))

    async def call(engine, count: int) -> None:
        for _ in range(count):
            number = len(answered)
            answered.append(await engine.client.service_call(keep, number))

    async with DurableEngine(FOLDER / "j", [service], store=store()) as engine:
        calling = asyncio.create_task(call(engine, 2_000))
        await said.is_full.wait()
        assert not calling.done()
        before = len(answered)
        make_room()
        # Whoever was waiting is answered, without having to ask again.
        while len(answered) < before + 20:
            assert not calling.done()
            await asyncio.sleep(0)
        calling.cancel()
    async with nbdurable.open(FOLDER / "j", services=[service]) as engine:
        views = [view for view in await engine.client.invocations() if view.succeeded]
        found = [await engine.client.attach(view.id) for view in views]
    print(json.dumps({"said": said.lines, "lost": sorted(set(answered) - set(found))}))


asyncio.run(main())
