"""Opening the store again after a commit whose outcome is unknown, until it stays open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nbdurable.engine.ports import Store
from nbdurable.errors import JournalGoneError

# A store that fails this often in a row is not going to come back by opening it again.
RECOVERIES_MAX = 3


class Reopening:
    """Mutable: how often in a row it has failed. Owned by the engine's thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._failure_count = 0

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

        Args:
            leave: Lets go of what uses the store.
            begin: Begins the next epoch on it.

        Raises:
            Exception: The last failure, when it has failed too often or the journal is gone.
        """
        came_through: bool | None = None
        while True:
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
                return came_through
