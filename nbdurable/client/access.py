"""How a client reaches the engine: in this process, or over a link to the process that has it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Protocol, TypeVar

from nbdurable.client.query import Found, Parameters, ask
from nbdurable.client.questions import InvocationAndJournal, Question
from nbdurable.client.views import EntryView, InvocationView
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import Answer, Proposal
from nbdurable.engine.callers import Outcome
from nbdurable.engine.loop import Engine
from nbdurable.engine.ports import AnswerLimits
from nbdurable.errors import EngineClosedError, InvocationNotFoundError

T = TypeVar("T")

# As often as a person can follow; each telling folds the whole journal again.
WATCH_PER_S_MAX = 20

Listener = Callable[[InvocationView, tuple[EntryView, ...]], None]


class Access(Protocol):
    """Used from any thread; a listener is called on a thread of the access's own."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Runs for as long as the access is open: what synchronous code waits for is run there."""

    def check_alive(self) -> None:
        """Raises why nothing can be asked any more, if so."""

    def propose(self, proposal: Proposal) -> Future[Answer]:
        """The answer comes after the commit of what was decided."""

    def ask(self, question: Question[T]) -> Future[T]: ...

    async def query(self, sql: str, parameters: Parameters | None, limits: AnswerLimits) -> Found:
        """One SELECT; cancelling the wait interrupts it.

        Raises:
            QueryError: It is refused, wrong, too much, or was interrupted; the text says which.
        """

    def attach(self, invocation_id: InvocationId) -> Future[Outcome]:
        """The outcome, now or when it ends. KeyError when there is none."""

    def watch(self, invocation_id: InvocationId, listener: Listener) -> Callable[[], None]:
        """Tell what the invocation looks like, now and whenever it changes; returns the end of it.

        At most WATCH_PER_S_MAX times a second, and the last state is always told.
        """


class LocalAccess:
    """To the engine of this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._engine.loop

    def check_alive(self) -> None:
        self._engine.check_alive()

    def propose(self, proposal: Proposal) -> Future[Answer]:
        return self._engine.propose(proposal)

    def ask(self, question: Question[T]) -> Future[T]:
        return self._engine.ask(lambda: question.answer(self._engine))

    async def query(self, sql: str, parameters: Parameters | None, limits: AnswerLimits) -> Found:
        return await ask(self._engine.history(), sql, parameters, limits)

    def attach(self, invocation_id: InvocationId) -> Future[Outcome]:
        return self._engine.attach(invocation_id)

    def watch(self, invocation_id: InvocationId, listener: Listener) -> Callable[[], None]:
        return self._engine.ask(lambda: watch_on(self._engine, invocation_id, listener)).result()


def watch_on(engine: Engine, invocation_id: InvocationId, listener: Listener) -> Callable[[], None]:
    """On the engine's thread, as the listener is."""
    pending = False
    question = InvocationAndJournal(invocation_id=invocation_id)

    def tell() -> None:
        nonlocal pending
        pending = False
        try:
            view, entries = question.answer(engine)
        except InvocationNotFoundError:
            return
        listener(view, entries)

    def changed(invocation_ids: frozenset[InvocationId]) -> None:
        nonlocal pending
        if invocation_id in invocation_ids and not pending:
            pending = True
            engine.loop.call_later(1 / WATCH_PER_S_MAX, look)

    def look() -> None:
        with suppress(EngineClosedError):
            engine.ask(tell)

    tell()
    return engine.feed.subscribe(changed)
