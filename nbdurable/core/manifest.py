"""What the engine knows of a service: its handlers and options, never its code."""

from __future__ import annotations

from nbdurable.core.values import HandlerType, RetryPolicy, ServiceType, Value

DEFAULT_INACTIVITY_MS = 60_000
# Longer than Restate's day: a notebook's history is its user's, and a workflow key that was
# forgotten would run, and be paid for, again.
DEFAULT_RETENTION_MS = 30 * 24 * 3_600_000


class HandlerManifest(Value, frozen=True, kw_only=True):
    name: str
    type: HandlerType | None = None
    retry: RetryPolicy = RetryPolicy()
    inactivity_timeout_ms: int = DEFAULT_INACTIVITY_MS
    # How long an attempt that shows no progress lives on after that; None: as long as it likes.
    abort_timeout_ms: int | None = None
    journal_retention_ms: int = DEFAULT_RETENTION_MS
    # Of the result: of a workflow's run, and of a call with an idempotency key.
    workflow_retention_ms: int = DEFAULT_RETENTION_MS
    idempotency_retention_ms: int = DEFAULT_RETENTION_MS
    ingress_private: bool = False
    # Steps found by key instead of by position: how a notebook's cells are journaled.
    keyed: bool = False
    has_input: bool = True


class ServiceManifest(Value, frozen=True, kw_only=True):
    """`digest` tells two revisions apart; `source` is the cell that defined this one.

    `origin` is where its code comes from: `Cell In[3]`, `papermill`, or None for a module.
    """

    name: str
    type: ServiceType
    handlers: tuple[HandlerManifest, ...]
    digest: str
    source: str | None = None
    origin: str | None = None

    def handler(self, name: str) -> HandlerManifest | None:
        return next((handler for handler in self.handlers if handler.name == name), None)
