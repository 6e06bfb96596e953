"""`DurableEnv`: a journal, an engine and a client for one test, in virtual time.

Waiting takes no time: a workflow that sleeps for thirty days ends in a millisecond. What runs is
the engine of production on a store in memory. Everything happens on the test's own thread, one
callback at a time, so that a test that passes once passes always.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from datetime import datetime, timedelta
from functools import partial
from random import Random
from types import TracebackType
from typing import Any, Self, TypeVar

from nbdurable.client.access import LocalAccess
from nbdurable.client.local import LocalClient
from nbdurable.client.seeds import SEED_BITS
from nbdurable.client.views import InvocationView, invocation_view
from nbdurable.core.proposals import Answer, Refused
from nbdurable.engine.ports import Store
from nbdurable.errors import DefinitionError, EngineClosedError
from nbdurable.invoker.manifest import manifest_of
from nbdurable.invoker.options import settings_of
from nbdurable.sdk.codec import JournalValueCodec, JournalValueCodecProvider
from nbdurable.sdk.definition import Definition, by_name
from nbdurable.sdk.options import EngineOptions
from nbdurable.store.memory import MemoryStore
from nbdurable.testing.clock import BEGINS_AT, VirtualClock
from nbdurable.testing.loop import VirtualLoop
from nbdurable.testing.process import Process, check_virtual
from nbdurable.testing.scheduler import Scheduler

T = TypeVar("T")


class DurableEnv:
    """Mutable; owned by the thread of the test.

    ```python
    def test_an_order_is_confirmed_after_a_month(durable_env):
        durable_env.serve(orders)
        call = durable_env.client.workflow_call(run, "order-456", 100)
        assert durable_env.run(call) == "confirmed"
        assert durable_env.now == datetime(2026, 1, 31, tzinfo=UTC)
    ```

    Args:
        services: What can be called; more with `serve`.
        store: Where the journal is; by default in memory, and gone with the test.
        always_replay: Suspend at every await, so that all code after one runs on a replayed
            journal: what a handler does differently the second time is found.
        seed: Another seed is another order in which engine, handlers and test take turns.
        begins_at: The time it is at first.
        options: As those of `nbdurable.open()`.
        journal_value_codec: The same.
    """

    def __init__(
        self,
        services: Iterable[Definition] = (),
        *,
        store: Store | None = None,
        always_replay: bool = False,
        seed: int = 0,
        begins_at: datetime = BEGINS_AT,
        options: EngineOptions | None = None,
        journal_value_codec: JournalValueCodec | JournalValueCodecProvider | None = None,
    ) -> None:
        self.always_replay = always_replay
        self._store = store or MemoryStore()
        self._settings = settings_of(options or EngineOptions())
        self._codec = journal_value_codec or getattr(services, "journal_value_codec", None)
        self._random = Random(seed)  # noqa: S311 - repeatable is the point.
        self._clock = VirtualClock(begins_at)
        self._services = list(by_name(services).values())
        self._serving: list[Future[Answer]] = []
        self._loop: VirtualLoop | None = None
        self._runner: asyncio.Runner | None = None
        self._process: Process | None = None
        self._crashed: list[Process] = []
        self._client: EnvClient | None = None

    def __repr__(self) -> str:
        state = "closed" if self._process is None else "open"
        return (
            f"<DurableEnv {state} at {self.now:%Y-%m-%d %H:%M:%S}, {len(self._services)} services>"
        )

    # -- what tests use -----------------------------------------------------------------------

    @property
    def client(self) -> LocalClient:
        """Goes on being the client after a `crash`."""
        if self._client is None:
            raise EngineClosedError("the environment is not open; use the fixture, or `with`")
        return self._client

    @property
    def now(self) -> datetime:
        return self._clock.now()

    def serve(self, *services: Definition) -> None:
        """Make these callable, now and after a crash. A changed definition is a new revision.

        Raises:
            DefinitionError: One of them cannot be served.
        """
        for service in services:
            manifest_of(service)
            same_name = [known for known in self._services if known.name == service.name]
            self._services = [known for known in self._services if known not in same_name]
            self._services.append(service)
            if self._client is not None:
                self._serving.append(self._client.serve(service))

    def run(self, what: Awaitable[T] | Callable[[], Awaitable[T]]) -> T:
        """Run something awaitable, or an async function, to its end: for plain `def` tests.

        Raises:
            DeadlockError: It waits for what will never come; the text says who waits for what.
        """
        if self._runner is None or check_virtual() is not None:
            raise RuntimeError("`run` is for plain `def` tests; in an `async def` one, await it")
        awaitable = what() if callable(what) else what
        result = self._runner.run(_awaited(awaitable))
        self._check_served()
        return result

    async def advance(self, delta: timedelta) -> None:
        """Let this much time pass, and all that it brings about happen."""
        await asyncio.sleep(delta.total_seconds())
        await self.settle()
        # In production every hour; whoever looks here sees what is there then.
        await self.client.clean_up()

    async def settle(self) -> None:
        """Let everything happen that can without time passing."""
        loop = running_loop()
        idle = loop.create_future()
        loop.scheduler.when_idle(partial(_settle, idle))
        await idle
        self._check_served()

    async def crash(self) -> None:
        """Kill the process as it stands and start the next one on the same journal.

        What was not committed is lost. Whoever waits for an answer gets an EngineClosedError and
        can ask again.
        """
        assert self._process is not None, "it is not open"
        self._crashed.append(self._process)
        self._process.crash()
        await self._start()

    # -- opening and closing ------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._loop = running_loop()
        self._loop.scheduler.explain = self._live_invocations
        try:
            await self._start()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process, self._process, self._client = self._process, None, None
        if process is not None:
            await process.close()
            self._crashed.append(process)
        for crashed in self._crashed:
            crashed.bury()

    def __enter__(self) -> Self:
        scheduler = Scheduler(self._random, self._clock)
        self._runner = asyncio.Runner(loop_factory=lambda: VirtualLoop(scheduler))
        try:
            self._runner.run(self.__aenter__())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        runner, self._runner = self._runner, None
        assert runner is not None
        try:
            runner.run(self.__aexit__(kind, error, trace))
        finally:
            runner.close()

    # -- inside -------------------------------------------------------------------------------

    async def _start(self) -> None:
        loop = self._loop
        assert loop is not None
        self._clock = loop.scheduler.clock
        process = Process(
            loop.scheduler,
            self._store,
            settings=self._settings,
            always_replay=self.always_replay,
            logs_failures=True,
            codec=self._codec,
        )
        await process.start()
        self._process = process
        if self._client is None:
            self._client = EnvClient(process, self)
        else:
            self._client.speak_to(process)
        for service in self._services:
            await self._client.register(service)

    def _check_served(self) -> None:
        answered = [served.result() for served in self._serving if served.done()]
        self._serving = [served for served in self._serving if not served.done()]
        for answer in answered:
            if isinstance(answer, Refused):
                raise DefinitionError(answer.message)

    def draw_seed(self) -> int:
        return self._random.getrandbits(SEED_BITS)

    def _live_invocations(self) -> list[str]:
        if self._process is None:
            return []
        state = self._process.engine.machine.state
        return [_said(invocation_view(state, inv)) for inv in state.live()]


def running_loop() -> VirtualLoop:
    loop = check_virtual()
    if loop is None:
        raise RuntimeError("no event loop runs; use `durable_env.run(...)`")
    return loop


class EnvClient(LocalClient):
    """Mutable: which process it speaks to."""

    def __init__(self, process: Process, env: DurableEnv) -> None:
        super().__init__(process.engine, process.link, draw_seed=env.draw_seed)
        self._env = env

    def speak_to(self, process: Process) -> None:
        self._engine, self._link = process.engine, process.link
        self._access = LocalAccess(process.engine)
        self._wires = process.link.wires

    def serve(self, service: Definition) -> Future[Answer]:
        """Before whatever is asked next: its proposal is in the mailbox when this returns."""
        return self._access.propose(self._offered(service, manifest_of(service)))

    def wait(self, asked: Coroutine[Any, Any, T]) -> T:
        return self._env.run(asked)


def _settle(idle: asyncio.Future[None]) -> None:
    if not idle.done():
        idle.set_result(None)


async def _awaited(what: Awaitable[T]) -> T:
    return await what


def _said(view: InvocationView) -> str:
    said = f"{view.target} is {view.headline}"
    awakeables = ", ".join(view.open_awakeables)
    return f"{said}; nobody has completed awakeable {awakeables}" if awakeables else said
