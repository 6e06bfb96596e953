"""Requests that wait long: whoever loses the connection can end them. See `Connection`."""

from __future__ import annotations

import asyncio
from typing import Any

from nbdurable.server.answers import Scope


class Waiting:
    """Around an await that may take long. When the client goes away, its task is cancelled."""

    def __init__(self, scope: Scope) -> None:
        self._waiters: set[asyncio.Task[Any]] | None = scope.get("state", {}).get("waiters")

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        if self._waiters is not None and self._task is not None:
            self._waiters.add(self._task)

    def __exit__(self, *_: object) -> None:
        if self._waiters is not None and self._task is not None:
            self._waiters.discard(self._task)
