"""Make `format-N.zip`: a small journal of the format that this version writes, as a kill leaves it.

    python tests/frozen/make.py

Once for each format, when it is new; afterwards the file is never made again, because it says what
is out there. Half of it is absorbed, the other half is in hot's write-ahead log, and it has a run
in each of the states that a run can wait in. Times are those of a clock that stands still.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from old_flows import SERVICES, add, ask, fail, greet, nap, run

import nbdurable
from nbdurable.store.files import FORMAT_VERSION

HERE = Path(__file__).parent
# 2026-11-26 00:00 UTC.
AT_MS = 1_795_651_200_000


class StandingClock:
    """Mutable: the time that it shows."""

    def __init__(self, at_ms: int = AT_MS) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        return self.at_ms


def opened(folder: Path, at_ms: int = AT_MS) -> nbdurable.DurableEngine:
    return nbdurable.DurableEngine(folder, SERVICES, clock=StandingClock(at_ms), is_settled=True)


async def first_half(folder: Path) -> None:
    async with opened(folder) as engine:
        client = engine.client
        await client.service_call(greet, "Ada")
        with suppress(nbdurable.TerminalError):
            await client.service_call(fail, "no tea")
        await client.object_call(add, "ada", "tea")
        gone = await client.service_send(greet, "nobody")
        await client.attach(gone.invocation_id)
        await client.purge(gone.invocation_id)
        sent = await client.workflow_send(run, "order-1", 100)
        while not (await client.invocation(sent.invocation_id)).open_promises:
            await client.services()  # One more turn of the engine.


async def second_half(folder: Path) -> None:
    async with opened(folder) as engine:
        client = engine.client
        await client.object_call(add, "ada", "cup")
        await client.service_send(greet, "Eve", send_delay=timedelta(days=2))
        napping = await client.service_send(nap, 1)
        while not (await client.invocation(napping.invocation_id)).is_asleep:
            await client.services()  # One more turn of the engine.
        asked = await client.service_send(ask, None)
        while not (await client.invocation(asked.invocation_id)).open_awakeables:
            await client.services()  # One more turn of the engine.
        paused = await client.service_send(nap, 30)
        await client.pause(paused.invocation_id)
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    if len(sys.argv) > 1:
        half = {"first": first_half, "second": second_half}[sys.argv[1]]
        asyncio.run(half(Path(sys.argv[2])))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / ".nbdurable"
        for half in ("first", "second"):
            subprocess.run([sys.executable, __file__, half, str(folder)], check=half == "first")
        (folder / "owner.json").unlink()
        file = HERE / f"format-{FORMAT_VERSION}.zip"
        with zipfile.ZipFile(file, "x", zipfile.ZIP_DEFLATED, compresslevel=9) as kept:
            for path in sorted(folder.rglob("*")):
                kept.write(path, path.relative_to(folder))
    print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
