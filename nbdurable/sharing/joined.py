"""This process, joined to the engine that another one owns; its owner, once that one is gone.

    look for the owner -- found --> carry frames until the link is lost --> look again
                       -- nobody, and the lock is free --> recover, own, listen

The lock decides who owns the journal, and nothing else: it goes with its process, whatever happens
to it. Taking over is recovery and nothing more. Code that was loaded here is loaded again wherever
the engine is next, and what clients wait for is asked again (see `client/switching.py`).
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from nbdurable.client.access import LocalAccess
from nbdurable.client.engine import EngineClient
from nbdurable.client.linked import LinkedAccess
from nbdurable.client.switching import SwitchingAccess
from nbdurable.errors import (
    EngineClosedError,
    JournalGoneError,
    JournalHeldError,
    LinkLostError,
    NbdurableError,
)
from nbdurable.invoker.attached import Attachment
from nbdurable.invoker.failures import FailuresHere
from nbdurable.invoker.frames import LINK_PATH
from nbdurable.server.address import served_at
from nbdurable.sharing.listening import Listening
from nbdurable.store.lock import is_held, let_go_in_child, on_fork
from nbdurable.wiring import DurableEngine, report_to_nobody, this_program

logger = logging.getLogger("nbdurable")

# Between two looks for an owner; a takeover takes about as long as recovery does.
LOOK_AGAIN_S: Final = 0.05
# An owner that listens does so within a second of opening. One that does not is an old version, or
# hangs: then whoever wants to join is told who has the journal.
JOIN_S_MAX: Final = 10.0


class Place(NamedTuple):
    """Where the owner takes links, what it wants to be shown, and the file that this is from."""

    url: str
    headers: Mapping[str, str]
    token_file: Path | None = None


class Joined:
    """Mutable; all of it belongs to its thread, except for `start`, `close` and the client.

    Args:
        own: The engine that this process would own; its link runs the handlers either way.
        find: Where the owner is now, if there is one that listens.
        slots: How many attempts may run here at once; None sets no bound.
        logs_failures: Whether failures of handlers that run here are said to the log.
    """

    def __init__(
        self,
        own: DurableEngine,
        find: Callable[[], Place | None] | None = None,
        *,
        slots: int | None = None,
        logs_failures: bool = True,
    ) -> None:
        self._own = own
        self._find = find or (lambda: place_of(own))
        self._slots = slots
        self._logs_failures = logs_failures
        self._ready: Future[None] = Future()
        self._attachment: Attachment | None = None
        self._listening: Listening | None = None
        self._thread = threading.Thread(target=self._live, name="nbdurable-joined", daemon=True)
        on_fork(self)

    def __repr__(self) -> str:
        return f"<Joined {self._attachment or ('owner' if self._listening else 'to nobody')}>"

    @property
    def is_owner(self) -> bool:
        return self._listening is not None

    def start(self) -> EngineClient:
        """Join, or own. Returns this process's client, which outlives every owner.

        Raises:
            JournalHeldError: Somebody has the journal who cannot be joined.
            NbdurableError: As `DurableEngine.start`, if it came to that.
        """
        link = self._own.link
        # A process that ends must not take over what it is about to leave.
        atexit.register(self.close)
        self._thread.start()
        try:
            self._ready.result()
        except BaseException:
            self.close()
            raise
        return EngineClient(self._access, link)

    def close(self) -> None:
        """Leave, and let go of the journal if it was ours. What ran goes on elsewhere, or later."""
        atexit.unregister(self.close)
        # It may be ending by itself just now, and its loop be closed already.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end)
        self._thread.join()

    def abandon_in_child(self) -> None:
        """The link is the parent's: the owner must notice when that ends."""
        error = EngineClosedError(
            "this process was forked from one that had joined the journal; use the engine there,"
            " or open the journal here"
        )
        if self._ready.done():
            self._access.poison(error)
        attachment = self._attachment
        if attachment is not None:
            let_go_in_child([attachment.descriptor()])

    # -- on its thread --------------------------------------------------------------------------

    def _live(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._access = SwitchingAccess(self._loop)
        error: Exception | None = None
        try:
            await self._stay_joined()
        except NbdurableError as raised:
            error = raised
            if self._ready.done():
                logger.warning("this process is not joined to the journal any more: %s", raised)
        finally:
            self._access.close(error)
            if self._listening is not None:
                self._listening.close()
            self._own.close()
            if not self._ready.done():
                closed = EngineClosedError("it was closed before it had joined")
                self._ready.set_exception(error or closed)

    async def _stay_joined(self) -> None:
        give_up_at = self._loop.time() + JOIN_S_MAX
        while not self._closing.is_set():
            if await self._join():
                continue
            gives_up = not self._ready.done() and self._loop.time() > give_up_at
            if gives_up or not is_held(self._own.path):
                try:
                    self._take_over()
                except JournalHeldError:
                    # Somebody was faster, and will listen in a moment.
                    if gives_up:
                        raise
                else:
                    await self._closing.wait()
                    return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), LOOK_AGAIN_S)

    async def _join(self) -> bool:
        """Whether there was an owner to join; returns when that is gone."""
        place = self._find()
        if place is None:
            return False
        hands = self._own.link
        try:
            attachment = await Attachment.open(
                place.url,
                place.headers,
                hands,
                token_file=place.token_file,
                program=this_program(),
                slots=self._slots,
            )
        except LinkLostError:
            return False
        linked = LinkedAccess(attachment.send)
        self._attachment = attachment
        carrying = asyncio.create_task(attachment.run(linked.heard))
        hands.failures = FailuresHere() if self._logs_failures else None
        hands.report_to(attachment.post)
        self._access.lead_to(linked)
        if not self._ready.done():
            self._ready.set_result(None)
        try:
            if self._closing.is_set():
                await attachment.close()
            await carrying
        finally:
            self._attachment = None
            hands.report_to(report_to_nobody)
            hands.failures = None
            self._access.lead_to(None)
            linked.lost()
        return True

    def _take_over(self) -> None:
        """Own the journal from now on. Raises JournalHeldError when the lock is not free."""
        if self._ready.done() and not self._own.path.is_dir():
            # A new journal in its place would be in the way when the old one is moved back.
            raise JournalGoneError(
                f"the journal {self._own.path} is gone: its folder was deleted or moved away"
            )
        # On this loop, because all that it carries waits for just this.
        self._own.start()
        self._listening = Listening(self._own)
        self._listening.start()
        self._access.lead_to(LocalAccess(self._own.engine))
        if not self._ready.done():
            self._ready.set_result(None)

    def _end(self) -> None:
        self._closing.set()
        if self._attachment is not None:
            self._ending = asyncio.ensure_future(self._attachment.close())


def place_of(own: DurableEngine) -> Place | None:
    """Where the owner of this journal takes links; None when nobody owns it, or none listens."""
    served = served_at(own.path)
    if served is None:
        return None
    try:
        headers = served.headers()
    except (OSError, ValueError):
        # The file of its token is gone, or is no text any more.
        return None
    return Place(served.admin.replace("http", "ws", 1) + LINK_PATH, headers, served.token_file)
