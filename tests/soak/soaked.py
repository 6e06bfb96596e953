"""A process to be killed again and again: random programs on the real store, under load.

    python soaked.py FOLDER SEED LIFE [calm]

Every line of `side.txt` is one write(2), so a kill never tears one. It is the model: what was
asked, what was acknowledged, what each attempt has observed, and how much memory there was.

    P 7 key [...]      program 7 is about to be asked for
    A 7 inv_1…         it was accepted
    D 7 4              it ended with 4
    S inv_1… 99 2 …    the third observation of this invocation's life with this seed
    O sign_1…          this awakeable is for somebody out there to complete
    W sign_1…          and they have
    M 81234 30         KiB of memory beside what this model takes, and how many are not over
    C 0 a 17           the counter of key a in layer 0, in the end

`calm` asks for nothing new: nothing fails any more, and all that was accepted has to end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from nbdurable import EngineOptions, InvocationNotFoundError, NbdurableError
from nbdurable.store.duck import DuckStore
from nbdurable.testing.programs import INACTIVITIES, LAYERS, Author, Cast, Stage
from nbdurable.wiring import DurableEngine

IN_FLIGHT = 24
KEYS = ("a", "b", "c", "d", "e", "f")
# Long enough that a caller who was killed asks again in time, short enough that much is forgotten.
KEPT = timedelta(seconds=45)
OPTIONS = EngineOptions(
    journal_retention=timedelta(seconds=5),
    workflow_retention=KEPT,
    idempotency_retention=KEPT,
    cleanup_interval=timedelta(seconds=2),
)
# What the simulation sleeps in virtual time.
SLEEP_MS_MAX = 400
CALM_S_MAX = 180.0
MEASURED_EVERY_S = 0.5


class Side:
    """The side file: what earlier lives wrote, and a descriptor to write more."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.lines = path.read_text().splitlines()

    def say(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())

    def said(self, what: str, count: int) -> list[list[str]]:
        """The lines of one kind, in so many parts."""
        return [line.split(" ", count)[1:] for line in self.lines if line.startswith(f"{what} ")]


class Outside(dict[str, None]):
    """Mutable: awakeables for somebody out there, who hears of them whatever becomes of us."""

    def __init__(self, side: Side) -> None:
        self._side = side

    def __setitem__(self, awakeable_id: str, _: None) -> None:
        self._side.say("O", awakeable_id)
        super().__setitem__(awakeable_id, None)


class KeptStage(Stage):
    """Observations outlive the process: another life must observe the same."""

    def __init__(self, chance: random.Random, side: Side, life: int) -> None:
        super().__init__(chance, lambda error: side.say("!", json.dumps(str(error))))
        self.token_count = life * 10_000_000
        self._side = side
        # Whoever waits for one may never run again before it is completed.
        answered = {awakeable_id for (awakeable_id,) in side.said("W", 1)}
        asked = [awakeable_id for (awakeable_id,) in side.said("O", 1)]
        self.outside = Outside(side)
        dict.update(self.outside, {one: None for one in asked if one not in answered})
        for invocation_id, seed, value in side.said("S", 3):
            self._seen.setdefault((invocation_id, int(seed)), []).append(json.loads(value))

    def keep(self, life: tuple[str, int], value: Any) -> None:
        super().keep(life, value)
        self._side.say("S", *life, json.dumps(value))


def shortened(op: Any) -> Any:
    """A program whose sleeps end while somebody waits."""
    if isinstance(op, list):
        if op[:1] in (["sleep"], ["doze and cancel"]):
            return [op[0], min(op[1], SLEEP_MS_MAX)]
        return [shortened(part) for part in op]
    return op


class Asker:
    """Mutable: whoever asks, and asks again what was not answered before the last kill."""

    client: Any

    def __init__(self, side: Side, chance: random.Random) -> None:
        self._side = side
        self._author = Author(chance, KEYS, calls_back=False)
        done = {number for number, _ in side.said("D", 2)}
        asked = [(number, key, program) for number, key, program in side.said("P", 3)]
        self._count = len(asked)
        self.unanswered = [one for one in asked if one[0] not in done]
        self._accepted = dict(side.said("A", 2))

    async def ask_again(self) -> None:
        await asyncio.gather(*(self._ask(*one) for one in self.unanswered))

    async def ask_on_and_on(self) -> None:
        while True:
            self._count += 1
            program = json.dumps(shortened(self._author.program()), separators=(",", ":"))
            key = self._author.key()
            self._side.say("P", self._count, key, program)
            await self._ask(str(self._count), key, program)

    async def _ask(self, number: str, key: str, program: str) -> None:
        invocation_id = self._accepted.get(number)
        if invocation_id is None:
            handle = await self.client.generic_send(
                LAYERS[0], "interpret", program.encode(), key=key, idempotency_key=number
            )
            invocation_id = handle.invocation_id
            self._side.say("A", number, invocation_id)
        try:
            self._side.say("D", number, await self.client.attach(invocation_id))
        except InvocationNotFoundError:
            # It has ended and was forgotten between two lives.
            self._side.say("D", number, "forgotten")


async def answer_from_outside(client: Any, stage: Stage, side: Side) -> None:
    while True:
        await asyncio.sleep(0.01)
        for awakeable_id in list(stage.outside):
            del stage.outside[awakeable_id]
            # It may be over, or answered in an earlier life.
            with suppress(NbdurableError):
                await client.resolve_awakeable(awakeable_id, "from outside")
            side.say("W", awakeable_id)


async def measure(client: Any, side: Side, model_kib: int) -> None:
    while True:
        live = (await client.newest_invocations(0, statuses=["unfinished"])).found_count
        side.say("M", rss_kib() - model_kib, live)
        await asyncio.sleep(MEASURED_EVERY_S)


def rss_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


async def calm_down(client: Any, side: Side, asker: Asker) -> None:
    async with asyncio.timeout(CALM_S_MAX):
        await asker.ask_again()
        while live := (await client.newest_invocations(statuses=["unfinished"])).views:
            for view in live:
                if view.status == "paused":
                    with suppress(NbdurableError):
                        await client.resume(view.id)
            await asyncio.sleep(0.2)
    found = await client.query(
        "select service_name, service_key, value_utf8 from state where key = 'counter'"
    )
    for service, key, value in found.rows:
        side.say("C", LAYERS.index(service), key, value)


async def live(folder: Path, seed: int, life: int, *, is_calm: bool) -> None:
    chance = random.Random(f"{seed} {life}")
    side = Side(folder / "side.txt")
    cast = Cast()
    cast.stage = KeptStage(chance, side, life)
    cast.stage.is_stormy = not is_calm
    store = DuckStore(
        folder / ".nbdurable",
        absorb_commits=chance.choice((5, 100, 5_000)),
        checkpoint_bytes=chance.choice((64 * 1024, 16 * 1024**2)),
    )
    services = cast.services[chance.choice(INACTIVITIES)]
    asker = Asker(side, chance)
    model_kib = rss_kib()
    async with DurableEngine(store.folder, services, store=store, options=OPTIONS) as engine:
        client = engine.client
        side.say("open", life)
        asker.client = client
        beside = [
            asyncio.create_task(answer_from_outside(client, cast.stage, side)),
            asyncio.create_task(measure(client, side, model_kib)),
        ]
        if is_calm:
            await calm_down(client, side, asker)
        else:
            askers = [asker.ask_again(), *(asker.ask_on_and_on() for _ in range(IN_FLIGHT))]
            await asyncio.gather(*askers)
        for task in beside:
            task.cancel()


if __name__ == "__main__":
    # Failures are the point here, and nobody need read of each.
    logging.disable(logging.ERROR)
    asyncio.run(
        live(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), is_calm="calm" in sys.argv)
    )
