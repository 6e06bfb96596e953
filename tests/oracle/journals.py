"""Journals of both sides in one form, and the two sides that write them.

An entry keeps two things: what the side itself wrote, which it is given back on replay, and what
is compared. In what is compared a future is named by the command that made it (its position
among the commands that both sides have), because the sides number their futures differently.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

Label = int | str
"""Of a future: the position of its command, `awakeable 17`, `signal a 0` (the first of that name),
or `cancel`."""

# Journaled here and not there: DECISIONS 0012 and 0035.
WAITS = ("Awakeable", "Signal")

# More than a step of a program takes, see `programs`, and what both sides need in between.
IDLE_TURNS = 150


class Failed(NamedTuple):
    code: int
    message: str


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A command."""

    kind: str
    name: str | None = None
    key: str | None = None
    target: tuple[str, str | None, str] | None = None
    value: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    idempotency_key: str | None = None
    is_delayed: bool = False
    whom: Label | None = None
    signal: Label | None = None


@dataclass(frozen=True, kw_only=True)
class Came:
    """A notification."""

    label: Label
    result: Any


class Entry(NamedTuple):
    seen: Asked | Came
    native: Any


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How an attempt ended: `suspended` until one of `waits_for`, `failed`, or `ended`."""

    how: str
    waits_for: frozenset[Label] = frozenset()
    failure: Failed | None = None


class Attempted(NamedTuple):
    entries: list[Entry]
    ending: Ending


class Live(Protocol):
    """One attempt from an empty journal, told what comes while it is alive."""

    journal: list[Entry]
    ending: Ending | None

    async def idle(self) -> None:
        """Return when only somebody outside can help."""

    def tell(self, label: Label, result: bytes | Failed) -> None: ...

    async def close(self) -> None: ...


class Side(Protocol):
    """One implementation: runs a program's attempts, and writes down what came from outside."""

    async def attempt(self, journal: list[Entry]) -> Attempted:
        """From this journal until it ends or must wait for anything but its own steps."""

    def came(self, journal: list[Entry], label: Label, result: bytes | Failed) -> Entry: ...

    def live(self) -> Live: ...


def commands(journal: list[Entry]) -> list[Entry]:
    """Those that both sides have in the same places: a future is named by its place among them."""
    return [
        entry
        for entry in journal
        if isinstance(entry.seen, Asked) and entry.seen.kind not in (*WAITS, "SendSignal")
    ]


def comparable(journal: list[Entry]) -> list[Asked | Came]:
    """What both sides must agree on.

    Left out are waits for awakeables and signals, and cancellations of a callee that has answered
    or was cancelled before, which change nothing: see `test_differences.py`.
    """
    kept: list[Asked | Came] = []
    settled: set[Label] = set()
    for seen, _ in journal:
        match seen:
            case Came(label=label):
                settled.add(f"callee {label}")
            case Asked(kind=kind) if kind in WAITS:
                continue
            case Asked(kind="SendSignal", signal=int(), whom=str(whom)):
                if whom in settled:
                    continue
                settled.add(whom)
        kept.append(seen)
    return kept


def came_of_name(journal: list[Entry], name: str) -> int:
    """How many signals of a name have come: which is the number of the next."""
    return sum(
        isinstance(seen, Came) and str(seen.label).startswith(f"signal {name} ")
        for seen, _ in journal
    )


def value_of(payload: bytes | None) -> Any:
    """Bytes where both write the same; the parsed value where JSON leaves a choice of bytes.

    Source: DECISIONS 0005 – JSON of ours is canonical, the official SDK's has spaces.
    """
    if payload is None or payload[:1] not in (b"[", b"{"):
        return payload
    return json.loads(payload)


async def settle(side: Side, journal: list[Entry]) -> Attempted:
    """Attempts from this journal on, until only somebody outside can help.

    A suspension on what the attempt itself brought about (the record of a step, the id of a
    callee) is resumed at once, as a server does.
    """
    new: list[Entry] = []
    while True:
        given = journal + new
        entries, ending = await side.attempt(given)
        new += entries
        waits_for = ending.waits_for - _known(given)
        if not waits_for & _known(given + entries):
            return Attempted(new, replace(ending, waits_for=waits_for))


async def until_idle(progress: Callable[[], int]) -> None:
    """Let the loop turn until nothing has moved for longer than the longest step takes."""
    last, quiet = progress(), 0
    while quiet < IDLE_TURNS:
        await asyncio.sleep(0)
        now = progress()
        last, quiet = now, (quiet + 1 if now == last else 0)


def _known(journal: list[Entry]) -> set[Label]:
    known: set[Label] = {e.seen.label for e in journal if isinstance(e.seen, Came)}
    return known | {f"callee {label}" for label in range(len(commands(journal)))}
