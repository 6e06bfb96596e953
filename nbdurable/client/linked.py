"""Access to an engine in another process: proposals and questions go over the attached link.

For one connection; when that is lost, whoever still waits is told so (see `switching.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from nbdurable import errors
from nbdurable.client.found_json import found_of, question_json
from nbdurable.client.query import Found, Parameters
from nbdurable.client.questions import Question
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import (
    Answer,
    Cleaned,
    Done,
    Invoked,
    Loaded,
    Proposal,
    Refused,
    Stale,
)
from nbdurable.engine.callers import Outcome
from nbdurable.engine.ports import AnswerLimits
from nbdurable.errors import EngineClosedError, HttpError, LinkLostError, NbdurableError
from nbdurable.invoker.frames import (
    Ask,
    Attach,
    Leave,
    Propose,
    Query,
    Raised,
    Reply,
    Told,
    Up,
    Watch,
    encode,
)

T = TypeVar("T")

_LOST: Final = (
    "the process that owns the journal ended before it answered; what was asked of it may have"
    " happened or not. Look, and ask again if it has not"
)

_AnyAnswer = Done | Invoked | Loaded | Cleaned | Refused | Stale


class _Waiting(NamedTuple):
    """Who waits for the replies to one frame, and as what they are read."""

    answered: Any
    heard: Callable[[Any], None]
    failed: Callable[[Exception], None]
    is_watch: bool = False


class LinkedAccess:
    """Mutable: who waits for which reply. From any thread; replies come on the link's.

    Not a whole `Access`: it ends with its connection.
    """

    def __init__(self, send: Callable[[Up], None]) -> None:
        self._send = send
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, _Waiting] = {}
        self._lost: LinkLostError | None = None

    def propose(self, proposal: Proposal) -> Future[Answer]:
        try:
            raw = msgspec.Raw(encode(proposal))
        except (TypeError, ValueError) as error:
            # As an engine of this process answers what its journal cannot hold.
            refused: Future[Answer] = Future()
            refused.set_result(Refused(code=400, message=f"it cannot be recorded: {error}"))
            return refused
        return self._request(_AnyAnswer, lambda id_: Propose(id=id_, proposal=raw))

    def ask(self, question: Question[T]) -> Future[T]:
        raw = msgspec.Raw(encode(question))
        return self._request(question.answered, lambda id_: Ask(id=id_, question=raw))

    async def query(self, sql: str, parameters: Parameters | None, limits: AnswerLimits) -> Found:
        question = question_json(sql, parameters)
        time_ms, rows_max, bytes_max = limits
        reply = self._request(
            bytes,
            lambda id_: Query(
                id=id_,
                question=question,
                time_ms=time_ms,
                rows_max=rows_max,
                bytes_max=bytes_max,
            ),
        )
        return found_of(await asyncio.wrap_future(reply))

    def attach(self, invocation_id: InvocationId) -> Future[Outcome]:
        return self._request(Outcome, lambda id_: Attach(id=id_, invocation_id=invocation_id))

    def watch(self, question: Question[T], listener: Callable[[T], None]) -> Callable[[], None]:
        def ignore(_: Exception) -> None:
            """Whoever watches is told nothing more, as of an invocation that was purged."""

        raw = msgspec.Raw(encode(question))
        id_ = self._wait(_Waiting(question.answered, listener, ignore, is_watch=True))
        self._send(Watch(id=id_, question=raw))
        return lambda: self._leave(id_)

    def heard(self, reply: Reply) -> None:
        """On the link's thread."""
        with self._lock:
            waiting = self._waiting.get(reply.id)
            if waiting is not None and not waiting.is_watch:
                del self._waiting[reply.id]
        if waiting is None:
            return
        match reply:
            case Told(value=value):
                waiting.heard(msgspec.msgpack.decode(value, type=waiting.answered))
            case Raised():
                waiting.failed(_error_of(reply))

    def lost(self) -> None:
        """Nothing is answered any more."""
        with self._lock:
            self._lost = LinkLostError(_LOST)
            waiting, self._waiting = list(self._waiting.values()), {}
        for one in waiting:
            one.failed(self._lost)

    def _request(self, answered: Any, frame: Callable[[int], Up]) -> Future[Any]:
        reply: Future[Any] = Future()

        def heard(value: object) -> None:
            if reply.set_running_or_notify_cancel():
                reply.set_result(value)

        def failed(error: Exception) -> None:
            if reply.set_running_or_notify_cancel():
                reply.set_exception(error)

        id_ = self._wait(_Waiting(answered, heard, failed))
        reply.add_done_callback(lambda done: self._leave(id_) if done.cancelled() else None)
        self._send(frame(id_))
        return reply

    def _wait(self, waiting: _Waiting) -> int:
        with self._lock:
            if self._lost is not None:
                raise self._lost
            id_ = next(self._ids)
            self._waiting[id_] = waiting
        return id_

    def _leave(self, id_: int) -> None:
        with self._lock:
            waited = self._waiting.pop(id_, None)
        if waited is not None:
            try:
                self._send(Leave(id=id_))
            except LinkLostError:
                return


def _error_of(raised: Raised) -> Exception:
    """As it was raised over there; a class that is not ours, or takes more than a text, is told."""
    if raised.name == KeyError.__name__:
        return KeyError(raised.message)
    if raised.name == EngineClosedError.__name__:
        # Theirs, and not that of whoever asks: the next owner's may answer.
        return LinkLostError(_LOST)
    if raised.name == HttpError.__name__:
        return HttpError(raised.status, raised.message)
    kind = getattr(errors, raised.name, None)
    if isinstance(kind, type) and issubclass(kind, NbdurableError):
        return kind(raised.message)
    return NbdurableError(raised.message)
