"""Engines for tests: on a store in memory, with a clock turned by hand if one is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from nbdurable.client.views import EntryView, InvocationView
from nbdurable.core.ids import InvocationId
from nbdurable.errors import NbdurableError
from nbdurable.sdk import InvocationRetryPolicy
from nbdurable.sdk.definition import Definition
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine

NOW = timedelta(0)
SOON = timedelta(milliseconds=1)
AT_ONCE = InvocationRetryPolicy(initial_interval=SOON, max_interval=SOON)
NEVER_AGAIN = InvocationRetryPolicy(max_attempts=1)

# Long for a machine under load; only a test that fails waits for it.
WAIT_S_MAX = 10.0


class HandClock:
    """A clock that stands still until it is turned. `turn` makes the engine look at it."""

    def __init__(self, now_ms: int = 1_000_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def pass_by(self, ms: int) -> None:
        """Time passes and nobody looks: as during a step."""
        self._now_ms += ms

    async def turn(self, opened: DurableEngine, ms: int) -> None:
        self._now_ms += ms
        engine = opened.engine
        await asyncio.wrap_future(engine.ask(engine._timers._ring))
        # Asked behind the timers that fired, so answered after what they led to.
        await asyncio.wrap_future(engine.ask(lambda: None))


def durable(*services: Definition, store: Any = None, clock: Any = None) -> DurableEngine:
    """For `async with`: an engine on a fresh store in memory, unless told otherwise."""
    return DurableEngine(services=services, store=store or MemoryStore(), clock=clock)


class AlwaysReplaying(DurableEngine):
    """Suspends wherever it can, so that whatever follows an await runs on a replayed journal."""

    def start(self) -> None:
        super().start()
        assert self._link is not None
        self._link.always_replay = True


def replaying(*services: Definition, store: Any = None, clock: Any = None) -> DurableEngine:
    """The same, suspended at every await: all that comes after replays all that came before."""
    return AlwaysReplaying(services=services, store=store or MemoryStore(), clock=clock)


async def until(
    opened: DurableEngine,
    invocation_id: str,
    wanted: Callable[[InvocationView, tuple[EntryView, ...]], bool],
) -> InvocationView:
    """Wait until an invocation looks as wanted: looks after every commit, never sleeps."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[InvocationView] = loop.create_future()
    client, engine = opened.client, opened.engine

    def settle(view: InvocationView) -> None:
        if not found.done():
            found.set_result(view)

    def look(changed: frozenset[InvocationId] | None = None) -> None:
        if changed is not None and invocation_id not in changed:
            return
        try:
            view, entries = client.look_at(invocation_id)
        except NbdurableError:
            return
        if wanted(view, entries):
            loop.call_soon_threadsafe(settle, view)

    def begin() -> Callable[[], None]:
        look()
        return engine.feed.subscribe(look)

    end = await asyncio.wrap_future(engine.ask(begin))
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            return await found
    except TimeoutError:
        view = await client.invocation(invocation_id)
        raise AssertionError(f"still {view!r}: {view.failure}") from None
    finally:
        end()


async def until_status(opened: DurableEngine, invocation_id: str, status: str) -> InvocationView:
    return await until(opened, invocation_id, lambda view, _: view.status == status)


async def until_asked(opened: DurableEngine, count: int = 1) -> None:
    """Wait until so many queries are being answered."""
    history: Any = opened.engine.history()
    async with asyncio.timeout(WAIT_S_MAX):
        while len(history._inside) != count:  # noqa: ASYNC110 - DuckDB tells nobody that it began.
            await asyncio.sleep(0)
