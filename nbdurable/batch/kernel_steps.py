"""The kernel's side of steps in cells: asks over the line, and calls the user's functions.

Runs in the user's kernel. What is recorded, and what a cell waits for, is decided where the run is
driven; here are the function, its result, and the await.
"""

# ruff: noqa: ANN401 - the user's values.
from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Client, Connection
from typing import Any, NamedTuple

import msgspec

from nbdurable.batch.line import GONE
from nbdurable.batch.secrets import Secret, Secrets
from nbdurable.batch.values import read_value, write_value
from nbdurable.core.values import Question
from nbdurable.errors import NbdurableError, TerminalError
from nbdurable.invoker.combined import TIMED_OUT_CODE
from nbdurable.invoker.payloads import ms_of, typed
from nbdurable.invoker.questions import question_of
from nbdurable.sdk.cells import Place, is_awaitable
from nbdurable.sdk.future import DurablePromise, RestateDurableFuture
from nbdurable.sdk.serde import DEFAULT_SERDE

KEY_DIGEST_BYTES = 8


class NotebookSuspended(BaseException):
    """The run waits for long: this kernel ends, and another one goes on with the cell."""


class LineLostError(NbdurableError):
    """Nobody drives this notebook's run any more, so nothing can be recorded."""


class Reply(NamedTuple):
    said: dict[str, Any]
    payload: bytes


class KernelSteps:
    """Mutable: the connection, and how often each step was met in the cell. One per kernel.

    Whoever tries a step again says so with its place; a step that has raised keeps its own, for
    whether the next one of its name and key is another try or another step, nobody here can know.

    Args:
        count: The number of the execution that goes on; another one begins to count anew.
    """

    def __init__(self, address: str, key: str, count: Callable[[], int]) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._key = bytes.fromhex(key)
        self._count = count
        self._counted_for = -1
        self._met: Counter[tuple[str, ...]] = Counter()
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._replies: dict[int, Future[Reply]] = {}
        self._ids = itertools.count(1)
        self.secrets = Secrets()

    def __repr__(self) -> str:
        return f"<KernelSteps of {self._address[1]}, {len(self._replies)} open>"

    def place(self, name: str, key: str) -> Place:
        return self._next_place("run", name, key)

    async def run(
        self,
        name: str,
        call: Callable[[], Any],
        key: str,
        *,
        fresh: bool,
        place: Place | None = None,
    ) -> Any:
        if place is None or place.execution != self._count():
            place = self.place(name, key)
        where = _said(place)
        said, payload = await self._ask({"ask": "run", "fresh": fresh, **where})
        if "failure" in said:
            raise TerminalError(said["failure"], said["code"])
        if said["known"]:
            return read_value(payload)
        try:
            value = call()
            if is_awaitable(value):
                value = await value
            written = write_value(value)
            self.secrets.refuse(written, f"the result of the step {name!r}")
        except TerminalError as error:
            failed = {"ask": "failed", "why": str(error), "code": error.status_code}
            await self._ask({**failed, **where})
            raise
        except NotebookSuspended:
            raise
        except BaseException as error:
            # Not a result: the step is to be done again when its cell is.
            self._send({"ask": "left", "why": f"{type(error).__name__}: {error}", **where})
            raise
        await self._ask({"ask": "done", **where}, written)
        return value

    async def turn(self, name: str, limit: int, per: timedelta) -> timedelta:
        ask = {"ask": "turn", "name": name, "limit": limit, "per_ms": ms_of(per)}
        return timedelta(milliseconds=(await self._ask(ask)).said["wait_ms"])

    async def hold(self, name: str, pause: timedelta) -> None:
        await self._ask({"ask": "hold", "name": name, "pause_ms": ms_of(pause)})

    async def sleep(self, delta: timedelta, name: str) -> None:
        where = _said(self._next_place("sleep", name, ""))
        await self._ask({"ask": "sleep", "delay_ms": ms_of(delta), **where})

    def promise(
        self, name: str, type_hint: Any, title: str | None, context: Any
    ) -> DurablePromise[Any]:
        return CellPromise(self, name, type_hint, question_of(type_hint, title, context))

    def secret(self, name: str) -> str:
        _, replied = self._send({"ask": "secret", "name": name})
        said = replied.result().said
        if "error" in said:
            raise LookupError(said["error"])
        self.secrets.know(name, said["value"])
        return Secret(name, said["value"])

    async def ask_promise(
        self, name: str, word: str, more: dict[str, object] | None = None
    ) -> Reply:
        reply = await self._ask({"ask": word, "name": name, **(more or {})})
        if "failure" in reply.said:
            raise TerminalError(reply.said["failure"], reply.said["code"])
        return reply

    # -- inside -------------------------------------------------------------------------------

    def _next_place(self, kind: str, name: str, key: str) -> Place:
        """Behind those of its kind, name and key that were met in this execution."""
        if (execution := self._count()) != self._counted_for:
            self._counted_for = execution
            self._met.clear()
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=KEY_DIGEST_BYTES)
        like_it = (kind, name, digest.hexdigest())
        self._met[like_it] += 1
        return Place(execution, name, like_it[2], self._met[like_it])

    async def _ask(self, ask: dict[str, object], payload: bytes = b"") -> Reply:
        number, replied = self._send(ask, payload)
        try:
            reply = await asyncio.wrap_future(replied)
        except asyncio.CancelledError:
            # Else the run might suspend for the sake of what nobody waits for.
            self._send({"ask": "forget", "name": "", "of": number})
            raise
        if reply.said.get("suspended"):
            raise NotebookSuspended(reply.said["suspended"])
        return reply

    def _send(self, ask: dict[str, object], payload: bytes = b"") -> tuple[int, Future[Reply]]:
        reply: Future[Reply] = Future()
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = Client(self._address, authkey=self._key)
                    threading.Thread(
                        target=self._read,
                        args=(self._connection,),
                        name="nbdurable line",
                        daemon=True,
                    ).start()
                number = next(self._ids)
                self._replies[number] = reply
                self._connection.send_bytes(json.dumps({**ask, "id": number}).encode())
                self._connection.send_bytes(payload)
            except GONE:
                raise _lost() from None
        return number, reply

    def _read(self, connection: Connection) -> None:
        with suppress(*GONE):
            while True:
                said = json.loads(connection.recv_bytes())
                reply = Reply(said, connection.recv_bytes())
                waiting = self._replies.pop(said["id"], None)
                # Whoever has asked may have been cancelled.
                if waiting is not None and waiting.set_running_or_notify_cancel():
                    waiting.set_result(reply)
        for waiting in tuple(self._replies.values()):
            if waiting.set_running_or_notify_cancel():
                waiting.set_exception(_lost())


class _PromiseFuture(RestateDurableFuture[Any]):
    """What `await` and a combination of asyncio take; a cell has no ctx to combine futures of."""

    def __init__(self, read: Callable[[], Awaitable[Any]], promise: CellPromise) -> None:
        self._read = read
        self._promise = promise

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._read().__await__()

    def or_timeout(self, delta: timedelta) -> RestateDurableFuture[Any]:
        """The timer is durable, and counts from when the cell first came here."""
        return _PromiseFuture(lambda: self._in_time(delta), self._promise)

    async def _in_time(self, delta: timedelta) -> Any:
        name = self._promise.name
        value = asyncio.ensure_future(self._read())
        late = asyncio.ensure_future(self._promise.steps.sleep(delta, f"timeout of {name}"))
        try:
            await asyncio.wait({value, late}, return_when=asyncio.FIRST_COMPLETED)
            if value.done() or late.exception() is not None:
                return await (value if value.done() else late)
        finally:
            value.cancel()
            late.cancel()
        raise TerminalError(
            f"await-timeout: promise {name!r} was not there within {delta}", TIMED_OUT_CODE
        )


class CellPromise(DurablePromise[Any]):
    """A promise of the run, for a cell."""

    def __init__(
        self, steps: KernelSteps, name: str, type_hint: Any, question: Question | None
    ) -> None:
        super().__init__(name, typed(DEFAULT_SERDE, type_hint))
        self.steps = steps
        self._question = question

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._value().__await__()

    def value(self) -> RestateDurableFuture[Any]:
        return _PromiseFuture(self._value, self)

    def peek(self) -> Awaitable[Any]:
        return self._peek()

    def resolve(self, value: Any) -> Awaitable[None]:
        payload = self.serde.serialize(value)
        self.steps.secrets.refuse(payload, f"the value of the promise {self.name!r}")
        return self._complete("resolve", {"value": payload.decode()})

    def reject(self, message: str, code: int = 500) -> Awaitable[None]:
        return self._complete("reject", {"why": message, "code": code})

    async def _value(self) -> Any:
        question = self._question
        shown = None if question is None else msgspec.json.encode(question).decode()
        reply = await self.steps.ask_promise(self.name, "promise", {"question": shown})
        return self.serde.deserialize(reply.payload)

    async def _peek(self) -> Any:
        reply = await self.steps.ask_promise(self.name, "peek")
        return self.serde.deserialize(reply.payload) if reply.said["known"] else None

    async def _complete(self, word: str, more: dict[str, object]) -> None:
        await self.steps.ask_promise(self.name, word, more)


def _said(place: Place) -> dict[str, Any]:
    return {"name": place.name, "key": place.key_digest, "nth": place.nth}


def _lost() -> LineLostError:
    return LineLostError(
        "the process that drives this notebook's run is gone, so nothing can be recorded any more;"
        " its command goes on with the run"
    )
