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

from nbdurable.cli.exits import NOT_FOUND, UNREACHABLE, Refusal
from nbdurable.client.engine import EngineClient
from nbdurable.client.linked import LinkedAccess
from nbdurable.client.switching import SwitchingAccess
from nbdurable.errors import JournalHeldError, LinkLostError, NbdurableError
from nbdurable.invoker.attached import Attachment
from nbdurable.server.address import ServedAt, served_at
from nbdurable.settings.model import Settings, read_settings
from nbdurable.sharing.joined import Place, place_of
from nbdurable.wiring import DurableEngine, journal_path, this_program

T = TypeVar("T")

_LOOK_AGAIN_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Reached:
    """The journal at hand.

    Attributes:
        owner: The process that has it; None when it is this one.
        link: Ends when that process is gone.
    """

    client: EngineClient
    path: Path
    owner: ServedAt | None = None
    link: asyncio.Task[None] | None = None


def ask(
    journal: Path | None, work: Callable[[Reached], Awaitable[T]], *, begins: bool = False
) -> T:
    """Run a command's work with the journal at hand.

    Args:
        begins: Begin a journal where there is none, as a kernel does: the work starts something.

    Raises:
        Refusal: There is no journal, or its owner does not answer.
        LinkLostError: Its owner went away meanwhile.
    """
    settings = read_settings({"home": journal})

    async def main() -> T:
        async with reached(settings, begins=begins) as at_hand:
            return await _unless_it_goes(at_hand, work)

    return asyncio.run(main())


async def _unless_it_goes(at_hand: Reached, work: Callable[[Reached], Awaitable[T]]) -> T:
    """A command does not outlive its owner, whatever it waits for."""
    working = asyncio.ensure_future(work(at_hand))
    link = () if at_hand.link is None else (at_hand.link,)
    try:
        await asyncio.wait({working, *link}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _gone()
        return working.result()
    finally:
        working.cancel()


@asynccontextmanager
async def reached(settings: Settings, *, begins: bool = False) -> AsyncIterator[Reached]:
    path = journal_path(settings.home)
    if not begins and not is_journal(path):
        raise Refusal(
            f"there is no journal at {path}; name one with --journal or NBDURABLE_HOME, or begin"
            " one with `nbdurable up`, a script or a notebook",
            NOT_FOUND,
        )
    own = DurableEngine(
        path, options=settings.engine_options(), is_settled=True, logs_failures=False
    )
    linked: _Linked | None = None
    try:
        served, linked = await _way_to(own, settings.owner_wait.total_seconds())
        if linked is None:
            yield Reached(own.client, path)
        else:
            yield Reached(linked.client, path, served, linked.carrying)
    finally:
        if linked is not None:
            await linked.close()
        await asyncio.to_thread(own.close)


async def _way_to(
    own: DurableEngine, patience_s: float
) -> tuple[ServedAt, _Linked] | tuple[None, None]:
    """A link to whoever has the journal; or nothing, and then it is open as our own.

    Raises:
        Refusal: It is held by somebody who cannot be reached.
        NbdurableError: It cannot be opened.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while True:
        served, place = served_at(own.path), place_of(own)
        try:
            if served is not None and place is not None:
                return served, await _Linked.to(own, place)
            refused = await asyncio.to_thread(own.refused_to_start)
            if refused is None:
                return None, None
            raise refused.with_traceback(None)
        except (JournalHeldError, LinkLostError) as error:
            # It is just coming, or going; or it is a command like this one.
            if loop.time() >= deadline:
                raise _unreachable(own, served, error) from None
        await asyncio.sleep(_LOOK_AGAIN_S)


class _Linked:
    """Mutable while it lasts: a link to the owner, over which no code is offered."""

    def __init__(
        self, attachment: Attachment, client: EngineClient, carrying: asyncio.Task[None]
    ) -> None:
        self.client = client
        self._attachment = attachment
        self.carrying = carrying

    @classmethod
    async def to(cls, own: DurableEngine, place: Place) -> _Linked:
        """Raises LinkLostError when nobody answers there, NbdurableError when we are refused."""
        access = SwitchingAccess(asyncio.get_running_loop())
        attachment = await Attachment.open(
            place.url,
            place.headers,
            own.link,
            token_file=place.token_file,
            program=this_program(),
        )
        linked = LinkedAccess(attachment.send)
        # What a command loads runs here as long as it lasts, and then at the owner's.
        own.link.report_to(attachment.post)
        carrying = asyncio.create_task(attachment.run(linked.heard))

        def lost(_: asyncio.Task[None]) -> None:
            linked.lost()
            access.close(_gone())

        carrying.add_done_callback(lost)
        access.lead_to(linked)
        return cls(attachment, EngineClient(access, own.link), carrying)

    async def close(self) -> None:
        await self._attachment.close()
        await self.carrying


def is_journal(path: Path) -> bool:
    """Whether somebody has begun one there. Nothing is created to find out."""
    return path.is_dir() and any(path.iterdir())


def _unreachable(own: DurableEngine, served: ServedAt | None, error: NbdurableError) -> Refusal:
    if served is None:
        return Refusal(str(error), UNREACHABLE)
    return Refusal(
        f"{served.who} has the journal {own.path} and does not answer at {served.admin}:"
        f" {error}. Wait for it; or end it, and nothing that was acknowledged is lost",
        UNREACHABLE,
    )


def _gone() -> LinkLostError:
    return LinkLostError(
        "the process that had the journal went away; what was asked of it may have happened or"
        " not. Look, and ask again if it has not"
    )
