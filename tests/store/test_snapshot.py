"""What opening reads instead of the facts of those who have ended folds to the same state."""

from __future__ import annotations

import random
import sys
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import note, settings
from store_facts import ONE, Log
from tables import Tables, rows_of

from nbdurable.core.evolve import evolve
from nbdurable.core.machine import fold
from nbdurable.core.records import Row, decode
from nbdurable.core.snapshot import snapshot_of
from nbdurable.core.state import EngineState
from nbdurable.engine.ports import StateRow
from nbdurable.engine.recovery import recover
from nbdurable.store.sql import QUERIES
from nbdurable.testing.invariants import assert_same

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))
from test_machine_state import EngineLife


@cache
def tables() -> Tables:
    """One for all examples: making the views takes longer than a life."""
    return Tables()


class Absorbed:
    """Rows as a store has them that was opened after these were absorbed, at each of these ends.

    There was time for the snapshot at those of them that are `extended`.
    """

    def __init__(self, rows: Sequence[Row], *ends: int, extended: Collection[int] = ()) -> None:
        tables().hold(rows, *ends, len(rows), extended={*extended, len(rows)})
        self._last_lsn = len(rows)

    def last_lsn(self) -> int:
        return self._last_lsn

    def load(self) -> Iterator[Row]:
        # In two parts, as a store loads what is large.
        middle = self._last_lsn // 2
        for first_lsn, last_lsn in ((1, middle), (middle + 1, 2**62)):
            part = {"first_lsn": first_lsn, "last_lsn": last_lsn}
            found = tables().connection.execute(QUERIES["load"], part).fetchall()
            yield from map(Row._make, found)

    def load_state(self) -> Iterator[StateRow]:
        found = tables().connection.execute(QUERIES["load_state"]).fetchall()
        return map(StateRow._make, found)


def go_on(state: EngineState, rows: Sequence[Row]) -> EngineState:
    for row in rows:
        record = decode(row)
        evolve(state, record.lsn, record.at_ms, record.fact)
    return state


class LifeReloaded(EngineLife):
    """Lives as `EngineLife` does; at its end it is reloaded from several moments of it."""

    def teardown(self) -> None:
        rows = rows_of(self.room.records)
        chance = random.Random(len(rows))
        for lsn in {len(rows), *(chance.randint(0, len(rows)) for _ in range(4))}:
            ends = [chance.randint(0, lsn) for _ in range(chance.randint(0, 2))]
            extended = {end for end in (*ends, lsn) if chance.random() < 0.5}
            note(f"absorbed at {ends} and {lsn} of {len(rows)} rows, with time at {extended}")
            reloaded = recover(Absorbed(rows[:lsn], *ends, extended=extended)).state
            assert_same(go_on(reloaded, rows[lsn:]), self.room.state)


TestLifeReloaded = pytest.mark.slow(LifeReloaded.TestCase)
TestLifeReloaded.settings = settings(max_examples=30, stateful_step_count=60)


def test_a_snapshot_is_one_fact_for_each_that_has_ended_and_folds_to_what_it_stands_for():
    log = Log()
    rows = [log.created(ONE), log.started(ONE), log.completed(ONE)]
    snapshot = [decode(row) for row in snapshot_of([rows[0], rows[2]])]
    assert len(snapshot) == 1
    assert fold(snapshot) == fold(decode(row) for row in rows)


def test_an_end_without_a_beginning_is_damage():
    log = Log()
    log.created(ONE)
    with pytest.raises(ValueError, match="fact 2 ends inv_1one, which never began"):
        list(snapshot_of([log.completed(ONE)]))


def test_a_snapshot_is_not_made_of_what_is_not_what_was_written():
    log = Log()
    began, ended = log.created(ONE), log.completed(ONE)
    with pytest.raises(ValueError, match="checksum of fact 1"):
        list(snapshot_of([began._replace(at_ms=0), ended]))
