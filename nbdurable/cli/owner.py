"""Where the journal is, and how a command gets at it: by whoever owns it, or as its owner.

A journal that nobody owns is taken by the command, by the same lock as by a kernel, for as long as
the command lasts: to approve with no kernel alive is to open, to commit and to close. An owner that
is just coming or going is waited for; one that does not answer is told of, with exit code 75.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from nbdurable.cli.exits import NOT_FOUND, Refusal
from nbdurable.client.engine import EngineClient
from nbdurable.errors import JournalHeldError
from nbdurable.server.address import ServedAt
from nbdurable.settings.model import Settings, read_settings
from nbdurable.wiring import DurableEngine, journal_path

T = TypeVar("T")

_LOOK_AGAIN_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Reached:
    """`owner` is the process that has the journal; None when it is this one."""

    client: EngineClient
    path: Path
    owner: ServedAt | None


def ask(journal: Path | None, work: Callable[[Reached], Awaitable[T]]) -> T:
    """Run a command's work with the journal at hand.

    Raises:
        Refusal: There is no journal.
        JournalHeldError: Its owner does not answer.
    """
    settings = read_settings({"home": journal})

    async def main() -> T:
        async with reached(settings) as at_hand:
            return await work(at_hand)

    return asyncio.run(main())


@asynccontextmanager
async def reached(settings: Settings) -> AsyncIterator[Reached]:
    path = journal_path(settings.home)
    if not is_journal(path):
        raise Refusal(
            f"there is no journal at {path}; name one with --journal or NBDURABLE_HOME, or begin"
            " one with `nbdurable up`, a script or a notebook",
            NOT_FOUND,
        )
    deadline = asyncio.get_running_loop().time() + settings.owner_wait.total_seconds()
    while True:
        opened = DurableEngine(path, options=settings.engine_options(), logs_failures=False)
        refused = await asyncio.to_thread(opened.refused_to_start)
        if refused is None:
            break
        if not isinstance(refused, JournalHeldError) or (
            asyncio.get_running_loop().time() >= deadline
        ):
            raise refused.with_traceback(None)
        await asyncio.sleep(_LOOK_AGAIN_S)
    try:
        yield Reached(opened.client, path, None)
    finally:
        await asyncio.to_thread(opened.close)


def is_journal(path: Path) -> bool:
    """Whether somebody has begun one there. Nothing is created to find out."""
    return path.is_dir() and any(path.iterdir())
