"""A process that finds the disk of its journal read-only, or without any room.

    python sealing.py FOLDER sealed|full

It prints as JSON what was said, and how many answers were there in the end.
"""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import nbdurable
from nbdurable import NbdurableError, Service

FOLDER, WHAT = Path(sys.argv[1]), sys.argv[2]
service = Service("S")


@service.handler()
async def keep(ctx, number: int) -> int:
    return number


def remount(options: str) -> None:
    remounting = ["mount", "-o", f"remount,{options}", "tmpfs", FOLDER]
    subprocess.run(remounting, check=True)


def take_away() -> None:
    if WHAT == "sealed":
        remount("ro")
    else:
        ballast = os.open(FOLDER / "ballast", os.O_WRONLY | os.O_CREAT)
        with suppress(OSError):
            while True:
                os.write(ballast, b"x" * 4096)
        os.close(ballast)


def give_back() -> None:
    if WHAT == "sealed":
        remount("rw")
    else:
        (FOLDER / "ballast").unlink()


def sizes() -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (FOLDER / "j").iterdir()}


async def call(count: int) -> None:
    async with nbdurable.open(FOLDER / "j", services=[service]) as engine:
        for number in range(count):
            await engine.client.service_call(keep, number)


async def main() -> None:
    await call(10)
    before = sizes()
    take_away()
    said = "nothing"
    try:
        await call(1)
    except NbdurableError as error:
        said = str(error)
    assert sizes() == before
    give_back()
    async with nbdurable.open(FOLDER / "j", services=[service]) as engine:
        views = await engine.client.invocations()
        found = [await engine.client.attach(view.id) for view in views if view.succeeded]
    print(json.dumps({"said": said, "found": sorted(found)}))


asyncio.run(main())
