"""The beginning of a finished journal, for an invocation that starts anew from there.

What the journal says of the kept commands is kept as well, wherever it stands. A cancellation is
not: it was meant for the one that has ended.

Source: restate-semantics.md, 1.5 (restart as new, `from=N`).
"""

from __future__ import annotations

from collections.abc import Iterable

from nbdurable.core.commands import AnyCommand, AwakeableCommand, SignalCommand
from nbdurable.core.facts import EntryAppended, NotificationAppended, carried_ref
from nbdurable.core.futures import Completion, Leaf, NamedSignal, Signal
from nbdurable.core.notifications import AnyNotification, leaf_of
from nbdurable.core.records import Record
from nbdurable.core.values import Value


class PrefixEntry(Value, frozen=True, kw_only=True):
    """`payload_lsn` is where its bytes are, if it has any."""

    entry: AnyCommand | AnyNotification
    payload_lsn: int | None = None


def prefix_of(records: Iterable[Record], from_entry: int) -> tuple[PrefixEntry, ...]:
    """The entries before `from_entry` (an index of the journal; 1 is the first after the input)."""
    kept: list[PrefixEntry] = []
    asked: set[Leaf] = set()
    for lsn, _, fact, _ in records:
        match fact:
            case EntryAppended(entry_index=index, command=command) if index < from_entry:
                asked |= _leaves_of(command)
                kept.append(_entry(lsn, fact, command))
            case NotificationAppended(notification=notification):
                if leaf_of(notification) in asked:
                    kept.append(_entry(lsn, fact, notification))
            case _:
                pass
    return tuple(kept)


def _entry(
    lsn: int, fact: EntryAppended | NotificationAppended, entry: AnyCommand | AnyNotification
) -> PrefixEntry:
    ref = carried_ref(fact)
    return PrefixEntry(entry=entry, payload_lsn=lsn if ref is not None and ref.bytes else None)


def _leaves_of(command: AnyCommand) -> set[Leaf]:
    match command:
        case AwakeableCommand(signal_id=signal_id):
            return {Signal(id=signal_id)}
        case SignalCommand(signal_name=name, index=index):
            return {NamedSignal(name=name, index=index)}
        case _:
            completion_id = getattr(command, "completion_id", None)
            return set() if completion_id is None else {Completion(id=completion_id)}
