"""Runs of notebooks as their lists have them, with no journal behind them."""

from __future__ import annotations

from typing import Any

from nbdurable.client.views import InvocationView
from nbdurable.core.ids import InvocationId
from nbdurable.runs.overview import Run
from nbdurable.runs.request import RunRequest


def run(key: str, began_ms: int, ended_ms: int | None, /, **parameters: Any) -> Run:
    """One of `fit.ipynb`; without an end it runs still."""
    view = InvocationView(
        id=InvocationId(f"inv_{key}"),
        service="Notebook",
        handler="run",
        key=key,
        status="running" if ended_ms is None else "completed",
        attempt=1,
        revision=1,
        entry_count=1,
        created_at_ms=began_ms,
        modified_at_ms=began_ms,
        completed_at_ms=ended_ms,
        succeeded=ended_ms is not None,
    )
    request = RunRequest(notebook="fit.ipynb", parameters=parameters)
    return Run(view=view, request=request, output=f"{key}.ipynb", is_sent=True)
