"""The picture of a run: one JSON value that widget, static HTML, text and terminal all draw.

What it is made of, and the words for it; `drawing.py` makes it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, TypedDict

from nbdurable.client.views import EntryView, InvocationView, first_line
from nbdurable.core.builtin import NOTEBOOK_SERVICE
from nbdurable.core.values import Question
from nbdurable.invoker.seal import MARK as PICKLE

# Enough to tell one run from another by eye, and to type.
SHORT_ID_CHARS: Final = 14
FAILURE_CHARS_MAX: Final = 400
VALUE_CHARS_MAX: Final = 60

Tone = Literal["ok", "bad", "busy", "waits", "quiet"]
Deed = Literal["pause", "resume", "cancel", "kill", "restart"]


class Surface(NamedTuple):
    """How a person is told what to do there.

    Attributes:
        command: What the verbs follow.
        repair: How code is corrected, with the service's name in it.
        accept: How a mismatch is accepted, with the run's name in it.
        is_shell: What is typed there is read by a shell.
    """

    command: str
    repair: str
    accept: str
    is_shell: bool = False

    def typed(self, name: str) -> str:
        """A name as it is to be typed: `report(rate=1)` means something else to a shell."""
        return shlex.quote(name) if self.is_shell else name


NOTEBOOK: Final = Surface(
    "%durable", "correct the cell of {} and run it again", "%durable accept {}"
)
TERMINAL: Final = Surface(
    "nbdurable",
    "correct the code of {} and start it again",
    "nbdurable resume --accept {}",
    is_shell=True,
)


class Row(TypedDict):
    """Units: ms – how long it took, None while it is open; *_at_ms – since the epoch.

    `child` is the invocation that it has called, empty if none; `is_cut`: there is more of its
    value than is shown; `by`: which person has answered, and when.
    """

    index: int
    kind: str
    name: str
    tone: Tone
    status: str
    ms: int | None
    since_ms: int
    due_at_ms: int | None
    value: str
    failure: str
    output: str
    child: str
    is_cut: bool
    by: str
    tries: int


class Ask(TypedDict):
    """A question to a person. `id` is a promise's name or an awakeable's id.

    `schema` is the answer's, None for any. `title` and `context` are empty when nobody has said
    more than the name.
    """

    id: str
    name: str
    title: str
    context: str
    schema: Any


class Picture(TypedDict):
    """`rows`: the newest of `count`, of which `earlier` are before them.

    `waits`: promises that a person can answer now. `todo`: what else a person can do.

    `failure`: what no row says. `deeds`: what can be done to it now. `now_ms`: the kernel's clock;
    `began_ms` and `ended_ms`, which is None while it goes on, are what its rows are drawn between.
    """

    id: str
    short_id: str
    target: str
    tone: Tone
    status: str
    facts: str
    notice: str
    failure: str
    due_at_ms: int | None
    count: int
    earlier: int
    rows: list[Row]
    waits: list[str]
    asks: list[Ask]
    todo: str
    said: str
    deeds: list[Deed]
    began_ms: int
    ended_ms: int | None
    now_ms: int


_TONES: Final[dict[str, Tone]] = {
    "running": "busy",
    "backing-off": "bad",
    "paused": "bad",
    "suspended": "waits",
    "scheduled": "waits",
    "pending": "waits",
    "ready": "waits",
}

_ROW_TONES: Final[dict[str, Tone]] = {
    "done": "ok",
    "failed": "bad",
    "retrying": "bad",
    "running": "busy",
    "waiting": "waits",
}

GLYPHS: Final[dict[Tone, str]] = {"ok": "✓", "bad": "✗", "busy": "●", "waits": "◌", "quiet": "·"}


def bar(row: Row, picture: Picture) -> tuple[float, float]:
    """Left and width, 0 to 1, of a row on the time from the picture's beginning to its end."""
    end_ms = picture["ended_ms"] or picture["now_ms"]
    whole = max(end_ms - picture["began_ms"], 1)
    took = end_ms - row["since_ms"] if row["ms"] is None else row["ms"]
    left = min(max((row["since_ms"] - picture["began_ms"]) / whole, 0.0), 1.0)
    return left, min(max(took / whole, 0.0), 1.0 - left)


def deeds_of(view: InvocationView) -> list[Deed]:
    if view.is_done:
        # A workflow runs once per key.
        return [] if view.is_run else ["restart"]
    first: Deed = "resume" if view.status in ("paused", "backing-off") else "pause"
    return [first, "cancel", "kill"]


def ask_of(ask_id: str, name: str | None, question: Question) -> Ask:
    return Ask(
        id=ask_id,
        name=name or "awakeable",
        title=question.title or "",
        context=question.context or "",
        schema=None if question.schema is None else json.loads(question.schema),
    )


def is_stuck(view: InvocationView) -> bool:
    """An answer would not bring it on: its code has to be corrected first, or it is tried again."""
    return view.status in ("paused", "backing-off") and view.is_code_loaded


def is_held(view: InvocationView) -> bool:
    """Paused by a person: nothing is wrong with it."""
    return view.status == "paused" and view.paused_by == "user"


def tone_of(view: InvocationView) -> Tone:
    if view.is_done:
        return "ok" if view.succeeded else "bad"
    if is_held(view):
        return "waits"
    if is_stuck(view):
        return "bad"
    if view.open_promises or view.open_awakeables or view.is_asleep or not view.is_code_loaded:
        return "waits"
    return _TONES.get(view.status, "quiet")


def status_of(view: InvocationView) -> str:
    """Restate's word, and what a person waits for; failures have a line of their own."""
    if view.is_done:
        ended = view.completed_by if view.completed_by in ("killed", "cancelled") else "failed"
        return "succeeded" if view.succeeded else ended
    if _lacks_code(view):
        is_notebook = view.service == NOTEBOOK_SERVICE
        return "waits for its process" if is_notebook else "its code is not loaded"
    if view.open_promises and not is_stuck(view):
        return f"waits for {_quoted(view.open_promises)}"
    if view.open_awakeables and not is_stuck(view):
        return "waits for an answer"
    if view.is_asleep and view.wakes_at_ms is not None and view.status in ("running", "suspended"):
        return f"sleeps until {clock_time(view.wakes_at_ms)}"
    return "paused by hand" if is_held(view) else view.status.replace("-", " ")


def wakes_by(view: InvocationView) -> str:
    """What it waits for and will go on by, empty when it has ended or waits for no event."""
    if view.is_done or view.status == "paused":
        return ""
    if view.status == "backing-off" and view.next_retry_at_ms is not None:
        return f"retry at {clock_time(view.next_retry_at_ms, seconds=True)}"
    if view.status == "scheduled" and view.wakes_at_ms is not None:
        return f"timer at {clock_time(view.wakes_at_ms, seconds=True)}"
    if view.status == "pending":
        return f"the lock of {view.service}/{view.key}"
    events = [f"promise '{name}'" for name in view.open_promises]
    events += ["awakeable"] * bool(view.open_awakeables)
    events += [f"signal '{name}'" for name in view.open_signals]
    events += [f"call to {target}" for target in view.open_calls]
    more = view.open_call_count - len(view.open_calls)
    events += [f"{more} calls more"] if more > 0 else []
    if view.wakes_at_ms is not None:
        events.append(f"timer at {clock_time(view.wakes_at_ms, seconds=True)}")
    return ", ".join(events)


def what_to_do(view: InvocationView, surface: Surface = NOTEBOOK) -> str:
    """The next thing for a person, empty when there is none."""
    name, repair = surface.typed(handy_name(view)), surface.repair.format(view.service)
    if view.is_done:
        return ""
    if _lacks_code(view):
        return view.how_to_load
    if (view.open_promises or view.open_awakeables) and not is_stuck(view):
        return f"{surface.command} approve {name}"
    if is_held(view):
        return f"{surface.command} resume {name}"
    if view.status == "paused" and view.mismatch is not None:
        accept = f", or {surface.accept.format(name)}" if view.mismatch == "acceptable" else ""
        return f"undo the change of {view.service}{accept}, or {surface.command} kill {name}"
    if view.status == "paused" and view.service == NOTEBOOK_SERVICE:
        return f"correct the notebook, then nbdurable runs resume {shlex.quote(view.key or '')}"
    if view.status == "paused":
        return f"{repair}, or {surface.command} resume {name}"
    if view.status == "backing-off":
        return f"it retries by itself; or {repair}"
    return ""


def _lacks_code(view: InvocationView) -> bool:
    """And wants it: what is suspended needs no code until it is answered."""
    return not view.is_code_loaded and view.status != "suspended"


def handy_name(view: InvocationView) -> str:
    """What to type for it: a workflow's name and key, else the beginning of its id.

    An object's key has many invocations, so it names none of them.
    """
    if view.is_run and view.key is not None and not any(char.isspace() for char in view.key):
        return f"{view.service}/{view.key}"
    return short_id(view.id)


def short_id(invocation_id: str) -> str:
    return invocation_id[:SHORT_ID_CHARS]


def clock_time(at_ms: int, *, seconds: bool = False) -> str:
    """Local time; the day only when it is not today."""
    at = datetime.fromtimestamp(at_ms / 1000, tz=UTC).astimezone()
    is_today = at.date() == datetime.now(tz=UTC).astimezone().date()
    time = f"{at:%H:%M:%S}" if seconds else f"{at:%H:%M}"
    return time if is_today else f"{at:%Y-%m-%d} {time}"


def duration(ms: int) -> str:
    """Two digits that matter: 12 ms, 3.4 s, 2 min 5 s, 3 h 12 min."""
    seconds = ms / 1000
    if seconds < 1:
        return f"{ms} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute has sixty seconds.
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour has sixty minutes.
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def when(row: Row) -> str:
    """How long a step took; of one that is open, what it does, and until when."""
    if row["due_at_ms"] is not None:
        return f"{row['status']}, until {clock_time(row['due_at_ms'])}"
    if row["ms"] is not None and row["status"] == "done":
        tries = f"{row['tries']} tries" if row["tries"] > 1 else ""
        return ", ".join(filter(None, (duration(row["ms"]) if row["ms"] else "", tries)))
    return row["status"]


def shortened(text: str) -> str:
    """One line of a table."""
    first = first_line(text)
    return first if len(first) <= VALUE_CHARS_MAX else f"{first[: VALUE_CHARS_MAX - 1]}…"


def facts_of(view: InvocationView) -> str:
    facts = [f"attempt {view.attempt}"] if view.attempt > 1 else []
    if view.revision is not None:
        facts.append(f"revision {view.revision}")
    facts.append(f"began {clock_time(view.created_at_ms)}")
    if view.completed_at_ms is not None:
        facts.append(f"took {duration(view.completed_at_ms - view.created_at_ms)}")
    elif view.wakes_at_ms is not None:
        facts.append(f"wakes {clock_time(view.wakes_at_ms)}")
    return " · ".join(facts)


def failure_of(view: InvocationView) -> str:
    """The failure that still matters: a run that has got over one is not failing."""
    if view.is_done:
        return "" if view.succeeded else _cut(view.failure or "")
    if is_held(view):
        return ""
    if view.status == "paused":
        return _cut(view.failure or "paused by hand")
    if view.status == "backing-off":
        where = f"\n  {view.failed_at}" if view.failed_at else ""
        return _cut(first_line(view.failure or "")) + where
    return ""


def row_of(view: InvocationView, entry: EntryView) -> Row:
    is_open = entry.ended_at_ms is None
    # What a finished run no longer waits for never will be done, and nobody is waiting.
    is_left = view.is_done and is_open
    tone = "quiet" if is_left else _ROW_TONES.get(entry.status, "quiet")
    return Row(
        index=entry.index,
        kind=entry.kind,
        name=f"{entry.name or ''}{entry.arguments or ''}",
        tone=tone,
        status="not needed" if is_left else _row_status(entry),
        ms=None if entry.ended_at_ms is None else entry.ended_at_ms - entry.started_at_ms,
        since_ms=entry.started_at_ms,
        due_at_ms=None if is_left else _due_at_ms(entry),
        value="" if entry.kind == "Sleep" else entry.value or "",
        failure=_cut(entry.failure or ""),
        output=entry.output,
        child=entry.child or "",
        by=_by(entry),
        tries=entry.failure_count + 1,
        is_cut=len(entry.value or "") > VALUE_CHARS_MAX,
    )


def _by(entry: EntryView) -> str:
    """`by ada (notebook) at 14:02: "too dear"`; empty where no person was."""
    if entry.answered is None or entry.ended_at_ms is None:
        return ""
    comment = entry.answered.comment
    said = "" if comment is None else f": “{_cut(comment)}”"
    return f"by {entry.answered.by} at {clock_time(entry.ended_at_ms)}{said}"


def _row_status(entry: EntryView) -> str:
    if entry.status == "retrying":
        return f"failed {entry.failure_count}×" if entry.failure_count > 1 else "failed once"
    return entry.status


def _due_at_ms(entry: EntryView) -> int | None:
    if entry.ended_at_ms is not None:
        return None
    if entry.kind == "Sleep" and entry.value:
        wake_up_at_ms: int = json.loads(entry.value)["wake_up_at_ms"]
        return wake_up_at_ms
    return entry.next_retry_at_ms


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _cut(text: str) -> str:
    return text if len(text) <= FAILURE_CHARS_MAX else text[: FAILURE_CHARS_MAX - 1] + "…"


def readable(value: bytes) -> Any:
    """JSON as it is; a pickle by its size; what is neither, as text."""
    if value.startswith(PICKLE):
        return f"a pickle of {len(value):,} bytes"
    try:
        return json.loads(value)
    except ValueError:
        return value.decode(errors="replace")
