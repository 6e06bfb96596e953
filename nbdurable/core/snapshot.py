"""The snapshot: the fewest facts that fold to what is known of the invocations that have ended.

It is made of rows alone, where they are absorbed, and stands in for them at recovery. A snapshot
is facts too: one encoding, one decoder, one promise to later versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nbdurable.core.facts import InvocationCompleted, InvocationCreated, InvocationRestored
from nbdurable.core.lives import completed_of, invocation_of
from nbdurable.core.records import Record, Row, decode, encode


def snapshot_of(rows: Iterable[Row]) -> Iterator[Row]:
    """One row for each invocation that has ended, in place of how it began and how it ended.

    Args:
        rows: In lsn order. Of others than creations and completions nothing is made.

    Raises:
        UnknownFactError: As `decode`.
        ValueError: As `decode`; or one has ended that never began.
    """
    began: dict[str | None, Row] = {}
    for row in rows:
        if row.kind == "InvocationCreated":
            began[row.invocation_id] = row
        elif row.kind == "InvocationCompleted":
            created = began.pop(row.invocation_id, None)
            if created is None:
                raise ValueError(f"fact {row.lsn} ends {row.invocation_id}, which never began")
            yield _restored(created, row)


def _restored(created: Row, completed: Row) -> Row:
    """By what folding the two facts makes of them, so it cannot say anything else than they do."""
    began, ended = decode(created), decode(completed)
    assert isinstance(began.fact, InvocationCreated), began
    assert isinstance(ended.fact, InvocationCompleted), ended
    inv = invocation_of(began.fact, began.lsn, began.at_ms)
    kept = InvocationRestored(completed=completed_of(inv, ended.fact, ended.lsn, ended.at_ms))
    return encode(Record(ended.lsn, ended.at_ms, kept), completed.epoch, None)
