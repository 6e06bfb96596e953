"""Steps and waits inside the cells of a run: entries of its journal, found by name and key.

Owns: what a request of the kernel becomes in the journal, and when the run may suspend: while all
that its cell does is to wait for long. Runs on the handler's thread, and waits for the kernel's
requests, the cell's end and what is durable, whichever comes first.

    kernel          handler
    run  ---------> known before?  its result -->
                    else an entry is begun ----->   the kernel calls the function
    done ---------> the entry is completed; committed -->
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from nbdurable.batch.line import Asked
from nbdurable.client.views import InvocationView
from nbdurable.core.values import Failure, Question
from nbdurable.errors import AttemptClosed, TerminalError
from nbdurable.invoker.context import RecordedStep, WorkflowInvoked
from nbdurable.invoker.futures import Promise
from nbdurable.sdk import RunOptions
from nbdurable.sdk.future import RestateDurableFuture
from nbdurable.sdk.mapping import pause_title, rate_title
from nbdurable.sdk.serde import BytesSerde

PREFIX = "in/"
# A sleep of a minute is not worth a new kernel.
LONG_WAIT_MS = 60_000
# For so long nothing else may have happened: several waits are begun one after the other.
QUIET_S = 1.0
_BYTES: RunOptions[bytes] = RunOptions(serde=BytesSerde())
# A step has a result, has failed for good, or has to be done again.
_ENDS = ("done", "failed", "left")
# When an item of a map has begun, and until when none may.
_NOTED = {"turn": rate_title, "hold": pause_title}
# Marks a failure that is a result: the function raised a TerminalError.
_TERMINAL = {"is_result": "true"}


class InnerKey(NamedTuple):
    """The key of one try of a step: which cell, what, the how manieth like it, and which try."""

    position: int
    kind: str
    key: str
    nth: int
    attempt: int
    name: str

    def __str__(self) -> str:
        return (
            f"{PREFIX}{self.position}/{self.kind}/{self.key}/{self.nth}/{self.attempt}/{self.name}"
        )

    @classmethod
    def parse(cls, text: str) -> InnerKey:
        position, kind, key, nth, attempt, name = text.removeprefix(PREFIX).split("/", 5)
        return cls(int(position), kind, key, int(nth), int(attempt), name)

    @property
    def base(self) -> InnerKey:
        """The step, whichever try it is."""
        return self._replace(attempt=0)


class Known(NamedTuple):
    """What became of the latest try. None and no failure: it is to be done again."""

    attempt: int
    payload: bytes | None
    failure: Failure | None


class Wait(NamedTuple):
    """`due_at_ms` is None where somebody is waited for."""

    asked: Asked
    future: RestateDurableFuture[Any]
    due_at_ms: int | None
    what: str


class InnerSteps:
    """Mutable; one attempt's, on the handler thread.

    Args:
        steps: All that the journal has.
        hand_to: Says where requests go; may call at once, and from other threads.
        on_suspend: Called with what is waited for, before the kernel is told.
    """

    def __init__(
        self,
        ctx: WorkflowInvoked,
        steps: Iterable[RecordedStep],
        hand_to: Callable[[Callable[[Asked], None]], None],
        on_suspend: Callable[[str], None],
    ) -> None:
        self._ctx = ctx
        self._on_suspend = on_suspend
        self._known: dict[InnerKey, Known] = {}
        self._begun: dict[InnerKey, tuple[RestateDurableFuture[bytes], list[Any]]] = {}
        # By cell, kind and title, the times that maps in it have recorded, in order.
        self._noted: defaultdict[tuple[int, str, str], list[int]] = defaultdict(list)
        self._waits: list[Wait] = []
        self._asked: deque[Asked] = deque()
        self._bell = asyncio.Event()
        for step in steps:
            if step.key.startswith(PREFIX):
                key = InnerKey.parse(step.key)
                is_result = step.failure is not None and step.failure.metadata == _TERMINAL
                failure = step.failure if is_result else None
                self._known[key.base] = Known(key.attempt, step.payload, failure)
                if key.kind in _NOTED and step.payload is not None:
                    insort(self._noted[key.position, key.kind, key.name], int(step.payload))
        loop = asyncio.get_running_loop()
        hand_to(lambda asked: _ring(loop, self._take, asked))

    def _take(self, asked: Asked) -> None:
        self._asked.append(asked)
        self._bell.set()

    async def serve(
        self, position: int, executed: asyncio.Future[Any], *, is_volatile: bool
    ) -> None:
        """Answer what the cell at this position asks, until it has ended.

        Raises:
            TerminalError: 409, the run was cancelled.
            AttemptClosed: The attempt is over; perhaps because it was suspended here.
        """
        while not executed.done():
            while self._asked:
                await self._answer(self._asked.popleft(), position, is_volatile=is_volatile)
            self._bell.clear()
            can_suspend = self._is_idle()
            is_quiet = await self._something(executed, QUIET_S if can_suspend else None)
            await self._answer_waits()
            if is_quiet and can_suspend and self._is_idle() and not self._asked:
                self._suspend()
        # A step that raised, and its cell with it, says so at the same moment.
        while self._asked and self._asked[0].ask["ask"] in _ENDS:
            await self._end(self._asked.popleft(), position)
        # What goes on behind a cell that has ended holds up none of those after it.
        for wait in self._waits:
            wait.asked.answer(failure="the cell that this is awaited in has ended", code=409)
        self._waits.clear()
        self._begun.clear()

    # -- waiting ------------------------------------------------------------------------------

    def _is_idle(self) -> bool:
        """Whether all that goes on are waits for long."""
        soon_ms = self._ctx.attempt.now_ms() + LONG_WAIT_MS
        is_long = all(wait.due_at_ms is None or wait.due_at_ms > soon_ms for wait in self._waits)
        return bool(self._waits) and is_long and not self._begun

    async def _something(self, executed: asyncio.Future[Any], quiet_s: float | None) -> bool:
        """Wait for the kernel, for what is durable, or for long enough; True if for that."""
        watching = asyncio.ensure_future(self._ctx.watch([wait.future for wait in self._waits]))
        ringing = asyncio.ensure_future(self._bell.wait())
        try:
            done, _ = await asyncio.wait(
                {executed, watching, ringing},
                timeout=quiet_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            ringing.cancel()
            watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        return not done

    async def _answer_waits(self) -> None:
        over = [wait for wait in self._waits if wait.future.is_completed()]  # type: ignore[attr-defined]  # Ours.
        self._waits = [wait for wait in self._waits if wait not in over]
        for wait in over:
            await _answer_with(wait.asked, wait.future)

    def _suspend(self) -> None:
        what = ", ".join(wait.what for wait in self._waits)
        self._on_suspend(what)
        self._ctx.suspend([wait.future for wait in self._waits])
        for wait in self._waits:
            wait.asked.answer(suspended=f"the run is suspended until {what}")
        raise AttemptClosed

    # -- requests -----------------------------------------------------------------------------

    async def _answer(self, asked: Asked, position: int, *, is_volatile: bool) -> None:
        ask = asked.ask
        name = ask["name"]
        match ask["ask"]:
            case "run":
                self._begin(asked, position, is_fresh=is_volatile or ask["fresh"])
            case word if word in _ENDS:
                await self._end(asked, position)
            case "sleep":
                due_at_ms = await self._due_at_ms(ask, position)
                left = timedelta(milliseconds=max(0, due_at_ms - self._ctx.attempt.now_ms()))
                sleeping = self._ctx.sleep(left, name or None)
                self._waits.append(Wait(asked, sleeping, due_at_ms, _until(due_at_ms)))
            case "turn":
                asked.answer(wait_ms=await self._turn(ask, position))
            case "hold":
                until_ms = self._ctx.attempt.now_ms() + ask["pause_ms"]
                await self._note(position, "hold", name, until_ms)
                asked.answer()
            case "promise":
                value = self._promise(name, ask["question"]).value()
                self._waits.append(Wait(asked, value, None, f"somebody answers {name!r}"))
            case "forget":
                self._forget(ask["of"])
                asked.answer()
            case "peek":
                looked = self._ctx.attempt.machine
                leaf = self._ctx.future(
                    lambda: looked.peek_promise(name), BytesSerde(), f"a look at {name!r}"
                )
                payload = await leaf
                asked.answer(payload or b"", known=bool(payload))
            case "resolve":
                await _answer_with(asked, self._promise(name).resolve(ask["value"].encode()))
            case "reject":
                rejecting = self._promise(name).reject(ask["why"], ask["code"])
                await _answer_with(asked, rejecting)
            case other:
                asked.answer(failure=f"this nbdurable cannot {other}", code=500)

    def _forget(self, number: int) -> None:
        """Nobody waits for the answer to this request any more."""
        for wait in self._waits:
            if wait.asked.ask["id"] == number:
                wait.asked.answer()
        self._waits = [wait for wait in self._waits if wait.asked.ask["id"] != number]

    def _promise(self, name: str, question: str | None = None) -> Promise[bytes]:
        shown = None if question is None else msgspec.json.decode(question, type=Question)
        return Promise(self._ctx, name, BytesSerde(), shown)

    def _begin(self, asked: Asked, position: int, *, is_fresh: bool) -> None:
        base = _base(asked, position, "run")
        known = self._known.get(base)
        if known is not None and known.failure is not None and not is_fresh:
            asked.answer(failure=known.failure.message, code=known.failure.code)
        elif known is not None and known.payload is not None and not is_fresh:
            asked.answer(known.payload, known=True)
        else:
            self._open(base)
            asked.answer(known=False)

    def _open(self, base: InnerKey) -> tuple[RestateDurableFuture[bytes], list[Any]]:
        """The entry of a step that begins; its result is what is put into the list."""
        known = self._known.get(base)
        attempt = 1 if known is None else known.attempt + 1
        result: list[Any] = []

        async def ended() -> bytes:
            (payload,) = result
            if isinstance(payload, Exception):
                raise payload
            assert isinstance(payload, bytes)
            return payload

        key = str(base._replace(attempt=attempt))
        begun = self._ctx.run_keyed(key, base.name or base.kind, ended, _BYTES), result
        self._known[base] = Known(attempt, None, None)
        self._begun[base] = begun
        return begun

    async def _end(self, asked: Asked, position: int) -> None:
        base = _base(asked, position, "run")
        if asked.ask["ask"] == "left" and base not in self._begun:
            asked.answer()
            return
        # The attempt that began it may have been lost with the engine, and its entry with it.
        future, result = self._begun[base] if base in self._begun else self._open(base)
        del self._begun[base]
        word, why = asked.ask["ask"], asked.ask.get("why", "")
        match word:
            case "done":
                result.append(asked.payload)
            case "failed":
                result.append(TerminalError(why, asked.ask["code"], metadata=_TERMINAL))
            case _:
                result.append(TerminalError(why))
        failure = None
        try:
            await future
        except TerminalError as error:
            if error.metadata == _TERMINAL:
                failure = Failure(code=error.status_code, message=error.message)
        attempt = self._known[base].attempt
        self._known[base] = Known(attempt, asked.payload if word == "done" else None, failure)
        asked.answer()

    async def _due_at_ms(self, ask: dict[str, Any], position: int) -> int:
        """When a sleep ends, as it was reckoned when it was first reached."""
        base = InnerKey(position, "sleep", ask["key"], ask["nth"], 0, ask["name"])
        known = self._known.get(base)
        if known is not None and known.payload is not None:
            return int(known.payload)
        future, result = self._open(base)
        self._begun.pop(base)
        result.append(str(self._ctx.attempt.now_ms() + ask["delay_ms"]).encode())
        return int(await future)

    async def _turn(self, ask: dict[str, Any], position: int) -> int:
        """In how many milliseconds one more may begin; that it does is recorded before."""
        now_ms, name, limit = self._ctx.attempt.now_ms(), ask["name"], ask["limit"]
        at_ms = max([now_ms, *self._noted[position, "hold", pause_title(name)][-1:]])
        if limit:
            begun = self._noted[position, "turn", rate_title(name)]
            if len(begun) >= limit:
                at_ms = max(at_ms, begun[-limit] + ask["per_ms"])
            await self._note(position, "turn", name, at_ms)
        return at_ms - now_ms

    async def _note(self, position: int, kind: str, name: str, at_ms: int) -> None:
        """Record a time, beside those that a map has recorded in this cell before."""
        title = _NOTED[kind](name)
        noted = self._noted[position, kind, title]
        insort(noted, at_ms)
        base = InnerKey(position, kind, "", len(noted), 0, title)
        future, result = self._open(base)
        del self._begun[base]
        result.append(str(at_ms).encode())
        await future


def until_of(view: InvocationView) -> str:
    """What a suspended run waits for, in words."""
    waits = [f"somebody answers {name!r}" for name in view.open_promises]
    if view.wakes_at_ms is not None:
        waits.append(_until(view.wakes_at_ms))
    return ", ".join(waits) or view.headline


def _base(asked: Asked, position: int, kind: str) -> InnerKey:
    ask = asked.ask
    return InnerKey(position, kind, ask["key"], ask["nth"], 0, ask["name"])


async def _answer_with(asked: Asked, awaited: Awaitable[bytes | None]) -> None:
    try:
        payload = await awaited
    except TerminalError as error:
        asked.answer(failure=error.message, code=error.status_code)
    else:
        asked.answer(payload or b"")


def _until(due_at_ms: int) -> str:
    return f"{datetime.fromtimestamp(due_at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _ring(loop: asyncio.AbstractEventLoop, take: Callable[[Asked], None], asked: Asked) -> None:
    # The loop of an attempt that is over may have ended; the next one is handed it again.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(take, asked)
