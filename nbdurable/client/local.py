"""The client of an engine in this process, with what only that one can do."""

from __future__ import annotations

from collections.abc import Callable

from nbdurable.client.access import LocalAccess
from nbdurable.client.calling import Calling
from nbdurable.client.calm import Calm, calm_of
from nbdurable.client.engine import EngineClient
from nbdurable.client.operator import error_of
from nbdurable.client.questions import InvocationAndJournal
from nbdurable.client.raw import RawClient
from nbdurable.client.returning import heard, returning_here
from nbdurable.client.views import EntryView, InvocationView
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import Invoke, Invoked, Refused
from nbdurable.engine.callers import Outcome
from nbdurable.engine.loop import Engine
from nbdurable.invoker.local import LocalLink
from nbdurable.invoker.wire_source import WireSource


class LocalClient(EngineClient):
    """Stateless; every method is one proposal to the engine, or one look at it."""

    def __init__(
        self,
        engine: Engine,
        link: LocalLink,
        *,
        wires: WireSource | None = None,
        draw_seed: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(LocalAccess(engine), link, wires=wires, draw_seed=draw_seed)
        self._engine = engine

    def look_at(self, invocation_id: str) -> tuple[InvocationView, tuple[EntryView, ...]]:
        """Both read models. On the engine's thread only: for feeds."""
        question = InvocationAndJournal(invocation_id=InvocationId(invocation_id))
        return question.answer(self._engine)

    async def calm(self, until_ms: int) -> Calm:
        """Whether anything here needs a process before then; see `Calm`."""
        mine = self._link.name
        return await heard(self._engine.ask(lambda: calm_of(self._engine, mine, until_ms)))

    async def _came_to(self, invoke: Invoke, *, is_run: bool) -> Outcome | Invoked:
        """In one letter, where the other engine of an attached process takes two."""
        came_to = await Calling(self._engine, returning_here(), invoke, is_run=is_run).came_to()
        if isinstance(came_to, Refused):
            raise error_of(came_to)
        return came_to

    def raw(self) -> RawClient:
        """For the loop that runs now: calls by name, bytes in and bytes out."""
        return RawClient(self._engine, self._link.clock)

    def without_codec(self) -> LocalClient:
        """For an ingress: whoever sends values to it has applied the codec, and undoes it."""
        wires = self._link.wires.without_codec()
        return LocalClient(self._engine, self._link, wires=wires)
