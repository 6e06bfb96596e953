"""Sugar for handlers: `from nbdurable import durable`, then `@durable.step` and its like."""

from __future__ import annotations

from nbdurable.sdk.approval import approval
from nbdurable.sdk.blocking import wait
from nbdurable.sdk.context import current_context
from nbdurable.sdk.steps import step

__all__ = ["approval", "current_context", "step", "wait"]
