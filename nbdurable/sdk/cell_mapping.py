"""`durable.map` in the cells of a notebook run: each item is a keyed step, a few at a time.

A cell that runs again finds the items that are done by their keys, and does the others. When items
began, and how long they are held up, is recorded as well, so the rate is kept across a crash; and
the kernel's own clock sees to it that nothing begins too early while an answer is under way.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Optional, Protocol

from nbdurable.errors import MapError, TerminalError
from nbdurable.sdk.cells import CellSteps
from nbdurable.sdk.patience import retry_after_of
from nbdurable.sdk.steps import StepOptions

# As steps of handlers are tried again that do not say how.
_PAUSE: Final = timedelta(milliseconds=50)
_PAUSE_MAX: Final = timedelta(seconds=10)
_FACTOR: Final = 2.0


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
    options: StepOptions[Any]
    keeps_exceptions: bool
    results: dict[int, Any] = field(default_factory=dict)
    raised: dict[int, Exception] = field(default_factory=dict)
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
                if self.keeps_exceptions and self._is_of(index, error):
                    self.results[index] = _terminal(error)
                elif self.failed is None:
                    self.failed = (index, error)

    async def _item(self, index: int) -> Any:
        key, item = self.keys[index], self.items[index]
        name = f"{self.name}[{key}]"
        tries = _Tries(self.options, asyncio.get_running_loop().time)
        place = self.steps.place(name, key)
        while True:
            try:
                return await self.steps.run(
                    name, lambda: self._call(index, item), key, fresh=False, place=place
                )
            except TerminalError:
                raise
            # A border, as above; what it is told to wait holds up the others as well.
            except Exception as error:
                pause_s = tries.next_s()
                if pause_s is None or not self._is_of(index, error):
                    raise
                pause = retry_after_of(error)
                if pause is None:
                    await asyncio.sleep(pause_s)
                else:
                    self._hold(pause)
                    await self.steps.hold(self.name, pause)

    async def _call(self, index: int, item: Any) -> Any:
        await self._turn()
        timeout = self.options.timeout
        try:
            async with asyncio.timeout(None if timeout is None else timeout.total_seconds()):
                return await self._called(item)
        except Exception as error:
            self.raised[index] = error
            raise

    def _is_of(self, index: int, error: Exception) -> bool:
        """Whether it is the item that has failed, and not the run that would record it."""
        return isinstance(error, TerminalError) or self.raised.get(index) is error

    async def _called(self, item: Any) -> Any:
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


class _Tries:
    """Those of one item, in one execution of its cell. Mutable: how many, and since when."""

    def __init__(self, options: StepOptions[Any], now_s: Callable[[], float]) -> None:
        self._options = options
        self._now_s = now_s
        self._failed_count = 0
        self._ends_at_s: Optional[float] = None

    def next_s(self) -> Optional[float]:
        """After a failure: how long to wait before the next try; None if that was the last."""
        options, now_s = self._options, self._now_s()
        self._failed_count += 1
        longest = options.max_duration or options.max_retry_duration
        if self._ends_at_s is None and longest is not None:
            self._ends_at_s = now_s + longest.total_seconds()
        is_late = self._ends_at_s is not None and now_s > self._ends_at_s
        tries_max = options.max_attempts
        if is_late or (tries_max is not None and self._failed_count >= tries_max):
            return None
        first = options.initial_retry_interval or _PAUSE
        factor = options.retry_interval_factor or _FACTOR
        most_s = (options.max_retry_interval or _PAUSE_MAX).total_seconds()
        # Bounded before it is raised to a power that no float has.
        power = min(self._failed_count - 1, 64)
        return float(min(first.total_seconds() * factor**power, most_s))


def _terminal(error: Exception) -> TerminalError:
    """What stands in the place of an item that has failed, as a handler would have it."""
    if isinstance(error, TerminalError):
        return error
    kept = TerminalError(f"{type(error).__name__}: {error}")
    kept.__cause__ = error
    return kept
