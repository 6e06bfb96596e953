"""What the engine knows of a service: its handlers and options, never its code."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nbdurable.core.values import HandlerType, RetryPolicy, ServiceType, Value


class HandlerManifest(Value, frozen=True, kw_only=True):
    """What is None is the engine's affair, see `settings.py`.

    What is said of input and output is for those who call from outside; schemas are JSON text.
    """

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
    has_output: bool = True
    accept: str = "application/json"
    content_type: str = "application/json"
    # Its input serde reads JSON, so that input which is none can be refused before it is recorded.
    reads_json: bool = False
    input_schema: str | None = None
    output_schema: str | None = None
    description: str | None = None
    metadata: Mapping[str, str] = {}


class ServicePatch(Value, frozen=True, kw_only=True):
    """What somebody changed about a service without touching its code; None leaves it as it is.

    Source: restate-semantics.md, 3.1 (`PATCH /services/{s}`).
    """

    public: bool | None = None
    idempotency_retention_ms: int | None = None
    workflow_retention_ms: int | None = None
    journal_retention_ms: int | None = None
    inactivity_timeout_ms: int | None = None
    abort_timeout_ms: int | None = None

    def applied_to(self, manifest: ServiceManifest) -> ServiceManifest:
        handlers = tuple(self._handler(handler) for handler in manifest.handlers)
        return msgspec.structs.replace(manifest, handlers=handlers)

    def _handler(self, handler: HandlerManifest) -> HandlerManifest:
        changed: dict[str, int | bool] = {
            name: value
            for name in self.__struct_fields__
            if name != "public" and (value := getattr(self, name)) is not None
        }
        if self.public is not None:
            changed["ingress_private"] = not self.public
        return msgspec.structs.replace(handler, **changed)


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
    description: str | None = None
    metadata: Mapping[str, str] = {}
    # Of a key that nobody has written to for so long the state is cleared; None: never.
    state_retention_ms: int | None = None

    def handler(self, name: str) -> HandlerManifest | None:
        # A plain loop: every call asks six times, and a generator takes twice as long.
        for handler in self.handlers:
            if handler.name == name:
                return handler
        return None
