"""Whoever owns the journal hears how runs stand, and passes it on.

    feed -- these runs changed --> how does each stand? --> the fire that waits for it, as a signal
                                                        --> whom the settings name, as a notice

What it passes on is journaled, under a name that is the same for the same event: so nobody is told
twice, and what a crash has kept from being told is told by the next owner.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from nbdurable.client.engine import EngineClient
from nbdurable.core.builtin import FIRE_SERVICE
from nbdurable.core.facts import Completed
from nbdurable.core.ids import InvocationId
from nbdurable.core.state import Invocation
from nbdurable.engine.loop import Engine
from nbdurable.errors import NbdurableError
from nbdurable.schedules.notify import NOTICES, Notice, tell
from nbdurable.schedules.service import DIGESTS, SIGNAL, Stands
from nbdurable.schedules.standing import Standing, standing_of

if TYPE_CHECKING:
    from nbdurable.settings.model import Notify

logger = logging.getLogger("nbdurable")

# What had ended before this owner came is told if it is no older: its own may have died with it.
_PAST_MS: Final = 3_600_000


class Herald:
    """Mutable; owned by the engine's thread."""

    def __init__(self, engine: Engine, client: EngineClient, options: Notify | None) -> None:
        self._engine = engine
        self._client = client
        self._options = options
        self._told: dict[InvocationId, str] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._is_loaded = False
        self._unsubscribe: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<Herald {self._options}, {len(self._told)} runs stand>"

    def begin(self) -> None:
        """Hear of every run from now on, and of those that stand."""
        self._unsubscribe = self._engine.feed.subscribe(self._hear)
        state = self._engine.machine.state
        past_ms = self._client.now_ms() - _PAST_MS
        recent = [one for one, of in state.completed.items() if of.completed_at_ms >= past_ms]
        self._hear(frozenset((*state.invocations, *recent)))

    def close(self) -> None:
        """From any thread."""
        self._unsubscribe()

    def _hear(self, changed: frozenset[InvocationId]) -> None:
        state = self._engine.machine.state
        for one in changed:
            inv = state.find(one)
            if isinstance(inv, Completed) and self._options is None:
                # A fire is told the end by its call.
                self._told.pop(one, None)
                continue
            stands = None if inv is None else standing_of(state, inv)
            if inv is None or stands is None:
                self._told.pop(one, None)
                continue
            if self._told.get(one) == stands.token:
                continue
            if stands.is_over:
                # Nothing more is heard of it.
                self._told.pop(one, None)
            else:
                self._told[one] = stands.token
            self._pass_on(inv, stands)

    def _pass_on(self, inv: Invocation | Completed, stands: Standing) -> None:
        if isinstance(inv, Invocation):
            for fire in self._fires_of(inv):
                said = Stands(event=stands.event, token=stands.token, why=stands.why)
                self._do(self._client.resolve_signal(fire, SIGNAL, said))
        options = self._options
        if options is None or stands.event not in options.on:
            return
        if options.services and inv.target.service not in options.services:
            return
        said_of = {
            "event": stands.event,
            "target": str(inv.target),
            "id": inv.id,
            "failure" if stands.event == "failed" else "why": stands.why,
        }
        self._do(self._tell(Notice(to=options.to, said=said_of), stands.token))

    def _fires_of(self, inv: Invocation) -> list[InvocationId]:
        """The fires of schedules that wait for this run."""
        waiting = [waiter.invocation_id for waiter in inv.waiters or ()]
        if inv.caller is not None:
            waiting.append(inv.caller.invocation_id)
        state = self._engine.machine.state
        return [
            one
            for one in dict.fromkeys(waiting)
            if (fire := state.invocations.get(one)) is not None
            and fire.target.service == FIRE_SERVICE
        ]

    async def _tell(self, notice: Notice, token: str) -> None:
        if not self._is_loaded:
            self._is_loaded = True
            await self._client.register(NOTICES, digest=DIGESTS[NOTICES.name])
        await self._client.service_send(tell, notice, idempotency_key=token)

    def _do(self, deed: Coroutine[Any, Any, object]) -> None:
        """On the engine's loop, after what is decided now."""

        async def done() -> None:
            try:
                await deed
            except NbdurableError as error:  # border: the next owner tells what is not told.
                logger.debug("it was not told: %s", error)

        task = asyncio.get_running_loop().create_task(done())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
