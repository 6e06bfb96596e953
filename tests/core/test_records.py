"""A row says what was written, or is found out: by its checksum, and by its payload's digest."""

from __future__ import annotations

from typing import Any

import pytest
from room import Room, greeter

from nbdurable.core.facts import InvocationCreated
from nbdurable.core.records import Row, UnknownFactError, checksum, decode, encode


@pytest.fixture
def row() -> Row:
    """The row of an invocation that was just created."""
    room = Room(greeter())
    room.invoke()
    record = next(r for r in room.records if isinstance(r.fact, InvocationCreated))
    assert isinstance(record.payload, bytes)
    return encode(record, room.state.epoch, record.payload)


def test_a_row_is_read_with_or_without_its_payload(row: Row):
    """A state is folded without reading a payload, and must be as sure of its rows."""
    assert decode(row).payload == b"in"
    assert decode(row._replace(payload=None)).fact == decode(row).fact


@pytest.mark.parametrize(
    "change",
    [
        {"lsn": 77},
        {"epoch": 77},
        {"at_ms": 77},
        {"kind": "EpochStarted"},
        {"invocation_id": "inv_1other"},
        {"invocation_id": None},
        {"entry_index": 77},
        {"name": "other"},
        {"body": "{}"},
        {"crc": 77},
    ],
    ids=str,
)
def test_a_change_of_any_column_is_found(row: Row, change: dict[str, Any]):
    with pytest.raises(ValueError, match="checksum of fact"):
        decode(row._replace(**change))


def test_a_changed_payload_is_found(row: Row):
    with pytest.raises(ValueError, match="payload of fact"):
        decode(row._replace(payload=b"IN"))


def test_a_fact_of_a_newer_version_is_not_called_damage(row: Row):
    """Its checksum is right: somebody wrote exactly this, and knows what it means."""
    newer = row._replace(body='{"type":"FromTheFuture"}')
    with pytest.raises(UnknownFactError, match="FromTheFuture"):
        decode(newer._replace(crc=checksum(newer)))
