"""How values get into a loop's thread from any other: in order, with one wake-up per batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Filled by any thread, emptied by the thread of its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._letters: deque[T] = deque()
        self._ringing = False
        self._bell = asyncio.Event()

    def put(self, letter: T) -> None:
        """Raises RuntimeError when the loop is closed."""
        self._letters.append(letter)
        # Append comes before the test and take() clears before it drains, so no letter is missed;
        # a needless wake-up finds an empty box.
        if not self._ringing:
            self._ringing = True
            self._loop.call_soon_threadsafe(self._bell.set)

    async def take(self) -> list[T]:
        """All letters there are, at least one, in the order they were put."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            self._ringing = False
            letters = self.drain()
            if letters:
                return letters

    def drain(self) -> list[T]:
        """Whatever is there, without waiting. On the loop's thread."""
        return [self._letters.popleft() for _ in range(len(self._letters))]

    def withdraw(self, which: Callable[[T], bool]) -> list[T]:
        """Take these only, without waiting; the others stay as they are. On the loop's thread."""
        letters = self.drain()
        self._letters.extendleft(letter for letter in reversed(letters) if not which(letter))
        return [letter for letter in letters if which(letter)]
