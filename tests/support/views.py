"""Read models, made up."""

from __future__ import annotations

from typing import Any

from nbdurable.client.views import EntryView, InvocationView
from nbdurable.core.ids import InvocationId


def view_of(**changes: Any) -> InvocationView:
    defaults: dict[str, Any] = {
        "id": InvocationId("inv_1abcdefghijklmnop"),
        "service": "Payment",
        "handler": "run",
        "key": "order-456",
        "is_run": True,
        "status": "running",
        "attempt": 1,
        "revision": 1,
        "entry_count": 1,
        "created_at_ms": 0,
        "modified_at_ms": 0,
    }
    return InvocationView(**{**defaults, **changes})


def entry_of(index: int, **changes: Any) -> EntryView:
    defaults: dict[str, Any] = {
        "index": index,
        "kind": "Run",
        "name": "reserve",
        "status": "done",
        "started_at_ms": 0,
        "ended_at_ms": 12,
    }
    return EntryView(**{**defaults, **changes})
