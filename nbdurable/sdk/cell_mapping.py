"""`durable.map` in the cells of a notebook run: each item is a keyed step, a few at a time.

A cell that runs again finds the items that are done by their keys, and does the others. When items
began, and how long they are held up, is recorded as well, so the rate is kept across a crash; and
the kernel's own clock sees to it that nothing begins too early while an answer is under way.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Optional, Protocol

from nbdurable.errors import MapError, TerminalError
from nbdurable.sdk.cells import CellSteps
from nbdurable.sdk.patience import retry_after_of

# Between tries of an item whose error does not say how long to wait: doubled each time.
PAUSE_S: Final = 0.1
PAUSE_S_MAX: Final = 10.0


class Rate(Protocol):
    """At most `limit` beginnings within any `per`."""

    @property
    def limit(self) -> int: ...

    @property
    def per(self) -> timedelta: ...


@dataclass
class CellMap:
    """One map of one execution. Mutable: what is left, and what has come of the rest."""

    steps: CellSteps
    name: str
    title: str
    items: list[Any]
    keys: list[str]
    fn: Callable[[Any], Any]
    concurrency: int
    rate: Optional[Rate]
    tries_max: float
    keeps_exceptions: bool
    results: dict[int, Any] = field(default_factory=dict)
    failed: Optional[tuple[int, Exception]] = None
    waiting: deque[int] = field(default_factory=deque)
    begun_s: deque[float] = field(default_factory=deque)
    held_until_s: float = 0.0

    async def run(self) -> list[Any]:
        count = len(self.items)
        # Says to readers of the journal how many there will be.
        await self.steps.run(self.title, lambda: count, "", fresh=False)
        if self.rate is None:
            self._hold(await self.steps.turn(self.name, 0, timedelta()))
        self.waiting.extend(range(count))
        workers = [asyncio.ensure_future(self._work()) for _ in range(min(self.concurrency, count))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        if self.failed is not None:
            raise self._error(*self.failed)
        return [self.results[index] for index in range(count)]

    async def _work(self) -> None:
        while self.waiting and self.failed is None:
            index = self.waiting.popleft()
            try:
                self.results[index] = await self._item(index)
            # A border: whatever the user's function raises is the failure of its item.
            except Exception as error:  # noqa: BLE001
                if self.keeps_exceptions and isinstance(error, TerminalError):
                    self.results[index] = error
                elif self.failed is None:
                    self.failed = (index, error)

    async def _item(self, index: int) -> Any:
        key, item = self.keys[index], self.items[index]
        for count in itertools.count(1):
            try:
                return await self.steps.run(
                    f"{self.name}[{key}]", lambda: self._call(item), key, fresh=False
                )
            except TerminalError:
                raise
            # A border, as above; what it is told to wait holds up the others as well.
            except Exception as error:
                if count >= self.tries_max:
                    raise
                pause = retry_after_of(error)
                if pause is None:
                    await asyncio.sleep(min(PAUSE_S * 2 ** (count - 1), PAUSE_S_MAX))
                else:
                    self._hold(pause)
                    await self.steps.hold(self.name, pause)
        raise AssertionError("unreachable")

    async def _call(self, item: Any) -> Any:
        await self._turn()
        if inspect.iscoroutinefunction(self.fn) or inspect.iscoroutinefunction(
            type(self.fn).__call__
        ):
            answer: Awaitable[Any] = self.fn(item)
            return await answer
        # Else several at once would be one after the other.
        return await asyncio.to_thread(self.fn, item)

    def _hold(self, pause: timedelta) -> None:
        until_s = asyncio.get_running_loop().time() + pause.total_seconds()
        self.held_until_s = max(self.held_until_s, until_s)

    async def _turn(self) -> None:
        """Wait until one more may begin."""
        loop, is_held = asyncio.get_running_loop(), True
        while is_held:
            await self._until_free()
            if self.rate is not None:
                wait = await self.steps.turn(self.name, self.rate.limit, self.rate.per)
                await asyncio.sleep(wait.total_seconds())
            # Several that were held up meanwhile may not begin all at once.
            is_held = self.held_until_s > loop.time()
        await self._until_free()
        self.begun_s.append(loop.time())

    async def _until_free(self) -> None:
        loop = asyncio.get_running_loop()
        while (wait_s := self._too_early_s(loop.time())) > 0:  # noqa: ASYNC110 - for the clock.
            await asyncio.sleep(wait_s)

    def _too_early_s(self, now_s: float) -> float:
        wait_s = self.held_until_s - now_s
        if self.rate is not None and len(self.begun_s) >= self.rate.limit:
            free_at_s = self.begun_s[-self.rate.limit] + self.rate.per.total_seconds()
            wait_s = max(wait_s, free_at_s - now_s)
        return wait_s

    def _error(self, index: int, error: Exception) -> MapError:
        results = {self.keys[one]: self.results[one] for one in sorted(self.results)}
        done = f"{len(results)} of {len(self.items)} items done"
        message = (
            f"{self.name}[{self.keys[index]}] failed, with {done}: {error}. What is done is in the"
            " journal, and the cell goes on with the rest when it runs again"
        )
        code = error.status_code if isinstance(error, TerminalError) else 500
        raised = MapError(message, code, results=results)
        raised.__cause__ = error
        return raised
