"""Attempts that have been let go, and whose invocations are not suspended yet.

A sleep that outlasts the inactivity timeout ends in a suspension, and that is known when it begins.
So its attempt is unwound at once, as a suspension unwinds it, unless something that its handler has
begun goes on beside it; and nothing is left of it but the proposal to suspend. That is made when
the timeout is over, because an invocation is `running` until then; or when a notification comes
first, which the attempt can no longer be given: the engine sees that the attempt has not seen it,
and begins the next one.

    sleeps --unwound--> dormant --timeout over, or a notification--> suspended
                           |
                           +--the engine ends the attempt--> nothing is proposed
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from functools import lru_cache

import msgspec

from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import AnyStep, AttemptSteps


class Dozing(msgspec.Struct, frozen=True, order=True, gc=False):
    """The proposal to suspend one, and when it is to be made: flat, for there may be thousands."""

    at_s: float
    invocation_id: InvocationId
    attempt: int
    seed: int
    epoch: int
    steps: tuple[AnyStep, ...]

    @property
    def suspension(self) -> AttemptSteps:
        return AttemptSteps(
            epoch=self.epoch,
            invocation_id=self.invocation_id,
            seed=self.seed,
            attempt=self.attempt,
            steps=self.steps,
        )


class Dormant:
    """Mutable; owned by the handler thread."""

    def __init__(self, propose: Callable[[AttemptSteps], None]) -> None:
        self._propose = propose
        self._dozing: dict[InvocationId, Dozing] = {}
        # As timers are: what is no longer there when it is due changes nothing.
        self._due: list[Dozing] = []
        self._wake_up: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._dozing)

    def add(self, suspension: AttemptSteps, after_s: float) -> None:
        """Propose this later."""
        dozing = Dozing(
            at_s=asyncio.get_running_loop().time() + after_s,
            invocation_id=suspension.invocation_id,
            attempt=suspension.attempt,
            seed=suspension.seed,
            epoch=suspension.epoch,
            steps=_shared(suspension.steps),
        )
        self._dozing[dozing.invocation_id] = dozing
        heapq.heappush(self._due, dozing)
        self._arm()

    def suspend(self, invocation_id: InvocationId, attempt: int) -> None:
        """Propose it now, if this attempt is one of these."""
        dozing = self._take(invocation_id, attempt)
        if dozing is not None:
            self._propose(dozing.suspension)

    def forget(self, invocation_id: InvocationId, attempt: int) -> None:
        """The engine has ended this attempt."""
        self._take(invocation_id, attempt)

    def clear(self) -> None:
        self._dozing.clear()
        self._due.clear()
        self._arm()

    def _take(self, invocation_id: InvocationId, attempt: int) -> Dozing | None:
        dozing = self._dozing.get(invocation_id)
        if dozing is None or dozing.attempt != attempt:
            return None
        return self._dozing.pop(invocation_id)

    def _arm(self) -> None:
        """One wake-up of the loop at a time, for the first of them."""
        if self._wake_up is not None:
            if self._due and self._wake_up.when() <= self._due[0].at_s:
                return
            self._wake_up.cancel()
            self._wake_up = None
        if self._due:
            self._wake_up = asyncio.get_running_loop().call_at(self._due[0].at_s, self._ring)

    def _ring(self) -> None:
        self._wake_up = None
        now_s = asyncio.get_running_loop().time()
        while self._due and self._due[0].at_s <= now_s:
            due = heapq.heappop(self._due)
            if self._dozing.get(due.invocation_id) is due:
                self.suspend(due.invocation_id, due.attempt)
        self._arm()


@lru_cache(64)
def _shared(steps: tuple[AnyStep, ...]) -> tuple[AnyStep, ...]:
    """Thousands wait for their first sleep, and saying so is the same for all of them."""
    return steps
