"""Several futures, each once it is completed: what `as_completed` and `wait_completed` wait for.

Waiting for the first of those left, again and again, would look through all of them each time.
Here what is left is watched as a whole, and a wait looks at what has settled in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from typing import Any

from nbdurable.core.futures import FirstCompleted, FutureTree, Stream, node
from nbdurable.invoker.attempt import Attempt
from nbdurable.invoker.futures import OwnFuture


async def one_by_one(
    attempt: Attempt, futures: tuple[OwnFuture[Any], ...]
) -> AsyncIterator[OwnFuture[Any]]:
    """Those that are completed whenever the next is asked for come in the order given."""
    left = Left(attempt, futures)
    while completed := await left.completed():
        for future in completed:
            yield future


class Left:
    """Mutable: the futures that have not been handed out, by place: one given twice comes twice."""

    def __init__(self, attempt: Attempt, futures: tuple[OwnFuture[Any], ...]) -> None:
        self._attempt = attempt
        self._open = dict(enumerate(futures))
        self._stream: Stream | None = None

    @property
    def futures(self) -> list[OwnFuture[Any]]:
        """In the order given."""
        return list(self._open.values())

    async def completed(self) -> list[OwnFuture[Any]]:
        """Wait for at least one; none when none is left."""
        await _Opening(self._attempt)
        stream = self._stream
        if stream is None:
            completed = self._attempt.guard(lambda: self._settled(list(self._open)))
            stream = self._stream = self._attempt.guard(self._watch)
        else:
            completed = self._attempt.guard(lambda: self._settled(stream.take()))
        while self._open and not completed:
            await _Touch(self._attempt, stream)
            completed = self._attempt.guard(lambda: self._settled(stream.take()))
        return completed

    def _watch(self) -> Stream:
        trees = {place: future.tree() for place, future in self._open.items()}
        return self._attempt.machine.stream(trees, self._rest)

    def _settled(self, places: list[int]) -> list[OwnFuture[Any]]:
        """Those of these that are completed, which then are left no more."""
        found = [
            place
            for place in places
            if (future := self._open.get(place)) is not None and future.settling() is not None
        ]
        return [self._open.pop(place) for place in found]

    def _rest(self) -> FutureTree:
        return node(FirstCompleted, tuple(future.tree() for future in self._open.values()))


class _Opening:
    """Awaits nothing, and is refused where any await would be."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def __await__(self) -> Generator[Any, None, None]:
        yield from self._attempt.check_open()


class _Touch:
    """Awaits the next change among the futures of a stream."""

    def __init__(self, attempt: Attempt, stream: Stream) -> None:
        self._attempt = attempt
        self._stream = stream

    def __await__(self) -> Generator[Any, None, None]:
        yield from self._attempt.wait(self._stream)
