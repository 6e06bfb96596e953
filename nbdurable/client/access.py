"""How a client reaches the engine: in this process, or over a link to the process that has it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Protocol, TypeVar

from nbdurable.client.query import Found, Parameters, ask
from nbdurable.client.questions import Question
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import Answer, Proposal
from nbdurable.engine.callers import Outcome
from nbdurable.engine.loop import Engine
from nbdurable.engine.ports import AnswerLimits
from nbdurable.errors import EngineClosedError, InvocationNotFoundError

T = TypeVar("T")


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

    def watch(self, question: Question[T], listener: Callable[[T], None]) -> Callable[[], None]:
        """Tell the answer, now and whenever it may be another one; returns the end of it.

        At most `question.asked_per_s_max` times a second, and the last answer is always told.
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
        return self._engine.look(lambda: question.answer(self._engine))

    async def query(self, sql: str, parameters: Parameters | None, limits: AnswerLimits) -> Found:
        return await ask(self._engine.history(), sql, parameters, limits)

    def attach(self, invocation_id: InvocationId) -> Future[Outcome]:
        return self._engine.attach(invocation_id)

    def watch(self, question: Question[T], listener: Callable[[T], None]) -> Callable[[], None]:
        return self._engine.look(lambda: watch_on(self._engine, question, listener)).result()


def watch_on(
    engine: Engine, question: Question[T], listener: Callable[[T], None]
) -> Callable[[], None]:
    """On the engine's thread, as the listener is."""
    pending = False
    told_at_s = 0.0
    look_at = question.looker()

    def tell() -> None:
        nonlocal pending, told_at_s
        pending, told_at_s = False, engine.loop.time()
        try:
            answer = look_at(engine)
        except InvocationNotFoundError:
            return
        listener(answer)

    def changed(invocation_ids: frozenset[InvocationId]) -> None:
        nonlocal pending
        if not pending and question.is_about(invocation_ids):
            pending = True
            # What comes alone is told at once.
            next_at_s = told_at_s + 1 / question.asked_per_s_max
            engine.loop.call_later(max(next_at_s - engine.loop.time(), 0), look)

    def look() -> None:
        with suppress(EngineClosedError):
            engine.ask(tell)

    tell()
    return engine.feed.subscribe(changed)
