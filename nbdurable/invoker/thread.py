"""The thread that one `def` handler runs on, for one attempt. Never one of the steps' threads.

The attempt's machine is touched on the handler loop only. So the handler's thread hands every
question over to the loop and stands still until it is answered: the two take turns, and the order
of the handler's calls is the order of its own lines, as in an `async def` handler.

When the attempt is over, the thread is thrown out of whatever it waits for with `AttemptClosed`.
It is a daemon: a handler that hangs does not keep the process alive.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar, cast

from nbdurable.errors import AttemptClosed
from nbdurable.invoker.lines import thread_line
from nbdurable.sdk.blocking import discard

T = TypeVar("T")

# Code that waits again however often it is told that the attempt is over would spin, and on the
# loop no other handler would run. Unwinding takes a wait per `finally` and `with`, never this many.
REFUSALS_MAX = 1_000


def stand_still() -> None:
    """Never returns. The thread is a daemon, and holds nothing of ours."""
    threading.Event().wait()


class Wait(NamedTuple):
    """The handler stands still until this is awaited on the loop."""

    awaitable: Awaitable[Any]
    reply: Future[Any]


class Ended(NamedTuple):
    """The handler has returned or raised."""

    value: Any
    error: BaseException | None


class Asked(Protocol):
    """The attempt, as its handler's thread sees it."""

    @property
    def is_closed(self) -> bool: ...

    def was_asked(self) -> None:
        """Called on the loop after every question."""

    def thread_runs(self, change: int) -> None:
        """Told 1 when the thread is let go on, and by it -1 when it stands still."""


class HandlerThread:
    """Mutable: `_reply` and `_is_over`, under the lock; the rest belongs to the loop's thread.

    `_refusal_count` belongs to the handler's thread.
    """

    def __init__(self, name: str, attempt: Asked) -> None:
        self._name = name
        self._attempt = attempt
        self._loop = asyncio.get_running_loop()
        self._wishes: asyncio.Queue[Wait | Ended] = asyncio.Queue()
        self._ident: int | None = None
        self._lock = threading.Lock()
        self._is_over = False
        self._reply: Future[Any] | None = None
        self._refusal_count = 0

    # -- on the loop --------------------------------------------------------------------------

    async def run(self, handler: Callable[[], T]) -> T:
        """Run the handler to its end; what it returns is returned, what it raises is raised.

        Raises:
            AttemptClosed: The attempt was over first. The thread has been unwound by then.
        """
        context = contextvars.copy_context()
        self._attempt.thread_runs(1)
        threading.Thread(
            target=context.run, args=(self._live, handler), name=self._name, daemon=True
        ).start()
        try:
            while isinstance(wish := await self._wishes.get(), Wait):
                await self._grant(wish)
        except AttemptClosed:
            self.let_go()
            # Its `finally` blocks still run; whoever stops us meanwhile stops the waiting only.
            while not isinstance(await self._wishes.get(), Ended):
                pass
            raise
        finally:
            self.let_go()
        if wish.error is not None:
            raise wish.error
        return cast("T", wish.value)

    def line(self) -> str | None:
        """Where in the user's code the thread is."""
        return thread_line(self._ident, HandlerThread._live.__code__)

    async def _grant(self, wish: Wait) -> None:
        try:
            value = await wish.awaitable
        except AttemptClosed:
            raise
        except BaseException as error:  # noqa: BLE001 - border: the handler gets it, whatever it is.
            self._attempt.thread_runs(1)
            wish.reply.set_exception(error)
        else:
            self._attempt.thread_runs(1)
            wish.reply.set_result(value)

    def _answer(self, question: Callable[[], Any], reply: Future[Any]) -> None:
        if reply.done():
            return
        self._attempt.thread_runs(1)
        try:
            value = question()
        except BaseException as error:  # noqa: BLE001 - border: the handler gets it, whatever it is.
            reply.set_exception(error)
        else:
            reply.set_result(value)
        self._attempt.was_asked()

    def let_go(self) -> None:
        """The attempt is over: nobody answers any more."""
        with self._lock:
            self._is_over = True
            reply = self._reply
        if reply is not None and not reply.done():
            self._attempt.thread_runs(1)
            reply.set_exception(AttemptClosed())

    # -- on the handler's thread --------------------------------------------------------------

    @property
    def is_current(self) -> bool:
        return threading.get_ident() == self._ident

    def ask(self, question: Callable[[], T]) -> T:
        """Have a question answered on the loop; stand still until then."""
        reply = self._next_reply()
        if reply is None:
            if not self._attempt.is_closed:
                self._refuse()
            # The machine records nothing any more, and the loop has no more use for it.
            return question()
        self._loop.call_soon_threadsafe(self._answer, question, reply)
        self._attempt.thread_runs(-1)
        return cast("T", reply.result())

    def wait(self, awaitable: Awaitable[T]) -> T:
        """Have something awaited on the loop, as part of the attempt's task.

        Raises:
            AttemptClosed: The attempt is over. To whoever ignores that again and again, never
                returns.
        """
        reply = self._next_reply()
        if reply is None:
            discard(awaitable)
            self._refuse()
        self._loop.call_soon_threadsafe(self._wishes.put_nowait, Wait(awaitable, reply))
        self._attempt.thread_runs(-1)
        return cast("T", reply.result())

    def _refuse(self) -> NoReturn:
        self._refusal_count += 1
        if self._refusal_count > REFUSALS_MAX:
            self._attempt.thread_runs(-1)
            stand_still()
        raise AttemptClosed

    def _next_reply(self) -> Future[Any] | None:
        """None once the attempt is over: then nobody is left to answer."""
        with self._lock:
            self._reply = None if self._is_over else Future()
            return self._reply

    def _live(self, handler: Callable[[], Any]) -> None:
        self._ident = threading.get_ident()
        ended = Ended(None, None)
        try:
            ended = Ended(handler(), None)
        except BaseException as error:  # noqa: BLE001 - border: the attempt says what became of it.
            ended = Ended(None, error)
        # A handler that would not unwind may outlive the loop.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wishes.put_nowait, ended)
        self._attempt.thread_runs(-1)
