"""What the engine knows of a service: its handlers and options, never its code."""

from __future__ import annotations

from nbdurable.core.values import HandlerType, RetryPolicy, ServiceType, Value


class HandlerManifest(Value, frozen=True, kw_only=True):
    """What is None is the engine's affair, see `settings.py`."""

    name: str
    type: HandlerType | None = None
    retry: RetryPolicy | None = None
    inactivity_timeout_ms: int | None = None
    abort_timeout_ms: int | None = None
    journal_retention_ms: int | None = None
    workflow_retention_ms: int | None = None
    idempotency_retention_ms: int | None = None
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
