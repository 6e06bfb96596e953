"""Access that outlives the engine it leads to: what waits is asked again of the next one.

A project's engine moves when the process that has it ends. Between two of them everything waits.
What was under way when the first went may have happened: asking it again is harmless where ids are
drawn by whoever asks, and of looks; of anything else it is told that nobody knows.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import msgspec

from nbdurable.client.query import Found, Parameters
from nbdurable.client.questions import Question
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import (
    Answer,
    CancelInvocation,
    CleanUp,
    Invoke,
    KillInvocation,
    LoadCode,
    Proposal,
    PurgeInvocation,
    PurgeJournal,
    RestartInvocation,
)
from nbdurable.engine.callers import Outcome
from nbdurable.engine.ports import AnswerLimits
from nbdurable.errors import EngineClosedError, LinkLostError

T = TypeVar("T")

# Deciding these twice is deciding them once.
_REPEATABLE = (
    CleanUp,
    Invoke,
    KillInvocation,
    LoadCode,
    PurgeInvocation,
    PurgeJournal,
    RestartInvocation,
)


class Reach(Protocol):
    """The part of an access that belongs to one engine."""

    def propose(self, proposal: Proposal) -> Future[Answer]: ...

    def ask(self, question: Question[T]) -> Future[T]: ...

    def query(
        self, sql: str, parameters: Parameters | None, limits: AnswerLimits
    ) -> Coroutine[Any, Any, Found]: ...

    def attach(self, invocation_id: InvocationId) -> Future[Outcome]: ...

    def watch(self, question: Question[T], listener: Callable[[T], None]) -> Callable[[], None]: ...


class _Wish:
    """Mutable: one thing that was asked and is not answered yet, whoever is to answer it.

    Args:
        proposal: What was to be done; None when somebody only looks.
    """

    def __init__(self, ask: Callable[[Reach], Future[Any]], proposal: Proposal | None) -> None:
        self.ask = ask
        self.proposal = proposal
        self.is_repeatable = proposal is None or isinstance(proposal, _REPEATABLE)
        self.reply: Future[Any] = Future()
        self.asked: Future[Any] | None = None


class _Watched:
    """Mutable: one watch, over however many engines."""

    def __init__(self, question: Question[Any], listener: Callable[[Any], None]) -> None:
        self.question = question
        self.listener = listener
        self.end: Callable[[], None] = lambda: None


class SwitchingAccess:
    """Mutable: which engine it leads to, and what waits. From any thread.

    Args:
        loop: What synchronous code waits for is run there; it outlives every engine.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.RLock()
        self._reach: Reach | None = None
        self._wishes: dict[_Wish, None] = {}
        self._watched: dict[_Watched, None] = {}
        self._code: dict[tuple[str, str], LoadCode] = {}
        self._closed: Exception | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def check_alive(self) -> None:
        if self._closed is not None:
            raise self._closed

    def propose(self, proposal: Proposal) -> Future[Answer]:
        reply = self._wish(lambda reach: reach.propose(proposal), proposal)
        if isinstance(proposal, LoadCode):
            reply.add_done_callback(lambda done: self._loaded(proposal, done))
        return reply

    def ask(self, question: Question[T]) -> Future[T]:
        return self._wish(lambda reach: reach.ask(question))

    async def query(self, sql: str, parameters: Parameters | None, limits: AnswerLimits) -> Found:
        def asked_of(reach: Reach) -> Future[Found]:
            asking = reach.query(sql, parameters, limits)
            return asyncio.run_coroutine_threadsafe(asking, self._loop)

        found: Found = await asyncio.wrap_future(self._wish(asked_of))
        return found

    def attach(self, invocation_id: InvocationId) -> Future[Outcome]:
        return self._wish(lambda reach: reach.attach(invocation_id))

    def watch(self, question: Question[T], listener: Callable[[T], None]) -> Callable[[], None]:
        self.check_alive()
        watched = _Watched(question, listener)
        with self._lock:
            self._watched[watched] = None
            reach = self._reach
        self._begin_watching(watched, reach)

        def end() -> None:
            with self._lock:
                self._watched.pop(watched, None)
            watched.end()

        return end

    # -- for whoever knows where the engine is --------------------------------------------------

    def lead_to(self, reach: Reach | None) -> None:
        """From now on to this engine; None: to nobody for now, and everything waits."""
        with self._lock:
            self._reach = reach
            if reach is None:
                return
            for code in self._code.values():
                with suppress(LinkLostError, EngineClosedError):
                    reach.propose(code)
            for wish in list(self._wishes):
                if wish.asked is None:
                    self._ask(wish, reach)
            watched = list(self._watched)
        for one in watched:
            self._begin_watching(one, reach)

    def close(self, error: Exception | None = None) -> None:
        """Tell everyone who waits that nothing comes any more."""
        with self._lock:
            self._closed = error or EngineClosedError(
                "this process is no longer joined to the journal; open it again"
            )
            self._reach = None
            wishes, self._wishes = list(self._wishes), {}
            self._watched.clear()
        for wish in wishes:
            _fail(wish.reply, self._closed)

    def poison(self, error: Exception) -> None:
        """In a forked child: the engine is the parent's, and so is the lock of this."""
        self._closed = error

    # -- inside ---------------------------------------------------------------------------------

    def _wish(
        self, ask: Callable[[Reach], Future[Any]], proposal: Proposal | None = None
    ) -> Future[Any]:
        wish = _Wish(ask, proposal)
        wish.reply.add_done_callback(lambda reply: self._given_up(wish, reply))
        # Before the lock as well, which a thread may hold that is not in this forked child.
        self.check_alive()
        with self._lock:
            self.check_alive()
            self._wishes[wish] = None
            if self._reach is not None:
                self._ask(wish, self._reach)
        return wish.reply

    def _ask(self, wish: _Wish, reach: Reach) -> None:
        try:
            wish.asked = wish.ask(reach)
        except (LinkLostError, EngineClosedError):
            # It was not even sent: the next engine is asked.
            wish.asked = None
            return
        wish.asked.add_done_callback(lambda asked: self._answered(wish, asked))

    def _answered(self, wish: _Wish, asked: Future[Any]) -> None:
        if asked.cancelled():
            return
        error = asked.exception()
        with self._lock:
            if wish not in self._wishes:
                return
            if isinstance(error, LinkLostError) and wish.is_repeatable:
                wish.asked = None
                if self._reach is not None:
                    self._ask(wish, self._reach)
                return
            del self._wishes[wish]
        if isinstance(error, LinkLostError) and isinstance(wish.proposal, CancelInvocation):
            error = _cancelled_or_not(wish.proposal.invocation_id)
        if error is not None:
            _fail(wish.reply, error)
        elif wish.reply.set_running_or_notify_cancel():
            wish.reply.set_result(asked.result())

    def _loaded(self, code: LoadCode, reply: Future[Answer]) -> None:
        """It is loaded again wherever this leads to next."""
        if not reply.cancelled() and reply.exception() is None:
            of = (code.manifest.name, code.manifest.digest)
            self._code[of] = msgspec.structs.replace(code, again=True)

    def _given_up(self, wish: _Wish, reply: Future[Any]) -> None:
        if not reply.cancelled():
            return
        with self._lock:
            self._wishes.pop(wish, None)
            asked = wish.asked
        if asked is not None:
            asked.cancel()

    def _begin_watching(self, watched: _Watched, reach: Reach | None) -> None:
        """Not under the lock: an engine of this process is waited for."""
        if reach is None:
            return
        try:
            end = reach.watch(watched.question, watched.listener)
        except (LinkLostError, EngineClosedError):
            return
        # Of two that began at once the first one ends.
        watched.end, ended = end, watched.end
        ended()
        if watched not in self._watched:
            end()


def _cancelled_or_not(invocation_id: InvocationId) -> LinkLostError:
    return LinkLostError(
        f"the process that owns the journal ended before it answered; {invocation_id} may be"
        " cancelled or not, and was not cancelled again, because a second time would cut off what"
        f" the first undoes. Its journal says Cancel if it is (nbdurable show {invocation_id});"
        " cancel it once more if it does not"
    )


def _fail(reply: Future[Any], error: BaseException) -> None:
    if reply.set_running_or_notify_cancel():
        reply.set_exception(error)
