"""One life of a process that owns a journal: an engine and a link, each on a loop of its own.

The same engine, link and client as in production, with the threads taken out: what runs on a thread
there runs on a `VirtualLoop` here. `crash` is what kill -9 is: nothing of it runs ever again, and
the next process opens the store as it was left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from nbdurable.client.calling import Doing
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import Answer, CloseLink, Proposal
from nbdurable.core.settings import DEFAULT_SETTINGS, Settings
from nbdurable.engine.callers import Outcome
from nbdurable.engine.letters import Reply
from nbdurable.engine.loop import Engine
from nbdurable.engine.ports import Link, Store
from nbdurable.errors import EngineClosedError
from nbdurable.invoker.local import LocalLink
from nbdurable.invoker.pool import settle
from nbdurable.invoker.seal import Seal
from nbdurable.invoker.wire_source import WireSource
from nbdurable.sdk.codec import JournalValueCodec, JournalValueCodecProvider
from nbdurable.testing.loop import VirtualLoop
from nbdurable.testing.scheduler import Scheduler
from nbdurable.testing.store import InlineWriter

T = TypeVar("T")

NOT_VIRTUAL = (
    "this test runs on an event loop in real time. Use the fixture `durable_env`, which runs an"
    " `async def` test on one in virtual time (leave out any mark of another asyncio plugin), or"
    " write a plain `def` test with `durable_env.run(...)`"
)
# What pickles are signed with; the next process must read what this one wrote.
PICKLE_KEY = b"of a test"
# Of no release: what wrote this journal is gone with the test.
VERSION = "0"
CRASHED = "the process crashed before this was answered; ask the next one"


def no_time() -> float:
    return 0.0


class Process:
    """Mutable: starts, then crashes or is closed; never starts again."""

    def __init__(
        self,
        scheduler: Scheduler,
        store: Store,
        *,
        settings: Settings = DEFAULT_SETTINGS,
        always_replay: bool = False,
        commit_s: Callable[[], float] = no_time,
        step_s: Callable[[], float] = no_time,
        logs_failures: bool = False,
        codec: JournalValueCodec | JournalValueCodecProvider | None = None,
        around_link: Callable[[Link], Link] = lambda link: link,
    ) -> None:
        self.is_alive = False
        # Why it ended by itself, or None when it crashed or was closed.
        self.over: Future[BaseException | None] = Future()
        self._around_link = around_link
        self._link_count = 1
        self._engine_loop = VirtualLoop(scheduler, "engine")
        self._handler_loop = VirtualLoop(scheduler, "handlers")
        clock = scheduler.clock
        self.engine = AnsweringEngine(
            store,
            clock,
            "a simulated process",
            VERSION,
            settings=settings,
            # Time would always have somewhere to go, and nobody would be told that nothing comes.
            cleanup_interval_ms=None,
            logs_failures=logs_failures,
            make_writer=partial(InlineWriter, latency_s=commit_s),
            # Virtual time never jumps by itself, so that nobody need look whether it did.
            look_again_s=float("inf"),
        )
        self.link = SteppedLink(
            "local 1",
            clock,
            self._post,
            WireSource(Seal(lambda: PICKLE_KEY), codec),
            pool=SteppingPool(self._handler_loop, step_s),
            always_replay=always_replay,
        )
        self.link.scheduler = scheduler

    async def start(self) -> None:
        """Take the store and recover. Raises what opening the store raises."""
        self.is_alive = True
        self._running = self._engine_loop.create_task(self.engine.run())
        self._running.add_done_callback(self._ended)
        self._handling = self._handler_loop.create_task(self.link.run())
        try:
            await asyncio.wrap_future(self.engine.ready)
            await asyncio.wrap_future(self.link.ready)
            await asyncio.wrap_future(self.engine.add_link(self._around_link(self.link)))
        except BaseException:
            self.crash()
            self.bury()
            raise

    async def lose_link(self) -> None:
        """The handlers' side is gone and is there again, as an attached process may be."""
        lost = self.link.name
        self._link_count += 1
        self.link.name = f"local {self._link_count}"
        self.link.stop_all("the link was lost")
        await asyncio.wrap_future(self.engine.propose(CloseLink(link=lost)))
        await asyncio.wrap_future(self.engine.add_link(self._around_link(self.link)))

    def crash(self) -> None:
        """Stop between two callbacks, for good. Whoever waits is told."""
        self.is_alive = False
        for attempt in self.link.attempts:
            attempt.machine.close()
            if attempt.thread is not None:
                attempt.thread.let_go()
        self._engine_loop.close()
        self._handler_loop.close()
        self.engine.fail_all(EngineClosedError(CRASHED))
        if self._running.done() and not self._running.cancelled():
            self._running.exception()  # Seen: or it would be logged as never retrieved.
        for begins in (self.engine.ready, self.link.ready):
            if not begins.done():
                begins.set_exception(EngineClosedError(CRASHED))
        if not self.over.done():
            self.over.set_result(None)

    async def close(self) -> None:
        """As `DurableEngine.close`: what ran goes on when the journal is opened again."""
        self.link.stop()
        await _ended(self._handling)
        self.engine.stop()
        await _ended(self._running)
        self.crash()

    def bury(self) -> None:
        """Free what a crash left standing. Its `finally` blocks run here: late, and unheard."""
        self._engine_loop.bury()
        self._handler_loop.bury()

    def _ended(self, running: asyncio.Task[None]) -> None:
        why = None if running.cancelled() else running.exception()
        if not self.over.done():
            self.over.set_result(why)

    def _post(self, proposal: Proposal) -> None:
        if self.is_alive:
            self.engine.post(proposal)


def check_virtual() -> VirtualLoop | None:
    """The running loop, if any runs. On one in real time nothing asked here would be answered."""
    loop = asyncio._get_running_loop()  # noqa: SLF001 - the documented way to ask for none.
    if loop is not None and not isinstance(loop, VirtualLoop):
        raise RuntimeError(NOT_VIRTUAL)
    return loop


class AnsweringEngine(Engine):
    """Mutable: an engine that knows who waits for it, so that they hear of a crash."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._asked: set[Future[Any] | Doing] = set()

    def submit(self, proposal: Proposal, reply: Reply[Answer]) -> None:
        super().submit(proposal, reply)
        if isinstance(reply, Doing):
            self._asked.add(reply)
            reply.future.add_done_callback(lambda _: self._asked.discard(reply))

    def propose(self, proposal: Proposal) -> Future[Answer]:
        return self._await(super().propose(proposal))

    def ask(self, question: Callable[[], T], *, only_looks: bool = False) -> Future[T]:
        return self._await(super().ask(question, only_looks=only_looks))

    def attach(self, invocation_id: InvocationId) -> Future[Outcome]:
        return self._await(super().attach(invocation_id))

    def fail_all(self, error: BaseException) -> None:
        self._dead = error
        for reply in list(self._asked):
            if not reply.done() and reply.set_running_or_notify_cancel():
                reply.set_exception(error)

    def _await(self, future: Future[T]) -> Future[T]:
        check_virtual()
        if not future.done():
            self._asked.add(future)
            future.add_done_callback(self._asked.discard)
        return future


class SteppedLink(LocalLink):
    """Nothing else happens while the thread of a `def` handler computes, whoever is faster."""

    scheduler: Scheduler

    def thread_runs(self, change: int) -> None:
        self.scheduler.thread_runs(self, change)


class SteppingPool:
    """`def` steps run on the handlers' loop, one at a time, each taking some virtual time."""

    def __init__(self, loop: VirtualLoop, step_s: Callable[[], float]) -> None:
        self._loop = loop
        self._step_s = step_s

    def run(self, call: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
        done = loop.create_future()
        delay_s = self._step_s()
        if delay_s:
            self._loop.call_later(delay_s, _work, done, call)
        else:
            self._loop.call_soon(_work, done, call)
        return done

    def close(self) -> None:
        pass


def _work(done: asyncio.Future[Any], call: Callable[[], Any]) -> None:
    if done.cancelled():
        return
    try:
        settle(done, call(), None)
    except BaseException as error:  # noqa: BLE001 - border: the awaiting side gets it.
        settle(done, None, error)


async def _ended(task: asyncio.Task[Any]) -> None:
    """Wait for a task of another loop, however it ends."""
    over: Future[None] = Future()
    task.add_done_callback(lambda _: over.set_result(None))
    await asyncio.wrap_future(over)
