"""Every scenario runs on three engines: as usual, always suspending, and on DuckDB."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from conformance.driver import SERVICES, Runtime
from nbdurable import DurableEngine, EngineOptions
from nbdurable.store.memory import MemoryStore

Started = Callable[..., AbstractAsyncContextManager[Runtime]]
ALWAYS_SUSPENDING = EngineOptions(inactivity_timeout=timedelta(0))


@pytest.fixture(params=["usual", "always suspending", "duckdb"])
def started(request: pytest.FixtureRequest, tmp_path: Path) -> Started:
    """Opens an engine with all services, as often as asked, always on the same journal."""
    mode = request.param
    store = None if mode == "duckdb" else MemoryStore()
    options = ALWAYS_SUSPENDING if mode == "always suspending" else EngineOptions()

    @asynccontextmanager
    async def start(**more: Any) -> AsyncIterator[Runtime]:
        opened = DurableEngine(
            tmp_path / "journal",
            SERVICES,
            store=store,
            options=more.pop("options", options),
            **more,
        )
        async with opened as engine:
            yield Runtime(engine)

    return start
