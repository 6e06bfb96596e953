"""Attempts that have been let go, and whose invocations are not suspended yet.

A sleep that outlasts the inactivity timeout ends in a suspension, and that is known when it begins.
So its attempt is unwound at once, as a suspension unwinds it, and nothing is left of it but the
proposal to suspend. That is made when the timeout is over, because an invocation is `running` until
then; or when a notification comes first, which the attempt can no longer be given: the engine sees
that the attempt has not seen it, and begins the next one.

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


class Due(msgspec.Struct, frozen=True, order=True, gc=False):
    at_s: float
    invocation_id: InvocationId
    attempt: int


class Dormant:
    """Mutable; owned by the handler thread."""

    def __init__(self, propose: Callable[[AttemptSteps], None]) -> None:
        self._propose = propose
        self._suspensions: dict[InvocationId, AttemptSteps] = {}
        # As timers are: what is no longer there when it is due changes nothing.
        self._due: list[Due] = []
        self._wake_up: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._suspensions)

    def add(self, suspension: AttemptSteps, after_s: float) -> None:
        """Propose this later."""
        one, attempt = suspension.invocation_id, suspension.attempt
        steps = _shared(suspension.steps)
        self._suspensions[one] = msgspec.structs.replace(suspension, steps=steps)
        at_s = asyncio.get_running_loop().time() + after_s
        heapq.heappush(self._due, Due(at_s, one, attempt))
        self._arm()

    def suspend(self, invocation_id: InvocationId, attempt: int) -> None:
        """Propose it now, if this attempt is one of these."""
        suspension = self._take(invocation_id, attempt)
        if suspension is not None:
            self._propose(suspension)

    def forget(self, invocation_id: InvocationId, attempt: int) -> None:
        """The engine has ended this attempt."""
        self._take(invocation_id, attempt)

    def clear(self) -> None:
        self._suspensions.clear()
        self._due.clear()
        self._arm()

    def _take(self, invocation_id: InvocationId, attempt: int) -> AttemptSteps | None:
        suspension = self._suspensions.get(invocation_id)
        if suspension is None or suspension.attempt != attempt:
            return None
        return self._suspensions.pop(invocation_id)

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
            self.suspend(due.invocation_id, due.attempt)
        self._arm()


@lru_cache(64)
def _shared(steps: tuple[AnyStep, ...]) -> tuple[AnyStep, ...]:
    """Thousands wait for their first sleep, and saying so is the same for all of them."""
    return steps
