"""One engine on a store in memory, served on loopback, for a whole module of tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.served import SERVICES, Served

import nbdurable
from nbdurable import ServeOptions
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine, SyncDurableEngine


@pytest.fixture(scope="module")
def make_served() -> Iterator[Callable[..., Served]]:
    """Serve an engine of its own, with these options, until the module ends."""
    closing: list[Callable[[], None]] = []

    def make(**options: Any) -> Served:
        engine = SyncDurableEngine(DurableEngine(services=SERVICES, store=MemoryStore()))
        engine.__enter__()
        closing.append(engine.opened.close)
        serving = nbdurable.serve(engine.opened, ServeOptions(**{"has_token": False, **options}))
        serving.start()
        closing.append(serving.close)
        return Served(engine, serving, SERVICES)

    yield make
    for close in reversed(closing):
        close()


@pytest.fixture(scope="module")
def served(make_served: Callable[..., Served]) -> Served:
    """Without a token, as with `--no-token`."""
    return make_served()
