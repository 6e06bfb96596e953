"""An engine on a store in memory, and its handlers at the other end of a real attached link.

Both ends are in this process, so that a test can look at the engine; between them are a socket and
bytes, as between two processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbdurable.client.engine import EngineClient
from nbdurable.client.questions import InvocationAndJournal
from nbdurable.client.views import EntryView, InvocationView
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import Loaded
from nbdurable.engine.loop import Engine
from nbdurable.invoker.frames import LINK_PATH
from nbdurable.sdk.definition import Definition
from nbdurable.server.serving import Serving
from nbdurable.sharing.joined import Joined, Place
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine, OpenableEngine


class JoinedEngine(OpenableEngine):
    """For `async with`, as `durable()` is; `client` and handlers are those of the joined side."""

    def __init__(
        self,
        *services: Definition,
        path: Path | None = None,
        store: Any = None,
        clock: Any = None,
        slots: int | None = None,
        always_replay: bool = False,
    ) -> None:
        self._services = services
        in_memory = None if path else store or MemoryStore()
        self.owner = DurableEngine(path, store=in_memory, clock=clock)
        # It never owns: the owner's journal is in memory, and this one's is nowhere.
        self._here = DurableEngine(store=MemoryStore(), clock=clock)
        self._slots = slots
        self._always_replay = always_replay
        self._client: JoinedClient | None = None

    @property
    def path(self) -> Any:
        return self.owner.path

    @property
    def engine(self) -> Engine:
        return self.owner.engine

    @property
    def owned(self) -> DurableEngine:
        return self.owner

    @property
    def client(self) -> Any:
        assert self._client is not None
        return self._client

    def start(self) -> None:
        self.owner.start()
        self.serving = Serving(self.owner)
        self.serving.start()
        self._here.link.always_replay = self._always_replay
        url = self.over(self.serving.admin_url).replace("http", "ws", 1) + LINK_PATH
        place = Place(url, {"authorization": f"Bearer {self.serving.token}"})
        self.joined = Joined(self._here, lambda: place, slots=self._slots)
        client = self.joined.start()
        self._client = JoinedClient(client, self.owner.engine)

    def over(self, url: str) -> str:
        """The address by which the owner is reached: its own, unless a wire is in between."""
        return url

    async def register_all(self) -> list[Loaded]:
        return [await self.client.register(service) for service in self._services]

    def close(self) -> None:
        self.joined.close()
        self.serving.close()
        self.owner.close()


class JoinedClient(EngineClient):
    """With the look that tests take on the engine's thread."""

    def __init__(self, client: EngineClient, engine: Engine) -> None:
        super().__init__(client._access, client._link)
        self._engine = engine

    def look_at(self, invocation_id: str) -> tuple[InvocationView, tuple[EntryView, ...]]:
        question = InvocationAndJournal(invocation_id=InvocationId(invocation_id))
        return question.answer(self._engine)
