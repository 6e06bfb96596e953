"""Read models: what a person is shown of an invocation and of its journal.

Frozen, and without payloads beyond a bounded preview.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from nbdurable.core.builtin import NOTEBOOK_SERVICE
from nbdurable.core.facts import (
    Completed,
)
from nbdurable.core.ids import InvocationId, awakeable_id
from nbdurable.core.state import EngineState, Invocation, OpenSleep, ServiceState
from nbdurable.core.values import MISMATCH_CODE, Answered, Failure, Question, Target

# What is said in one line of a list.
CALLS_NAMED_MAX = 3
_FRAME = re.compile(r'^  File "([^"]+)", line (\d+)', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationView:
    """Units: …_ms – milliseconds since the epoch. `status` is Restate's word."""

    id: InvocationId
    service: str
    handler: str
    key: str | None
    scope: str | None = None
    status: str
    attempt: int
    revision: int | None
    entry_count: int
    created_at_ms: int
    modified_at_ms: int
    completed_at_ms: int | None = None
    succeeded: bool | None = None
    failure: str | None = None
    # File and line of the user's own code that raised, as `File "x.py", line 3`.
    failed_at: str | None = None
    failure_count: int = 0
    next_retry_at_ms: int | None = None
    wakes_at_ms: int | None = None
    # Nothing but a timer is open.
    is_asleep: bool = False
    open_promises: tuple[str, ...] = ()
    open_awakeables: tuple[str, ...] = ()
    open_signals: tuple[str, ...] = ()
    # Whose results it waits for, by their targets: the first of `open_call_count`.
    open_calls: tuple[str, ...] = ()
    open_call_count: int = 0
    is_run: bool = False
    is_code_loaded: bool = True
    how_to_load: str = ""
    completed_by: str | None = None
    paused_by: str | None = None
    # Its last attempt asked for something else than is recorded.
    mismatch: Literal["acceptable", "hard"] | None = None

    @property
    def target(self) -> str:
        return str(
            Target(service=self.service, handler=self.handler, key=self.key, scope=self.scope)
        )

    @property
    def is_done(self) -> bool:
        return self.status == "completed"

    @property
    def headline(self) -> str:
        """The status, and in a few words what it waits for or why it is so."""
        if self.is_done:
            return "succeeded" if self.succeeded else f"failed: {self.failure}"
        if not self.is_code_loaded:
            return f"waiting for its code: {self.how_to_load}"
        if self.open_promises:
            return f"{self.status}, waiting for {', '.join(map(repr, self.open_promises))}"
        if self.status == "paused":
            return f"paused: {first_line(self.failure or 'by hand')}"
        if self.status == "backing-off":
            return f"backing off after {first_line(self.failure or 'a failure')}"
        return self.status

    def __repr__(self) -> str:
        return (
            f"<Invocation {self.id[:12]}… {self.target} {self.status}, {self.entry_count} entries>"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryView:
    """One command and what became of it: done, failed, retrying, running or waiting."""

    index: int
    kind: str
    name: str | None
    status: str
    started_at_ms: int
    ended_at_ms: int | None = None
    value: str | None = None
    failure: str | None = None
    failure_count: int = 0
    next_retry_at_ms: int | None = None
    awakeable_id: str | None = None
    # What a person is asked who can complete it.
    question: Question | None = None
    # What a step's function was called with, as `('a', n=1)`.
    arguments: str | None = None
    # What was printed by this step, or by the handler after this entry, cut from the front.
    output: str = ""
    # Whom this entry has called, or waits for.
    child: InvocationId | None = None
    # Who gave its result, where a person did, and what they had to say besides.
    answered: Answered | None = None


def invocation_view(state: EngineState, inv: Invocation | Completed) -> InvocationView:
    return _completed_view(inv) if isinstance(inv, Completed) else _live_view(state, inv)


def _completed_view(inv: Completed) -> InvocationView:
    result = inv.result
    return InvocationView(
        id=inv.id,
        service=inv.target.service,
        handler=inv.target.handler,
        key=inv.target.key,
        scope=inv.target.scope,
        status=inv.status,
        attempt=inv.attempt,
        revision=inv.revision,
        entry_count=inv.entry_count,
        created_at_ms=inv.created_at_ms,
        modified_at_ms=inv.completed_at_ms,
        completed_at_ms=inv.completed_at_ms,
        succeeded=not isinstance(result, Failure),
        failure=result.message if isinstance(result, Failure) else None,
        is_run=inv.handler_type == "workflow",
        completed_by=inv.completed_by,
    )


def _live_view(state: EngineState, inv: Invocation) -> InvocationView:
    service = state.services.get(inv.target.service)
    error = inv.last_error
    return InvocationView(
        id=inv.id,
        service=inv.target.service,
        handler=inv.target.handler,
        key=inv.target.key,
        scope=inv.target.scope,
        status=inv.status,
        attempt=inv.attempt,
        revision=inv.revision,
        entry_count=inv.entry_count,
        created_at_ms=inv.created_at_ms,
        modified_at_ms=inv.modified_at_ms,
        failure=None if error is None else error.message,
        failed_at=None if error is None else _users_line(error.stacktrace),
        failure_count=inv.failure_count,
        next_retry_at_ms=inv.next_retry_at_ms,
        is_asleep=bool(inv.sleeping) and not _is_busy(inv),
        wakes_at_ms=min(inv.sleeping.values(), default=inv.start_at_ms),
        open_promises=tuple(dict.fromkeys(inv.open_promises.values())),
        open_awakeables=tuple(awakeable_id(inv.id, inv.seed, s) for s in inv.open_awakeables),
        open_signals=tuple(inv.open_signals),
        open_calls=_called(state, inv),
        open_call_count=len(inv.open_calls),
        is_run=inv.handler_type == "workflow",
        is_code_loaded=_has_code(state, inv),
        how_to_load=_how_to_load(inv, service),
        paused_by=inv.paused_by,
        mismatch=_mismatch(inv),
    )


def _called(state: EngineState, inv: Invocation) -> tuple[str, ...]:
    known = (state.find(called) for called in inv.open_calls.values())
    targets = (str(one.target) for one in known if one is not None)
    return tuple(islice(targets, CALLS_NAMED_MAX))


def _mismatch(inv: Invocation) -> Literal["acceptable", "hard"] | None:
    error = inv.last_error
    if error is None or error.code != MISMATCH_CODE or inv.paused_by != "error":
        return None
    return "acceptable" if error.can_accept else "hard"


def _has_code(state: EngineState, inv: Invocation) -> bool:
    """One that runs has its code wherever it runs; and a notebook's comes with its process."""
    is_notebook = inv.target.service == NOTEBOOK_SERVICE and inv.status != "ready"
    return inv.status == "running" or is_notebook or bool(state.links_for(inv))


def _how_to_load(inv: Invocation, service: ServiceState | None) -> str:
    """What a person does so that this invocation's code is there."""
    match None if service is None else service.manifest.origin:
        case None:
            return f"run the script of {inv.target.service}, or nbdurable up --app with its file"
        case "papermill":
            return (
                "whoever has the journal starts its process, if it was sent; or run it here:"
                f" nbdurable runs resume {shlex.quote(inv.target.key or '')}"
            )
        case _:
            return f"re-run the cell that defines {inv.target.service}"


def _is_busy(inv: Invocation) -> bool:
    return bool(inv.awaited) or any(not isinstance(o, OpenSleep) for o in inv.open.values())


def _users_line(stacktrace: str) -> str | None:
    """The innermost frame of the file that the traceback begins in: the user's, not a library's."""
    frames = _FRAME.findall(stacktrace)
    return next(
        (f'File "{file}", line {line}' for file, line in reversed(frames) if file == frames[0][0]),
        None,
    )


def ask_id_of(entry: EntryView) -> str | None:
    """By what somebody can answer it: a promise's name or an awakeable's id; None if nobody can."""
    return entry.awakeable_id or (entry.name if entry.kind == "GetPromise" else None)


def open_questions(entries: Iterable[EntryView]) -> dict[str, EntryView]:
    """What waits for somebody, by a promise's name or an awakeable's id, in the order of asking."""
    asked: dict[str, EntryView] = {}
    for entry in entries:
        ask_id = ask_id_of(entry)
        if ask_id is not None and entry.status == "waiting":
            asked[ask_id] = entry
    return asked


def first_line(text: str) -> str:
    return text.partition("\n")[0]
