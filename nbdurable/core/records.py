"""A record is a fact with its place in the log; a row is a record in the journal's file format.

The file format is these ten columns. `kind` is the fact's name, or Restate's entry type when the
fact is a journal entry (`Command: Run`, `Notification: Sleep`), so that SQL filters on it without
opening `body`. `body` is the whole fact as JSON; the other columns repeat what SQL asks for.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import msgspec

from nbdurable.core.commands import entry_type, name_of
from nbdurable.core.facts import (
    AnyFact,
    EntryAppended,
    InvocationCompleted,
    InvocationCreated,
    InvocationFact,
    InvocationRestored,
    NotificationAppended,
    PromiseCompleted,
    StateEdited,
    StateEditQueued,
    carried_ref,
)
from nbdurable.core.ids import digest_of
from nbdurable.core.notifications import notification_type
from nbdurable.core.values import ObjectId


class UnknownFactError(Exception):
    """A row whose checksum is right and whose fact is not known: a newer version wrote it."""


class CopyOf(NamedTuple):
    """Bytes that are already in the journal, under this lsn."""

    lsn: int


class Lost(NamedTuple):
    """In place of bytes that could not be read when they were to be copied.

    The fact stands, and names what is gone by its digest: whoever reads it is told, nobody else.
    """

    digest: str


class Record(NamedTuple):
    """`payload` is None for a fact without one. Units: at_ms – milliseconds since the epoch.

    Only whoever shows a journal is given one with a payload that is `Lost`.
    """

    lsn: int
    at_ms: int
    fact: AnyFact
    payload: bytes | CopyOf | Lost | None = None


class Row(NamedTuple):
    """Shape: one row of `fact`, in the order of its columns.

    crc covers every other column but the payload, whose digest is in the body: so a row can be
    trusted, and a state folded, without reading a payload.
    """

    lsn: int
    epoch: int
    at_ms: int
    kind: str
    invocation_id: str | None
    entry_index: int | None
    name: str | None
    body: str
    payload: bytes | Lost | None
    crc: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyFact)


def encode(record: Record, epoch: int, payload: bytes | Lost | None) -> Row:
    """A record as a row; `payload` is its bytes, fetched by the caller when it was a copy."""
    lsn, at_ms, fact, _ = record
    kind, invocation_id, entry_index, name = _columns(fact)
    body = _encoder.encode(fact).decode()
    columns = (lsn, epoch, at_ms, kind, invocation_id, entry_index, name, body)
    return Row(*columns, payload, _crc_of(columns))


def decode(row: Row) -> Record:
    """A row as a record. A row that was read without its payload gives a record without.

    Raises:
        UnknownFactError: It is what was written, and this version does not know it.
        ValueError: It is not what was written; the text says which row.
    """
    if checksum(row) != row.crc:
        raise ValueError(f"the checksum of fact {row.lsn} ({row.kind}) does not match its content")
    try:
        fact: AnyFact = _decoder.decode(row.body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise UnknownFactError(f"fact {row.lsn} ({row.kind}): {error}") from error
    payload = row.payload
    if isinstance(payload, bytes):
        ref = carried_ref(fact)
        if ref is not None and digest_of(payload) != ref.digest:
            raise ValueError(f"the payload of fact {row.lsn} ({row.kind}) is not what was written")
    return Record(row.lsn, row.at_ms, fact, payload)


def cannot_hold(value: msgspec.Struct) -> str | None:
    """Why the journal cannot hold this value, or None when it can.

    Types are not checked at run time: a key that is a number, or a text with half a character,
    would be found out by the commit, which then fails, or by the next owner, which cannot read it.
    """
    try:
        msgspec.json.decode(msgspec.json.encode(value), type=type(value))
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        return str(error)
    return None


def checksum(row: Row) -> int:
    return _crc_of(row[:8])


def _crc_of(columns: tuple[object, ...]) -> int:
    return zlib.crc32("\0".join(map(str, columns)).encode(errors="surrogatepass"))


def _columns(fact: AnyFact) -> tuple[str, str | None, int | None, str | None]:
    match fact:
        case EntryAppended(command=command):
            return entry_type(command), fact.invocation_id, fact.entry_index, name_of(command)
        case NotificationAppended(notification=notification):
            kind = notification_type(notification)
            name = getattr(notification, "name", None)
            return kind, fact.invocation_id, fact.entry_index, name
        case InvocationCreated():
            return "InvocationCreated", fact.invocation_id, 0, str(fact.target)
        case InvocationCompleted():
            return "InvocationCompleted", fact.invocation_id, fact.entry_index, fact.by
        case PromiseCompleted(object=of, promise=promise):
            return "PromiseCompleted", None, None, f"{of.service}/{of.key}/{promise}"
        case StateEdited(object=of, command=command):
            return "StateEdited", None, None, _state_name(of, name_of(command))
        case StateEditQueued(object=of, name=name):
            return "StateEditQueued", None, None, _state_name(of, name)
        case InvocationRestored(completed=completed):
            return "InvocationRestored", completed.id, None, None
        case InvocationFact():
            return type(fact).__name__, fact.invocation_id, None, None
        case _:
            return type(fact).__name__, None, None, None


def _state_name(of: ObjectId, name: str | None) -> str:
    return f"{of.service}/{of.key}" if name is None else f"{of.service}/{of.key}/{name}"
