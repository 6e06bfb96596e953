"""`durable.map`: one step or call per item, a few at a time, no faster than allowed.

Nothing here is recorded beyond the steps, calls and timers it makes, in an order that follows from
the journal alone: an item begins when one before it has ended, and that end is a notification.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Final, NamedTuple, Optional, TypeVar, Union, cast

from nbdurable.durations import parse_duration
from nbdurable.errors import (
    ContextMisuseError,
    DefinitionError,
    MapError,
    TerminalError,
)
from nbdurable.sdk import canonical_json
from nbdurable.sdk.cell_mapping import CellMap
from nbdurable.sdk.cells import cell_steps
from nbdurable.sdk.combinators import wait_completed
from nbdurable.sdk.context import Context, current_context, executing_step_var
from nbdurable.sdk.future import FutureContext, RestateDurableFuture
from nbdurable.sdk.handler import Handler, handler_of
from nbdurable.sdk.options import RunOptions
from nbdurable.sdk.patience import retry_after_of
from nbdurable.sdk.steps import StepOptions, is_count

T = TypeVar("T")

# Enough to keep a slow service busy, and few enough for a polite guest of it.
CONCURRENCY_DEFAULT: Final = 8
# What a person can tell apart in a line of the journal.
KEY_CHARS_MAX: Final = 64

_AGAIN = "nbdurable.retry_after_ms"
_RATE = re.compile(r"\s*(\d+)\s*/\s*(.+?)\s*")
_UNITS: Final = {
    "s": 1, "sec": 1, "second": 1,
    "m": 60, "min": 60, "minute": 60,
    "h": 3600, "hour": 3600,
    "d": 86400, "day": 86400,
}  # fmt: skip


class Rate(NamedTuple):
    """At most `limit` beginnings within any `per`."""

    limit: int
    per: timedelta


def map_items(
    items: Iterable[Any],
    fn: Callable[..., Any],
    *,
    key: Optional[Callable[[Any], object]] = None,
    concurrency: int = CONCURRENCY_DEFAULT,
    rate: Optional[str] = None,
    retry: Union[int, RunOptions[Any], None] = None,
    return_exceptions: bool = False,
) -> Any:
    """Do something with every item, and return the results in the order of the items.

    ```python
    @ingest.handler()
    async def run(ctx: WorkflowContext, pages: list[int]) -> int:
        rows = await durable.map(pages, fetch, concurrency=4, rate="20/s", retry=5)
        return sum(rows)
    ```

    Each item is a step named `fetch[KEY]`; where `fn` is a handler, it is a call of it, and the key
    is that of the object or workflow. What has ended is never done again: after a crash, a pause or
    a restart from an entry the map goes on with the items that are left. In an `async def` handler
    it is awaited, in a `def` handler it returns the results.

    In a cell of a notebook run it is awaited as well. An item is then a step of the cell: one that
    has failed is done again when the cell is, and what is not retried fails the map.

    `rate` is kept across crashes. A step that is told to wait, by `RetryableError(retry_after=…)`
    or by an error that carries an answer 429 or 503 with Retry-After (those of httpx, requests and
    urllib do), holds up every item that has not begun, for as long as it was told, and is then done
    again. Tries within one step, by `retry`, are not counted against the rate; those in a cell are.

    Args:
        items: Taken in this order; the same ones on replay.
        fn: `def`, `async def` or a handler; called with one item.
        key: Names an item for people and for the journal; by default an item names itself, or its
            digest does. What is named twice is told apart by a number.
        concurrency: How many items may be under way at once.
        rate: How many may begin in any such while: "20/s", "100/min", "5/10s". None: no limit.
        retry: How often a failing step is repeated, or how. None leaves it to the invocation's
            policy, and calls to that of the called.
        return_exceptions: The `TerminalError` of an item that has failed stands in its place; in a
            cell also that of one whose tries are used up.

    Raises:
        MapError: An item has failed for good. No other was begun after that; those under way were
            waited for, and what has ended is in its `results`, and in the journal.
        DefinitionError: An argument cannot work.
        ContextMisuseError: This is no handler, and no cell of a notebook run.
    """
    context = current_context()
    steps = None if context is not None else cell_steps()
    if (context is None and steps is None) or executing_step_var.get() is not None:
        raise ContextMisuseError(
            "durable.map() is for handlers, for cells below %%durable_run NAME and for cells of a"
            " notebook run, and this code is part of none, or of a step; elsewhere write:"
            " [fn(item) for item in items]"
        )
    if not is_count(concurrency) or concurrency < 1:
        raise DefinitionError(f"concurrency is a count of at least 1, not {concurrency!r}")
    listed = list(items)
    name = str(getattr(fn, "__name__", "item"))
    if context is None:
        assert steps is not None
        if handler_of(fn) is not None:
            raise DefinitionError(
                f"{name} is a handler; in a cell map a function that calls it by a client"
            )
        return CellMap(
            steps=steps,
            name=name,
            title=title_of(name, len(listed)),
            items=listed,
            keys=_keys(listed, key),
            fn=fn,
            concurrency=concurrency,
            rate=None if rate is None else parse_rate(rate),
            options=StepOptions(max_attempts=1) if retry is None else _step_options(retry),
            keeps_exceptions=return_exceptions,
        ).run()
    work = _Map(
        context=context,
        name=name,
        items=listed,
        keys=_keys(listed, key),
        begin=_beginning(context, name, fn, retry),
        concurrency=concurrency,
        rate=None if rate is None else parse_rate(rate),
        tries_max=_tries_max(retry),
        keeps_exceptions=return_exceptions,
    )
    if getattr(context, "is_blocking", False):
        return cast("FutureContext", context).block_on(work.run())
    return work.run()


def title_of(name: str, item_count: int) -> str:
    """The name of the step that opens a map; whoever draws a journal reads it back."""
    return f"map {name} over {item_count}"


def rate_title(name: str) -> str:
    """The name of what remembers that an item has begun."""
    return f"rate of {name}"


def pause_title(name: str) -> str:
    """The name of what remembers for how long no item may begin."""
    return f"retry after, said to {name}"


_TITLE = re.compile(r"map (.+) over (\d+)")


def read_title(title: str) -> Optional[tuple[str, int]]:
    """What `title_of` was given, or None of another step's name."""
    match = _TITLE.fullmatch(title)
    return None if match is None else (match[1], int(match[2]))


def parse_rate(text: str) -> Rate:
    """Read "20/s", "100/min" or "5/10s".

    Raises:
        DefinitionError: It is none.
    """
    given: object = text
    match = _RATE.fullmatch(given) if isinstance(given, str) else None
    if match is not None and int(match[1]) > 0:
        if match[2] in _UNITS:
            return Rate(int(match[1]), timedelta(seconds=_UNITS[match[2]]))
        try:
            return Rate(int(match[1]), timedelta(milliseconds=parse_duration(match[2])))
        except ValueError:
            pass
    raise DefinitionError(f"{text!r} is no rate; write e.g. rate='20/s', '100/min' or '5/10s'")


@dataclass
class _Map:
    """One map of one attempt. Mutable: what is under way, and what has come of it."""

    context: Context
    name: str
    items: list[Any]
    keys: list[str]
    begin: Callable[[Any, str], RestateDurableFuture[Any]]
    concurrency: int
    rate: Optional[Rate]
    tries_max: float
    keeps_exceptions: bool
    results: dict[int, Any] = field(default_factory=dict)
    failed: Optional[tuple[int, TerminalError]] = None
    under_way: dict[RestateDurableFuture[Any], int] = field(default_factory=dict)
    tries: Counter[int] = field(default_factory=Counter)
    holds: list[RestateDurableFuture[None]] = field(default_factory=list)
    spent: deque[RestateDurableFuture[None]] = field(default_factory=deque)

    async def run(self) -> list[Any]:
        count = len(self.items)
        # Says to readers how many there will be; and replay, which compares names, that there are
        # as many as there were.
        await self.context.run_typed(title_of(self.name, count), lambda: count)
        waiting = deque(range(count))
        while (waiting and self.failed is None) or self.under_way:
            held_up = self._begin_some(waiting)
            completed, _ = await wait_completed(*self.under_way, *held_up)
            for future in completed:
                if future in self.under_way:
                    await self._ended(future, waiting)
            self.holds = [hold for hold in self.holds if hold not in completed]
            if self.spent and self.spent[0] in completed:
                self.spent.popleft()
        if self.failed is not None:
            raise self._error(*self.failed)
        return [self.results[index] for index in range(count)]

    def _begin_some(self, waiting: deque[int]) -> list[RestateDurableFuture[None]]:
        """Begin what may begin; return the timers that others wait for."""
        if self.failed is not None:
            return []
        while waiting and len(self.under_way) < self.concurrency:
            if self.holds:
                return self.holds
            if self.rate is not None and len(self.spent) >= self.rate.limit:
                return [self.spent[0]]
            index = waiting.popleft()
            self.tries[index] += 1
            self.under_way[self.begin(self.items[index], self.keys[index])] = index
            if self.rate is not None and len(self.items) > self.rate.limit:
                self.spent.append(self.context.sleep(self.rate.per, rate_title(self.name)))
        return []

    async def _ended(self, future: RestateDurableFuture[Any], waiting: deque[int]) -> None:
        index = self.under_way.pop(future)
        try:
            self.results[index] = await future
        except TerminalError as error:
            pause = _pause_of(error)
            if pause is not None and self.tries[index] < self.tries_max:
                waiting.appendleft(index)
                self.holds.append(self.context.sleep(pause, pause_title(self.name)))
            elif self.keeps_exceptions:
                self.results[index] = error
            elif self.failed is None:
                self.failed = (index, error)

    def _error(self, index: int, error: TerminalError) -> MapError:
        results = {self.keys[one]: self.results[one] for one in sorted(self.results)}
        failed = f"{self.name}[{self.keys[index]}]"
        message = (
            f"{failed} failed, with {len(results)} of {len(self.items)} items done:"
            f" {error.message}. What is done is in the journal; restart the run from the failed"
            " step to keep it"
        )
        raised = MapError(message, error.status_code, error.metadata, results=results)
        raised.__cause__ = error
        return raised


def _beginning(
    context: Context, name: str, fn: Callable[..., Any], retry: Union[int, RunOptions[Any], None]
) -> Callable[[Any, str], RestateDurableFuture[Any]]:
    handler = handler_of(fn)
    if handler is not None:
        if retry is not None:
            raise DefinitionError(
                f"{name} is a handler, and is retried by its own policy; leave out retry=…"
            )
        return lambda item, key: _call(context, handler, fn, item, key)
    options, action = _step_options(retry), _saying_when(fn)
    return lambda item, key: context.run_typed(f"{name}[{key}]", action, options, item)


def _call(
    context: Context, handler: Handler[Any, Any], fn: Any, item: Any, key: str
) -> RestateDurableFuture[Any]:
    match handler.service_tag.kind:
        case "service":
            return context.service_call(fn, item)
        case "object":
            return context.object_call(fn, key, item)
        case _:
            return context.workflow_call(fn, key, item)


def _step_options(retry: Union[int, RunOptions[Any], None]) -> StepOptions[Any]:
    if retry is None:
        return StepOptions()
    if isinstance(retry, RunOptions):
        return StepOptions(**{one.name: getattr(retry, one.name) for one in fields(retry)})
    if not is_count(retry):
        raise DefinitionError(f"retry is a count or RunOptions, not {retry!r}; write: retry=3")
    return StepOptions(max_attempts=retry + 1)


def _tries_max(retry: Union[int, RunOptions[Any], None]) -> float:
    attempts = retry.max_attempts if isinstance(retry, RunOptions) else retry
    if attempts is None:
        return math.inf
    return attempts if isinstance(retry, RunOptions) else attempts + 1


def _keys(items: list[Any], key: Optional[Callable[[Any], object]]) -> list[str]:
    seen: Counter[str] = Counter()
    keys = []
    for item in items:
        name = _key_of(item if key is None else key(item))
        seen[name] += 1
        keys.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return keys


def _key_of(value: Any) -> str:
    if isinstance(value, (str, int)) and len(text := str(value)) <= KEY_CHARS_MAX and text:
        return text
    from hashlib import blake2b

    return blake2b(canonical_json.write(value), digest_size=8).hexdigest()


def _saying_when(fn: Callable[..., Any]) -> Callable[[Any], Any]:
    """The same function, whose wish to be left alone for a while reaches the whole map.

    As a failure of the step, and so recorded: the pause is then the map's, and lasts over a crash.
    """
    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__):

        @functools.wraps(fn)
        async def ask(item: Any) -> Any:
            try:
                return await cast("Awaitable[Any]", fn(item))
            except Exception as error:
                raise _told(error) from error

        return ask

    @functools.wraps(fn)
    def asked(item: Any) -> Any:
        try:
            return fn(item)
        except Exception as error:
            raise _told(error) from error

    return asked


def _told(error: Exception) -> Exception:
    pause = retry_after_of(error)
    if pause is None:
        return error
    pause_ms = math.ceil(pause / timedelta(milliseconds=1))
    return TerminalError(
        f"told to try again after {pause_ms / 1000:g} s: {error}", 429, {_AGAIN: str(pause_ms)}
    )


def _pause_of(error: TerminalError) -> Optional[timedelta]:
    told = (error.metadata or {}).get(_AGAIN)
    return None if told is None else timedelta(milliseconds=int(told))
