"""All that one entry of a journal holds, as text for a person: bounded, but no mere preview."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from nbdurable.client.journal import preview
from nbdurable.core.commands import CallCommand, OneWayCallCommand
from nbdurable.core.facts import (
    EntryAppended,
    InvocationCompleted,
    InvocationCreated,
    NotificationAppended,
    RunAttemptFailed,
)
from nbdurable.core.notifications import CompletionNotification, SignalNotification
from nbdurable.core.records import CopyOf, Lost, Record
from nbdurable.core.values import Failure

# A page lays out so much at once; the rest is for SQL.
TEXT_CHARS_MAX: Final = 64 * 1024


def entry_text(records: Iterable[Record], entry_index: int) -> str:
    """What went in and what came of it; empty when there is no such entry, or nothing in it."""
    found: dict[str, str] = {}
    completion_id: int | None = None
    signal_id: int | None = None
    for record in records:
        payload = record.payload
        assert not isinstance(payload, CopyOf), "a journal is read with its bytes"
        match record.fact:
            case InvocationCreated() if entry_index == 0:
                found["argument"] = readable_text(payload)
            case EntryAppended(entry_index=index, command=command) if index == entry_index:
                completion_id = getattr(command, "completion_id", None)
                signal_id = getattr(command, "signal_id", None)
                is_call = isinstance(command, CallCommand | OneWayCallCommand)
                found["argument" if is_call else "value"] = readable_text(payload)
            case NotificationAppended(notification=CompletionNotification() as done):
                if completion_id is not None and done.completion_id == completion_id:
                    found["result"] = _result(done.result, payload)
            case NotificationAppended(notification=SignalNotification() as done):
                if signal_id is not None and done.signal_id == signal_id:
                    found["result"] = _result(done.result, payload)
            case RunAttemptFailed(completion_id=id_, error=error) if id_ == completion_id:
                found["last failure"] = error.stacktrace or error.message
            case InvocationCompleted() as fact:
                index = fact.entry_count if fact.entry_index is None else fact.entry_index
                if index == entry_index:
                    found["result"] = _result(fact.result, payload)
            case _:
                pass
    said = {name: text for name, text in found.items() if text}
    if len(said) == 1:
        return next(iter(said.values()))
    return "\n\n".join(f"{name}:\n{text}" for name, text in said.items())


def readable_text(payload: bytes | Lost | None) -> str:
    """JSON indented, other text as it is; cut, and said so. Bytes that are no text are counted."""
    if not isinstance(payload, bytes) or not payload:
        return preview(payload) or ""
    head = payload[: 4 * TEXT_CHARS_MAX]
    try:
        text = head.decode(errors="strict" if len(head) == len(payload) else "ignore")
    except UnicodeDecodeError:
        return f"<{len(payload)} bytes>"
    if len(head) == len(payload):
        with suppress(ValueError):
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    if len(text) <= TEXT_CHARS_MAX and len(head) == len(payload):
        return text
    return f"{text[:TEXT_CHARS_MAX]}…\n({len(payload)} bytes in all; SQL has the rest)"


def _result(result: object, payload: bytes | Lost | None) -> str:
    if isinstance(result, Failure):
        return f"[{result.code}] {result.message}"
    return readable_text(payload)
