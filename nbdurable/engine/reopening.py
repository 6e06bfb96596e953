"""Opening the store again after a commit whose outcome is unknown, until it stays open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from nbdurable.engine.ports import Store
from nbdurable.errors import DiskFullError, JournalGoneError

logger = logging.getLogger("nbdurable")

# A store that fails this often in a row is not going to come back by opening it again.
RECOVERIES_MAX = 3
# But on a full disk somebody makes room. Looking opens the journal, which takes up to a second.
ROOM_LOOK_S_MIN = 0.5
ROOM_LOOK_S_MAX = 10.0
# Room that lasts for less than this was none: each time what runs begins again at its last record.
ROOM_LASTS_S_MIN = 60.0


class Reopening:
    """Mutable: how often in a row it has failed. Owned by the engine's thread.

    Args:
        tell: Told why it waits for room, each time that it begins to, and None when it is over.
    """

    def __init__(self, store: Store, tell: Callable[[DiskFullError | None], None]) -> None:
        self._store = store
        self._tell = tell
        self._failure_count = 0
        self._look_after_s = ROOM_LOOK_S_MIN
        self._was_full_at_s = -ROOM_LASTS_S_MIN

    def succeeded(self) -> None:
        """A commit came through."""
        self._failure_count = 0

    async def reopen(
        self,
        error: Exception,
        last_lsn: int,
        leave: Callable[[], None],
        begin: Callable[[], Awaitable[None]],
    ) -> bool:
        """Whether the log has `last_lsn`: then the commit that failed with `error` came through.

        For room on a full disk it waits as long as it takes: what runs has nowhere else to go.

        Args:
            leave: Lets go of what uses the store.
            begin: Begins the next epoch on it.

        Raises:
            Exception: The last failure, when it has failed too often or the journal is gone.
        """
        came_through: bool | None = None
        was_full = False
        while True:
            if isinstance(error, DiskFullError):
                was_full = True
                self._tell(error)
                await self._wait_for_room()
            else:
                self._failure_count += 1
            if isinstance(error, JournalGoneError) or self._failure_count > RECOVERIES_MAX:
                raise error
            try:
                leave()
                self._store.reopen()
                if came_through is None:
                    # Asked once: after this the lsns are those of the next epoch.
                    came_through = self._store.last_lsn() >= last_lsn
                await begin()
            except Exception as again:  # noqa: BLE001 - border: tried again, then told.
                error = again
            else:
                self._tell(None)
                if was_full:
                    logger.warning("there is room for the journal again, and the engine goes on")
                return came_through

    async def _wait_for_room(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._was_full_at_s > ROOM_LASTS_S_MIN:
            self._look_after_s = ROOM_LOOK_S_MIN
        await asyncio.sleep(self._look_after_s)
        self._look_after_s = min(self._look_after_s * 2, ROOM_LOOK_S_MAX)
        self._was_full_at_s = asyncio.get_running_loop().time()
