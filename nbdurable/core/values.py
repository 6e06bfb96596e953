"""Small values that facts, commands and notifications are made of.

The core never sees a payload. It carries a `PayloadRef`: where the bytes are (`lsn`), how many
they are, and their digest. A ref with `lsn` 0 means "the bytes travel beside me"; once the fact
that holds them is recorded, the ref in the state points at that fact.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Literal

import msgspec

ServiceType = Literal["service", "virtual_object", "workflow"]
HandlerType = Literal["exclusive", "shared", "workflow"]
# `display` is a MIME bundle, as JSON.
OutputStream = Literal["stdout", "stderr", "display"]


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A frozen value without a tag of its own. Never part of a cycle, so not the collector's."""


class PayloadRef(Value, frozen=True, kw_only=True):
    """Units: bytes – length of the stored bytes; lsn – of the fact that holds them, 0 = beside me.

    `comparable` is false for serdes whose equal values need not give equal bytes (pickle, Arrow):
    replay then compares names and kinds only.
    """

    bytes: int
    digest: str
    lsn: int = 0
    comparable: bool = True


class Success(Value, frozen=True, kw_only=True, tag="success"):
    value: PayloadRef


class Failure(Value, frozen=True, kw_only=True, tag="failure"):
    """What a caller sees of a terminal error. Tracebacks are never here, see `ErrorReport`."""

    code: int
    message: str
    metadata: dict[str, str] | None = None


Result = Success | Failure


class Question(Value, frozen=True, kw_only=True):
    """What a person is asked. `schema` is a JSON Schema of the answer, as text; None: any value.

    `context` is for reading: what the answer depends on.
    """

    schema: str | None = None
    title: str | None = None
    context: str | None = None


# Some client, that has not said for whom it asks.
NOBODY = "client"


class Answered(Value, frozen=True, kw_only=True):
    """Who has completed something, and what they had to say besides the value."""

    by: str
    comment: str | None = None


# Restate's code for a replay that met another command than the recorded one.
MISMATCH_CODE = 570
# What became of a step that was open when its invocation was cancelled.
ABANDONED = "abandoned: it was cancelled"


class ErrorReport(Value, frozen=True, kw_only=True):
    """Why an attempt failed, for the people who own the code. It never leaves through a call."""

    code: int
    message: str
    type_name: str = "Exception"
    stacktrace: str = ""
    # The journal entry that was being worked on, by command index; None outside of any.
    command_index: int | None = None
    command_name: str | None = None
    # Of the step that raised, if one did.
    completion_id: int | None = None
    # Retrying cannot heal a mismatch or a value that has no bytes; such an attempt pauses at once.
    heals_by_retry: bool = True
    # Of a mismatch: whether what is recorded could stand for what the code asks.
    can_accept: bool = False
    # Asked for by RetryableError; overrides the policy's delay.
    retry_after_ms: int | None = None


class Target(Value, frozen=True, kw_only=True):
    """`scope` sets targets of the same name apart: their keys, state and idempotency keys."""

    service: str
    handler: str
    key: str | None = None
    scope: str | None = None

    def __str__(self) -> str:
        return _scoped(self.path, self.scope)

    @property
    def path(self) -> str:
        """As in a URL, which says the scope elsewhere."""
        parts = (self.service, self.key, self.handler)
        return "/".join(part for part in parts if part is not None)

    @property
    def object(self) -> ObjectId | None:
        if self.key is None:
            return None
        return ObjectId(service=self.service, key=self.key, scope=self.scope)


def with_shared_names(target: Target) -> Target:
    """The same target. Each fact that is read brings names of its own, a tenth of what is kept."""
    service, handler = sys.intern(target.service), sys.intern(target.handler)
    if target.key is None:
        return _without_key(service, handler, target.scope)
    return msgspec.structs.replace(target, service=service, handler=handler)


@lru_cache(1_024)
def _without_key(service: str, handler: str, scope: str | None) -> Target:
    """One for all invocations of a handler of a plain service."""
    return Target(service=service, handler=handler, scope=scope)


class ObjectId(Value, frozen=True, kw_only=True):
    """One key of a virtual object or workflow: what holds state, promises and a lock."""

    service: str
    key: str
    scope: str | None = None

    def __str__(self) -> str:
        return _scoped(f"{self.service}/{self.key}", self.scope)


def _scoped(path: str, scope: str | None) -> str:
    """Two of one name in two scopes are two, and a sentence about one must say which."""
    return path if scope is None else f"{path}@{scope}"


class RetryPolicy(Value, frozen=True, kw_only=True):
    """Exponential back-off. `max_attempts` counts the first attempt; None means without end.

    Source: restate-semantics.md, 1.4 (server defaults: 500 ms, factor 2, 60 s, 70, pause).
    """

    initial_interval_ms: int = 500
    factor: float = 2.0
    max_interval_ms: int = 60_000
    max_attempts: int | None = 70
    max_duration_ms: int | None = None
    on_max_attempts: Literal["pause", "kill"] = "pause"

    def delay_ms(self, failure_count: int) -> int:
        """How long to wait after the n-th failure in a row (n from 1)."""
        # Past 60 doublings every factor above 1 has met its cap, and a float would overflow.
        try:
            grown = self.initial_interval_ms * self.factor ** min(failure_count - 1, 60)
        except OverflowError:
            return self.max_interval_ms
        return int(min(grown, self.max_interval_ms))

    def gives_up(self, failure_count: int, elapsed_ms: int) -> bool:
        spent = self.max_attempts is not None and failure_count >= max(self.max_attempts, 1)
        late = self.max_duration_ms is not None and elapsed_ms >= self.max_duration_ms
        return spent or late


INVOCATION_RETRY_DEFAULT = RetryPolicy()
# Source: restate-sdk RunOptions – any field set gives 50 ms, factor 2, cap 10 s, no other bound.
RUN_RETRY_DEFAULT = RetryPolicy(initial_interval_ms=50, max_interval_ms=10_000, max_attempts=None)
