"""`open()`: the engine of a project, for this process.

Its own, or that of the process that came first; whoever uses it need not know which.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nbdurable.client.engine import EngineClient
from nbdurable.core.proposals import Loaded
from nbdurable.engine.loop import Engine
from nbdurable.errors import EngineClosedError, JournalHeldError, NbdurableError
from nbdurable.sdk.codec import JournalValueCodec, JournalValueCodecProvider
from nbdurable.sdk.definition import Definition
from nbdurable.sdk.options import EngineOptions
from nbdurable.sharing.listening import Listening
from nbdurable.wiring import DurableEngine, OpenableEngine, SyncDurableEngine

if TYPE_CHECKING:
    from nbdurable.sharing.joined import Joined


class SharedEngine(OpenableEngine):
    """The engine of a project, for this process.

    Mutable: whether this process owns it, or has joined the one that does.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        services: Iterable[Definition] = (),
        *,
        options: EngineOptions | None = None,
        logs_failures: bool = True,
        journal_value_codec: JournalValueCodec | JournalValueCodecProvider | None = None,
        listens_after_s: float = 0.0,
        lasts: bool = True,
    ) -> None:
        """As `open`, and `listens_after_s`: for so long what begins here is not held up by it.

        `lasts` is that of `DurableEngine`.
        """
        self._own = DurableEngine(
            path,
            services,
            options=options,
            logs_failures=logs_failures,
            journal_value_codec=journal_value_codec,
            lasts=lasts,
        )
        self._services = self._own.services
        self._logs_failures = logs_failures
        self._listens_after_s = listens_after_s
        self._listening: Listening | None = None
        self._joined: Joined | None = None
        self._client: EngineClient | None = None

    def __repr__(self) -> str:
        how = "closed"
        if self._client is not None:
            how = "owned by this process" if self.is_owner else "owned by another process"
        return f"<SharedEngine {self.path} {how}, {len(self._services)} services>"

    @property
    def path(self) -> Path:
        return self._own.path

    @property
    def is_owner(self) -> bool:
        """Whether the journal is this process's; else another has it, and this one has joined."""
        return self._listening is not None or (self._joined is not None and self._joined.is_owner)

    @property
    def client(self) -> EngineClient:
        """Goes on being the client when the engine moves to another process."""
        if self._client is None:
            raise EngineClosedError("the engine is not open; use it inside `async with`")
        return self._client

    @property
    def owned(self) -> DurableEngine:
        if self._client is not None and not self.is_owner:
            raise NbdurableError(
                f"the engine of {self.path} is in another process, which this one has joined; do"
                " this there, or close that one first"
            )
        return self._own

    @property
    def engine(self) -> Engine:
        """Raises NbdurableError where it is in another process."""
        return self.owned.engine

    def start(self) -> None:
        """Own the journal, or join whoever does. Blocks for as long as recovery takes.

        Raises:
            JournalHeldError: Who owns it cannot be joined: it is an older version, or hangs.
            JournalDamagedError: It cannot be read; nothing was modified.
            JournalVersionError: A newer version wrote it; nothing was modified.
        """
        try:
            self._own.start()
        except JournalHeldError:
            # Whoever owns the journal needs none of this.
            from nbdurable.sharing.joined import Joined

            joined = Joined(
                self._own, slots=self._own.concurrency, logs_failures=self._logs_failures
            )
            self._client = joined.start()
            self._joined = joined
            return
        self._client = self._own.client
        self._listening = Listening(self._own, self._listens_after_s)
        self._listening.start()

    async def register_all(self) -> list[Loaded]:
        # Of whoever names a notebook this room is imported; its handlers may send it.
        if "nbdurable.runs.target" in sys.modules:
            from nbdurable.runs.sending import offer_notebooks

            await offer_notebooks(self.client)
        return [await self.client.register(service) for service in self._services]

    def close(self) -> None:
        """Stop what runs here and let go. It goes on where its code is loaded, or at next open."""
        joined, listening = self._joined, self._listening
        self._client = self._joined = self._listening = None
        if joined is not None:
            joined.close()
        if listening is not None:
            listening.close()
            self._own.close()


def open(
    path: str | os.PathLike[str] | None = None,
    *,
    services: Iterable[Definition] = (),
    options: EngineOptions | None = None,
    journal_value_codec: JournalValueCodec | JournalValueCodecProvider | None = None,
) -> SharedEngine:
    """Open the journal: run an engine on it in this process, or join the process that does.

    ```python
    async with nbdurable.open(services=[flow]) as engine:
        await engine.client.workflow_send(run, "order-456", {"amount": 100})
    ```

    Args:
        path: The journal's folder; None takes NBDURABLE_HOME, else `.nbdurable`.
        services: A list of them, or what `nbdurable.app()` returns.
        options: What holds where services and handlers say nothing. The engine's are those of the
            process that owns it; of one that joins, `concurrency` is what it takes at once.
        journal_value_codec: Transforms every value that is recorded; None takes the app's.
    """
    return SharedEngine(path, services, options=options, journal_value_codec=journal_value_codec)


def open_sync(
    path: str | os.PathLike[str] | None = None,
    *,
    services: Iterable[Definition] = (),
    options: EngineOptions | None = None,
    journal_value_codec: JournalValueCodec | JournalValueCodecProvider | None = None,
) -> SyncDurableEngine:
    """The same as `open`, for a script without asyncio.

    ```python
    with nbdurable.open_sync(services=[flow]) as engine:
        sent = engine.client.workflow_send(run, "order-456", {"amount": 100})
        print(engine.client.attach(sent.invocation_id))
    ```

    Handlers may be `async def` or `def` all the same: they run on the engine's threads.
    """
    return SyncDurableEngine(
        SharedEngine(path, services, options=options, journal_value_codec=journal_value_codec)
    )
