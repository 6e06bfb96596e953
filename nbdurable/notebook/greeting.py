"""What a journal says when it is opened: what is unfinished or has failed, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from nbdurable.client.picture import clock_time, handy_name, is_held, what_to_do
from nbdurable.client.views import InvocationView, first_line
from nbdurable.core.builtin import OWN_SERVICES

# What fits below a cell without scrolling; the rest is in `%durable ls`.
LINES_MAX: Final = 10
REASON_CHARS_MAX: Final = 80
_BY_PEOPLE: Final = ("killed", "cancelled")
# Nobody remembers who has looked when; whoever works with it daily misses none.
FAILED_MS_MAX: Final = 24 * 60 * 60 * 1000


def greeting(path: Path, views: Sequence[InvocationView], now_ms: int) -> Iterator[str]:
    """Nothing for a journal without runs; one line for each that is not over, or failed lately."""
    views = [
        view
        for view in views
        if view.service not in OWN_SERVICES or view.status in ("paused", "backing-off")
    ]
    if not views:
        return
    unfinished = [view for view in views if not view.is_done]
    failed = [view for view in views if _has_failed_lately(view, now_ms)]
    counts = [f"{len(unfinished)} not finished" if unfinished else "all finished"]
    counts += [f"{len(failed)} failed in the last day"] if failed else []
    named = [*unfinished, *failed]
    end = ":" if named else "; %durable ls"
    counted = f"{len(views)} run{'s'[: len(views) != 1]}"
    yield f"nbdurable: {counted} in {shown(path)}, {', '.join(counts)}{end}"
    for view in named[:LINES_MAX]:
        yield f"  {line_of(view)}"
    if len(named) > LINES_MAX:
        yield f"  … and {len(named) - LINES_MAX} more: %durable ls"


def joined(path: Path, program: str, pid: int) -> str:
    """What a kernel says that does not own the journal."""
    return (
        f"nbdurable: joined {shown(path)}, which {program} owns (pid {pid}); what is defined here"
        " runs here, and this kernel takes over when that one ends"
    )


def line_of(view: InvocationView) -> str:
    """One run in one sentence: `Payment/order-456 waits for 'approved' – …`."""
    if view.is_done:
        reason = _cut(first_line(view.failure or "for no reason"))
        at = clock_time(view.completed_at_ms or view.modified_at_ms)
        return f"{handy_name(view)} failed at {at}: {reason} – %durable show {handy_name(view)}"
    todo = what_to_do(view)
    if not view.is_code_loaded:
        todo = f"its code is not loaded: {view.how_to_load}"
    return f"{handy_name(view)} {_doing(view)}" + (f" – {todo}" if todo else "")


def shown(path: Path) -> str:
    """Relative where that is shorter."""
    try:
        return f"./{path.relative_to(Path.cwd())}"
    except ValueError:
        return str(path)


def _doing(view: InvocationView) -> str:
    if view.open_promises and view.status not in ("paused", "backing-off"):
        return "waits for " + ", ".join(f"'{promise}'" for promise in view.open_promises)
    match view.status:
        case "paused" if is_held(view):
            return "is paused by hand"
        case "paused" | "backing-off":
            reason = _cut(first_line(view.failure or "a failure"))
            return f"{'is paused' if view.status == 'paused' else 'retries'} after {reason}"
        case "scheduled" if view.wakes_at_ms is not None:
            return f"is scheduled for {clock_time(view.wakes_at_ms)}"
        case "suspended" if view.wakes_at_ms is not None:
            return f"sleeps until {clock_time(view.wakes_at_ms)}"
        case "pending":
            return "queues for its key"
        case "suspended":
            return "waits"
        case "ready":
            return "is about to run"
        case _:
            return "is running"


def _has_failed_lately(view: InvocationView, now_ms: int) -> bool:
    """Not for people, who have ended it themselves."""
    ended_ms = view.completed_at_ms
    is_ill = view.is_done and not view.succeeded and view.completed_by not in _BY_PEOPLE
    return is_ill and ended_ms is not None and now_ms - ended_ms < FAILED_MS_MAX


def _cut(text: str) -> str:
    return text if len(text) <= REASON_CHARS_MAX else text[: REASON_CHARS_MAX - 1] + "…"
