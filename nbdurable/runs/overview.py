"""Notebook runs to look at: what each was asked for, how it stands, and what it came to.

As one table of many runs, and as a picture of when each ran.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from nbdurable.client.engine import EngineClient
from nbdurable.client.meant import did_you_mean, meant_by
from nbdurable.client.views import InvocationView
from nbdurable.core.builtin import NOTEBOOK_SERVICE
from nbdurable.errors import DefinitionError, InvocationNotFoundError
from nbdurable.runs.request import RunRequest, output_of, read_begun, read_request

if TYPE_CHECKING:
    import pandas as pd

# The tag of cells whose last value is what the run has found.
RESULTS_TAG: Final = "results"
# How NumPy shows a number: `np.float64(0.5)`.
_SCALAR: Final = re.compile(r"\bnp\.(?:float|int|uint|str_|bool)\w*\(([^()]*)\)")
# What it was sent is the entry before its first cell's.
_STARTS: Final = """
    select invocation.id, epoch_ms(min(journal.appended_at))
    from sys_invocation as invocation inner join sys_journal as journal using (id)
    where invocation.target like ? and journal.index > 0
    group by invocation.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run. `request`: None where nobody knows any more. `is_sent`: not begun by papermill."""

    view: InvocationView
    request: RunRequest | None
    output: str
    is_sent: bool

    @property
    def key(self) -> str:
        return self.view.key or ""

    @property
    def notebook(self) -> str:
        return "" if self.request is None else self.request.notebook

    @property
    def status(self) -> str:
        """`succeeded` and `failed` of what is over, else Restate's word; `queued` without one."""
        if self.view.is_done:
            return "succeeded" if self.view.succeeded else "failed"
        return "queued" if self.view.status == "ready" else self.view.status

    def until_ms(self, now_ms: int) -> int:
        """Until when something of it went on."""
        if self.view.status in ("paused", "suspended"):
            return self.view.modified_at_ms
        return self.view.completed_at_ms or now_ms

    def took_ms(self, now_ms: int) -> int:
        """From when it was sent."""
        return self.until_ms(now_ms) - self.view.created_at_ms


async def runs_of(
    client: EngineClient, *, notebook: str | None = None, sweep: str | None = None
) -> list[Run]:
    """All that are known, oldest first; of a notebook or a sweep, if one is named."""
    known = [_run(*called) for called in await client.calls_of(NOTEBOOK_SERVICE)]
    return [
        run
        for run in known
        if (notebook is None or run.notebook == notebook)
        and (sweep is None or (run.request is not None and run.request.sweep == sweep))
    ]


async def run_of(client: EngineClient, key: str) -> Run:
    """Raises InvocationNotFoundError when none has this key."""
    runs = await runs_of(client)
    for run in runs:
        if key in (run.key, run.view.id, f"{NOTEBOOK_SERVICE}/{run.key}"):
            return run
    asked = key.removeprefix(f"{NOTEBOOK_SERVICE}/")
    near = did_you_mean(meant_by(asked, (run.key for run in reversed(runs))))
    raise InvocationNotFoundError(
        f"there is no notebook run '{key}'; {near or '`nbdurable runs ls` shows those there are'}"
    )


def frame_of(runs: Iterable[Run], project: Path, now_ms: int) -> pd.DataFrame:
    """One row per run.

    Needs pandas.

    Shape: index the run's key; notebook, status, failure and output are text; began and ended are
    UTC; took is a timedelta; each parameter is a column, and so is each value of a dict that ends a
    cell tagged `results`, read from the output. What is neither a literal nor JSON is text. What
    has the name of a column that every run has is `parameter NAME` or `result NAME`.
    """
    import pandas as pd

    rows = []
    for run in runs:
        ended_at_ms = run.view.completed_at_ms
        row = {
            "key": run.key,
            "notebook": run.notebook,
            "status": run.status,
            "began": _time(run.view.created_at_ms),
            "ended": None if ended_at_ms is None else _time(ended_at_ms),
            "took": timedelta(milliseconds=run.took_ms(now_ms)),
            "output": run.output,
            "failure": run.view.failure or "",
        }
        parameters = {} if run.request is None else run.request.parameters
        results = results_of(project / run.output)
        rows.append(row | _beside(row, "parameter", parameters) | _beside(row, "result", results))
    return pd.DataFrame(rows or None, columns=None if rows else ["key"]).set_index("key")


def _beside(row: Mapping[str, Any], kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter may be called `output`, and hides none of what is known of every run."""
    return {f"{kind} {name}" if name in row else name: one for name, one in values.items()}


def results_of(output: Path) -> dict[str, Any]:
    """What the cells tagged `results` of an output notebook came to, by name."""
    found: dict[str, Any] = {}
    with suppress(OSError, ValueError, KeyError, AttributeError):
        # A run that has not got that far has none, and an output may have been moved away.
        for cell in json.loads(output.read_text(encoding="utf-8"))["cells"]:
            if RESULTS_TAG not in cell["metadata"].get("tags", []):
                continue
            for shown in cell["outputs"]:
                if shown["output_type"] == "execute_result":
                    found |= _named(shown["data"])
    return found


def _named(data: dict[str, Any]) -> dict[str, Any]:
    value = data.get("application/json")
    if value is None:
        text = "".join(data["text/plain"])
        try:
            value = ast.literal_eval(_SCALAR.sub(r"\1", text))
        except (ValueError, SyntaxError):
            value = text
    return value if isinstance(value, dict) else {RESULTS_TAG: value}


@dataclass(frozen=True, slots=True)
class Bar:
    """When a run was there, as parts of the whole time that is drawn.

    Until `starts` it was queued. Of one whose journal is purged nobody knows for how long.
    """

    run: Run
    begins: float
    starts: float
    ends: float


async def starts_of(client: EngineClient) -> dict[str, int]:
    """By invocation, when the first cell of each run began that has begun. Units: milliseconds."""
    found = await client.query(_STARTS, [f"{NOTEBOOK_SERVICE}/%"])
    return dict(found.rows)


def bars_of(runs: Sequence[Run], now_ms: int, starts_ms: Mapping[str, int]) -> list[Bar]:
    """Where each run lies between the first beginning and the last end, from 0 to 1."""
    if not runs:
        return []
    spans = []
    for run in runs:
        begin, end = run.view.created_at_ms, run.until_ms(now_ms)
        never = end if run.status == "queued" else begin
        spans.append((begin, min(max(starts_ms.get(run.view.id, never), begin), end), end))
    first = min(begin for begin, _, _ in spans)
    whole = max(max(end for _, _, end in spans) - first, 1)
    return [
        Bar(run, *((at - first) / whole for at in span))
        for run, span in zip(runs, spans, strict=True)
    ]


def drawn(bar: Bar, columns: int) -> tuple[str, str, str]:
    """A bar as text: what is before it, where it was queued, where it ran."""
    first = min(int(bar.begins * columns), columns - 1)
    queued = round((bar.starts - bar.begins) * columns)
    # One that was there for a moment is seen; one that is queued still has not run at all.
    least = 0 if bar.run.status == "queued" and queued else 1
    ran = max(round((bar.ends - bar.begins) * columns) - queued, least)
    queued = min(queued, columns - first - least)
    return " " * first, "─" * queued, "━" * min(ran, columns - first - queued)


def _run(view: InvocationView, argument: bytes | None) -> Run:
    request: RunRequest | None = None
    is_sent = False
    with suppress(DefinitionError):
        if argument is not None:
            request = read_request(argument)
            is_sent = request is not None
            if request is None:
                return _begun(view, argument)
    output = "" if request is None else output_of(request, view.key or "")
    return Run(view=view, request=request, output=output, is_sent=is_sent)


def _begun(view: InvocationView, argument: bytes) -> Run:
    """One that papermill has begun: what it says of itself is in the notebook's metadata."""
    request: RunRequest | None = read_begun(argument)
    if request is None:
        said = msgspec.json.decode(argument)
        request = RunRequest(
            notebook=str(said.get("input_path") or ""),
            output=str(said.get("output_path") or ""),
            parameters=dict(said.get("parameters") or {}),
        )
    return Run(view=view, request=request, output=request.output, is_sent=False)


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
