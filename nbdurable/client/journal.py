"""The entries of one invocation, folded from its facts: once, or as they are appended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

from nbdurable.client.views import EntryView
from nbdurable.core.commands import (
    AttachInvocationCommand,
    AwakeableCommand,
    CallCommand,
    Command,
    GetPromiseCommand,
    OneWayCallCommand,
    OutputCommand,
    SleepCommand,
    entry_type,
    name_of,
)
from nbdurable.core.facts import (
    AttemptFailed,
    EntryAppended,
    InvocationCompleted,
    InvocationCreated,
    NotificationAppended,
    OutputWritten,
    RunAttemptFailed,
)
from nbdurable.core.ids import awakeable_id
from nbdurable.core.notifications import (
    AnyNotification,
    CompletionNotification,
    SignalNotification,
)
from nbdurable.core.records import CopyOf, Lost, Record
from nbdurable.core.values import ErrorReport, Failure, OutputStream, Result
from nbdurable.invoker.output import overwritten

PREVIEW_CHARS_MAX = 160
# A screenful; the rest is for SQL.
OUTPUT_CHARS_MAX = 4_000

_Payload = bytes | Lost | None
_REFERS = CallCommand | OneWayCallCommand | AttachInvocationCommand


def journal_view(records: Iterable[Record]) -> tuple[EntryView, ...]:
    """The entries of one invocation, in order."""
    fold = JournalFold()
    for record in records:
        fold.add(record)
    return fold.take_changed()


class JournalFold:
    """Mutable: the entries so far, and which of them nobody has seen yet."""

    def __init__(self) -> None:
        self._entries: dict[int, EntryView] = {}
        self._changed: set[int] = set()
        self._by_completion: dict[int, int] = {}
        self._by_signal: dict[int, int] = {}
        # A step may be recorded as begun only after it has printed.
        self._unplaced: list[tuple[OutputWritten, _Payload]] = []
        self._last_index = 0
        self._seed = 0

    def add(self, record: Record) -> None:
        """The next fact of this invocation."""
        payload = record.payload
        assert not isinstance(payload, CopyOf), "a journal is read with its bytes"
        match record.fact:
            case InvocationCreated() as fact:
                self._seed = fact.seed
                begun = EntryView(
                    index=0,
                    kind="Input",
                    name=fact.target.handler,
                    status="done",
                    started_at_ms=record.at_ms,
                    ended_at_ms=record.at_ms,
                    value=preview(payload),
                )
                self._put(begun)
            case EntryAppended() as appended:
                self._append(appended, record.at_ms, payload)
            case NotificationAppended(entry_index=index, notification=notification):
                match notification:
                    case CompletionNotification(completion_id=id_):
                        settled = self._by_completion[id_]
                        self._hear(settled, notification, record.at_ms, payload)
                    case SignalNotification(signal_id=id_):
                        known = self._by_signal.get(id_)
                        if known is not None:
                            self._hear(known, notification, record.at_ms, payload)
                        else:
                            self._put(_cancelled(index, record.at_ms))
                self._reached(index)
            case RunAttemptFailed(completion_id=id_, error=error) as failed:
                self._retry(id_, error, failed.failure_count, failed.next_retry_at_ms)
            case AttemptFailed(error=error) as failed if error.completion_id in self._by_completion:
                assert error.completion_id is not None
                self._retry(
                    error.completion_id, error, failed.failure_count, failed.next_retry_at_ms
                )
            case OutputWritten() as written:
                self._unplaced.append((written, payload))
                self._place()
            case InvocationCompleted() as fact:
                index = fact.entry_count if fact.entry_index is None else fact.entry_index
                ending = EntryView(
                    index=index,
                    kind="Output" if fact.by == "output" else fact.by.capitalize(),
                    name=None,
                    status="running",
                    started_at_ms=record.at_ms,
                )
                self._put(ending)
                self._settle(index, fact.result, record.at_ms, payload)
            case _:
                pass

    def take_changed(self) -> tuple[EntryView, ...]:
        """Those that are new or have changed since they were taken last, in order."""
        late: dict[int, str] = {}
        for written, payload in self._unplaced:
            index = self._holder(written.entry_count - 1)
            before = late.get(index, self._entries[index].output)
            late[index] = printed(before, written.stream, payload)
        taken = sorted(self._changed)
        # What is shown of these is not settled, and they are to be shown anew when it is.
        self._changed = set(late)
        return tuple(
            replace(self._entries[index], output=late[index])
            if index in late
            else self._entries[index]
            for index in taken
        )

    def _append(self, appended: EntryAppended, at_ms: int, payload: _Payload) -> None:
        index, command = appended.entry_index, appended.command
        entry = _entry(index, command, at_ms, payload)
        completion_id = getattr(command, "completion_id", None)
        if completion_id is not None:
            self._by_completion[completion_id] = index
        if isinstance(command, AwakeableCommand):
            self._by_signal[command.signal_id] = index
            aid = awakeable_id(appended.invocation_id, self._seed, command.signal_id)
            entry = replace(entry, awakeable_id=aid)
        self._put(entry)
        self._reached(index)

    def _put(self, entry: EntryView) -> None:
        self._entries[entry.index] = entry
        self._changed.add(entry.index)

    def _hear(
        self, index: int, notification: AnyNotification, at_ms: int, payload: _Payload
    ) -> None:
        self._settle(index, notification.result, at_ms, payload)
        if notification.answered is not None:
            self._put(replace(self._entries[index], answered=notification.answered))

    def _settle(self, index: int, result: Result, at_ms: int, payload: _Payload) -> None:
        self._put(_settled(self._entries[index], result, at_ms, payload))

    def _retry(
        self, completion_id: int, error: ErrorReport, count: int, next_retry_at_ms: int | None
    ) -> None:
        self._put(
            replace(
                self._entries[self._by_completion[completion_id]],
                status="retrying",
                failure=error.message,
                failure_count=count,
                next_retry_at_ms=next_retry_at_ms,
            )
        )

    def _reached(self, index: int) -> None:
        self._last_index = max(self._last_index, index)
        if self._unplaced:
            self._place()

    def _place(self) -> None:
        """Put what was printed below its entry, as soon as that is known."""
        unplaced, self._unplaced = self._unplaced, []
        for written, payload in unplaced:
            by_step = self._by_completion.get(written.completion_id or 0)
            last = written.entry_count - 1
            if by_step is None and (written.completion_id or last > self._last_index):
                self._unplaced.append((written, payload))
                self._changed.add(self._holder(last))
                continue
            entry = self._entries[self._holder(last) if by_step is None else by_step]
            self._put(replace(entry, output=printed(entry.output, written.stream, payload)))

    def _holder(self, index: int) -> int:
        """What was printed after an entry that is none to look at goes to the one before."""
        index = min(index, self._last_index)
        while index not in self._entries:
            index -= 1
        return index


def preview(payload: _Payload) -> str | None:
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


def printed(before: str, stream: OutputStream, payload: _Payload) -> str:
    """Text as a terminal shows it, when this is written after that. Pictures are only named."""
    if isinstance(payload, Lost):
        return f"{before}{preview(payload)}\n"
    text = (payload or b"").decode(errors="replace")
    if stream == "display":
        text = f"{json.loads(text).get('text/plain', 'something displayed')}\n"
    whole = overwritten(before + text).replace("\r", "")
    kept = whole[-OUTPUT_CHARS_MAX:]
    return kept if kept == whole else f"…{kept}"


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
        child=command.invocation_id if isinstance(command, _REFERS) else None,
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


def _cancelled(index: int, at_ms: int) -> EntryView:
    return EntryView(
        index=index,
        kind="Cancel",
        name=None,
        status="done",
        started_at_ms=at_ms,
        ended_at_ms=at_ms,
    )
