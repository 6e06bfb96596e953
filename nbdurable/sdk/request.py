"""What an invocation was started with, and how its attempt says that it is over."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Optional


@dataclass
class Request:
    """What the invocation was started with.

    Attributes:
        id: The invocation's id.
        headers: As sent by the caller.
        attempt_headers: Of this attempt; they may differ between attempts.
        body: The input, as bytes.
        attempt_finished_event: Set when this attempt is over.
        scope: In which the invocation was addressed, if in any.
        limit_key: As sent by the caller, if it was.
        idempotency_key: As sent by the caller, if it was.
    """

    id: str
    headers: dict[str, str]
    attempt_headers: dict[str, str]
    body: bytes
    attempt_finished_event: AttemptFinishedEvent
    scope: Optional[str] = None
    limit_key: Optional[str] = None
    idempotency_key: Optional[str] = None


class AttemptFinishedEvent(abc.ABC):
    """Set when the attempt is over, whatever its outcome: time to drop what it holds."""

    @abc.abstractmethod
    def is_set(self) -> bool:
        """Whether the attempt is over."""

    @abc.abstractmethod
    async def wait(self) -> None:
        """Wait until the attempt is over; for helper tasks, not for the handler itself."""
