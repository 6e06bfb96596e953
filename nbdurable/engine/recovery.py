"""From a store to the state of the machine: after a start, and after a commit that failed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from nbdurable.core.facts import StateRestored
from nbdurable.core.machine import EngineMachine, fold
from nbdurable.core.records import Record, UnknownFactError, decode
from nbdurable.core.values import ObjectId, PayloadRef
from nbdurable.engine.ports import StateRow, Store
from nbdurable.errors import JournalDamagedError, JournalVersionError


def recover(store: Store) -> EngineMachine:
    """Fold everything the open store holds.

    Raises:
        JournalDamagedError: A fact is not what was written.
    """
    state = fold(_records(store), _states(store))
    assert state.last_lsn <= store.last_lsn(), "the store has lost what it gave"
    # The last facts may have been purged; their lsns are not given again.
    state.last_lsn = store.last_lsn()
    return EngineMachine(state)


def _records(store: Store) -> Iterator[Record]:
    try:
        for row in store.load():
            yield decode(row)
    except UnknownFactError as error:
        raise JournalVersionError(
            "The journal holds something that this version of nbdurable does not know"
            f" ({error}): a newer version wrote it. Nothing is lost; open it with that one."
        ) from error
    except ValueError as error:
        raise JournalDamagedError(
            f"The journal is damaged: {error}. No fact was changed. Copy the journal folder"
            " aside, then restore it from a backup, or move it away to begin a new one."
        ) from error


def _states(store: Store) -> Iterator[StateRestored]:
    """Exact where the log is not: journals of finished invocations are not folded again."""

    def object_of(row: StateRow) -> tuple[str, str]:
        return row.service, row.key

    for (service, key), rows in groupby(store.load_state(), object_of):
        scope, _, name = service.rpartition("/")
        yield StateRestored(
            object=ObjectId(service=name, key=key, scope=scope or None),
            entries={
                row.name: PayloadRef(
                    bytes=row.value_bytes,
                    digest=row.digest,
                    lsn=row.lsn,
                    comparable=row.comparable,
                )
                for row in rows
            },
        )
