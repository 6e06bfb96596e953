"""What holds where a service and its handler say nothing: the engine's own settings.

They are a fact of the log like everything else that decisions depend on.
"""

from __future__ import annotations

from nbdurable.core.limits import NO_LIMITS, Limits
from nbdurable.core.manifest import HandlerManifest
from nbdurable.core.values import INVOCATION_RETRY_DEFAULT, RetryPolicy, Value

# Source: restate-semantics.md, 1.7.
INACTIVITY_TIMEOUT_MS = 60_000
# Longer than Restate's day: a notebook's history is its user's, and a workflow key that was
# forgotten would run, and be paid for, again.
RETENTION_MS = 30 * 24 * 3_600_000


class Settings(Value, frozen=True, kw_only=True):
    """Units: milliseconds.

    Attributes:
        inactivity_timeout_ms: An attempt that only waits is suspended after this long.
        abort_timeout_ms: One that shows no progress for this long after that is cut off and tried
            again. None lets it be: in a notebook a step may take hours.
        journal_retention_ms: How long the journal of a completed invocation is kept.
        workflow_retention_ms: How long a workflow's result, state and promises are.
        idempotency_retention_ms: How long the result of a call with an idempotency key is.
    """

    limits: Limits = NO_LIMITS
    retry: RetryPolicy = INVOCATION_RETRY_DEFAULT
    inactivity_timeout_ms: int = INACTIVITY_TIMEOUT_MS
    abort_timeout_ms: int | None = None
    journal_retention_ms: int = RETENTION_MS
    workflow_retention_ms: int = RETENTION_MS
    idempotency_retention_ms: int = RETENTION_MS

    def retention_ms(self, handler: HandlerManifest, idempotency_key: str | None) -> Retention:
        """How long after its end an invocation of this handler is kept."""
        journal = _or(handler.journal_retention_ms, self.journal_retention_ms)
        if handler.type == "workflow":
            completion = _or(handler.workflow_retention_ms, self.workflow_retention_ms)
        elif idempotency_key is not None:
            completion = _or(handler.idempotency_retention_ms, self.idempotency_retention_ms)
        else:
            completion = journal
        # A journal without its invocation is nobody's.
        return Retention(completion_ms=completion, journal_ms=min(journal, completion))

    def retry_of(self, handler: HandlerManifest) -> RetryPolicy:
        return handler.retry or self.retry

    def inactivity_ms_of(self, handler: HandlerManifest) -> int:
        return _or(handler.inactivity_timeout_ms, self.inactivity_timeout_ms)

    def abort_ms_of(self, handler: HandlerManifest) -> int | None:
        own = handler.abort_timeout_ms
        return self.abort_timeout_ms if own is None else own


class Retention(Value, frozen=True, kw_only=True):
    completion_ms: int
    journal_ms: int


DEFAULT_SETTINGS = Settings()


def _or(own_ms: int | None, default_ms: int) -> int:
    return default_ms if own_ms is None else own_ms
