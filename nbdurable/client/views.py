"""Read models: what a person is shown of an invocation and of its journal.

Frozen, and without payloads beyond a bounded preview.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from nbdurable.core.commands import (
    AwakeableCommand,
    Command,
    GetPromiseCommand,
    OutputCommand,
    SleepCommand,
    entry_type,
    name_of,
)
from nbdurable.core.facts import (
    AttemptFailed,
    Completed,
    EntryAppended,
    InvocationCompleted,
    InvocationCreated,
    NotificationAppended,
    OutputWritten,
    RunAttemptFailed,
)
from nbdurable.core.ids import InvocationId, awakeable_id
from nbdurable.core.notifications import CompletionNotification, SignalNotification
from nbdurable.core.records import CopyOf, Lost, Record
from nbdurable.core.state import EngineState, Invocation, OpenSleep, ServiceState
from nbdurable.core.values import MISMATCH_CODE, Failure, OutputStream, Question, Result, Target
from nbdurable.invoker.output import overwritten

PREVIEW_CHARS_MAX = 160
# A screenful; the rest is for SQL.
OUTPUT_CHARS_MAX = 4_000
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
        is_run=inv.handler_type == "workflow",
        # One that runs has its code wherever it runs.
        is_code_loaded=inv.status == "running" or bool(state.links_for(inv)),
        how_to_load=_how_to_load(inv, service),
        paused_by=inv.paused_by,
        mismatch=_mismatch(inv),
    )


def _mismatch(inv: Invocation) -> Literal["acceptable", "hard"] | None:
    error = inv.last_error
    if error is None or error.code != MISMATCH_CODE or inv.paused_by != "error":
        return None
    return "acceptable" if error.can_accept else "hard"


def _how_to_load(inv: Invocation, service: ServiceState | None) -> str:
    """What a person does so that this invocation's code is there."""
    match None if service is None else service.manifest.origin:
        case None:
            return f"run the script of {inv.target.service}, or nbdurable up --app with its file"
        case "papermill":
            return "run its papermill command again; if it was sent, nbdurable up starts it"
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


def journal_view(records: Iterable[Record]) -> tuple[EntryView, ...]:
    """Fold the facts of one invocation into its entries, in order."""
    entries: dict[int, EntryView] = {}
    by_completion: dict[int, int] = {}
    by_signal: dict[int, int] = {}
    # A step may be recorded as begun only after it has printed.
    outputs: list[tuple[OutputWritten, bytes | Lost | None]] = []
    seed = 0
    for record in records:
        payload = record.payload
        assert not isinstance(payload, CopyOf), "a journal is read with its bytes"
        match record.fact:
            case InvocationCreated() as fact:
                seed = fact.seed
                entries[0] = EntryView(
                    index=0,
                    kind="Input",
                    name=fact.target.handler,
                    status="done",
                    started_at_ms=record.at_ms,
                    ended_at_ms=record.at_ms,
                    value=preview(payload),
                )
            case EntryAppended(entry_index=index, command=command):
                entries[index] = _entry(index, command, record.at_ms, payload)
                completion_id = getattr(command, "completion_id", None)
                if completion_id is not None:
                    by_completion[completion_id] = index
                if isinstance(command, AwakeableCommand):
                    by_signal[command.signal_id] = index
                    aid = awakeable_id(record.fact.invocation_id, seed, command.signal_id)
                    entries[index] = replace(entries[index], awakeable_id=aid)
            case NotificationAppended(notification=CompletionNotification() as done):
                index = by_completion[done.completion_id]
                entries[index] = _settled(entries[index], done.result, record.at_ms, payload)
            case NotificationAppended(entry_index=index, notification=SignalNotification() as done):
                known = by_signal.get(done.signal_id)
                if known is not None:
                    entries[known] = _settled(entries[known], done.result, record.at_ms, payload)
                else:
                    entries[index] = EntryView(
                        index=index,
                        kind="Cancel",
                        name=None,
                        status="done",
                        started_at_ms=record.at_ms,
                        ended_at_ms=record.at_ms,
                    )
            case RunAttemptFailed() as failed:
                index = by_completion[failed.completion_id]
                entries[index] = replace(
                    entries[index],
                    status="retrying",
                    failure=failed.error.message,
                    failure_count=failed.failure_count,
                    next_retry_at_ms=failed.next_retry_at_ms,
                )
            case OutputWritten() as written:
                outputs.append((written, payload))
            case AttemptFailed(error=error) as failed if error.completion_id in by_completion:
                index = by_completion[error.completion_id]
                entries[index] = replace(
                    entries[index],
                    status="retrying",
                    failure=error.message,
                    failure_count=failed.failure_count,
                    next_retry_at_ms=failed.next_retry_at_ms,
                )
            case InvocationCompleted() as fact:
                index = fact.entry_count if fact.entry_index is None else fact.entry_index
                ending = EntryView(
                    index=index,
                    kind="Output" if fact.by == "output" else fact.by.capitalize(),
                    name=None,
                    status="running",
                    started_at_ms=record.at_ms,
                )
                entries[index] = _settled(ending, fact.result, record.at_ms, payload)
            case _:
                pass
    for written, payload in outputs:
        index = by_completion.get(written.completion_id or 0, written.entry_count - 1)
        # What was printed after an entry that is none to look at goes to the one before.
        index = max(known for known in entries if known <= index)
        output = printed(entries[index].output, written.stream, payload)
        entries[index] = replace(entries[index], output=output)
    return tuple(entries[index] for index in sorted(entries))


def open_questions(entries: Iterable[EntryView]) -> dict[str, EntryView]:
    """What waits for somebody, by a promise's name or an awakeable's id, in the order of asking."""
    asked: dict[str, EntryView] = {}
    for entry in entries:
        ask_id = entry.awakeable_id or (entry.name if entry.kind == "GetPromise" else None)
        if ask_id is not None and entry.status == "waiting":
            asked[ask_id] = entry
    return asked


def preview(payload: bytes | Lost | None) -> str | None:
    """The value as text, cut; bytes that are no text are counted, what is lost is named."""
    if isinstance(payload, Lost):
        return f"<lost: blobs/{payload.digest}>"
    if not payload:
        return None
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return f"<{len(payload)} bytes>"
    return text if len(text) <= PREVIEW_CHARS_MAX else text[: PREVIEW_CHARS_MAX - 1] + "…"


def printed(before: str, stream: OutputStream, payload: bytes | Lost | None) -> str:
    """Text as a terminal shows it, when this is written after that. Pictures are only named."""
    if isinstance(payload, Lost):
        return f"{before}{preview(payload)}\n"
    text = (payload or b"").decode(errors="replace")
    if stream == "display":
        text = f"{json.loads(text).get('text/plain', 'something displayed')}\n"
    whole = overwritten(before + text).replace("\r", "")
    kept = whole[-OUTPUT_CHARS_MAX:]
    return kept if kept == whole else f"…{kept}"


def first_line(text: str) -> str:
    return text.partition("\n")[0]


def _entry(index: int, command: Command, at_ms: int, payload: bytes | Lost | None) -> EntryView:
    kind = entry_type(command).removeprefix("Command: ")
    name = name_of(command)
    waits = isinstance(command, GetPromiseCommand | AwakeableCommand | SleepCommand)
    is_open = waits or getattr(command, "completion_id", None) is not None
    value = preview(payload)
    if isinstance(command, SleepCommand):
        value = json.dumps({"wake_up_at_ms": command.wake_up_at_ms})
    assert not isinstance(command, OutputCommand), "an output is an InvocationCompleted"
    return EntryView(
        index=index,
        kind=kind,
        name=name,
        status=("waiting" if waits else "running") if is_open else "done",
        started_at_ms=at_ms,
        ended_at_ms=None if is_open else at_ms,
        value=value,
        arguments=getattr(command, "arguments", None),
        question=getattr(command, "question", None),
    )


def _settled(
    entry: EntryView, result: Result, at_ms: int, payload: bytes | Lost | None
) -> EntryView:
    if isinstance(result, Failure):
        failure = f"[{result.code}] {result.message}"
        return replace(
            entry, status="failed", ended_at_ms=at_ms, failure=failure, next_retry_at_ms=None
        )
    keeps = entry.kind in ("Sleep", "Call")
    return replace(
        entry,
        status="done",
        ended_at_ms=at_ms,
        value=entry.value if keeps and not payload else preview(payload) or entry.value,
        failure=None,
        next_retry_at_ms=None,
    )
