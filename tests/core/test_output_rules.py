"""What is printed is kept with the journal, up to a bound, and decides nothing."""

from __future__ import annotations

import pytest
from room import Room, greeter

from nbdurable.core.commands import RunCommand
from nbdurable.core.facts import OutputWritten
from nbdurable.core.proposals import AttemptSteps, Stale, WriteOutput
from nbdurable.core.rules.output import OUTPUT_BYTES_MAX


@pytest.fixture
def room() -> Room:
    return Room(greeter())


def test_output_says_how_long_the_journal_was_and_is_no_entry(room: Room):
    one = room.invoke()
    room.append(one, RunCommand(name="step", completion_id=1))
    room.steps(one, WriteOutput(stream="stdout", payload=b"hello\n", completion_id=1))
    (fact,) = room.facts
    assert isinstance(fact, OutputWritten)
    assert (fact.entry_count, fact.completion_id, fact.value.bytes) == (2, 1, 6)
    assert not fact.is_last
    assert room.inv(one).entry_count == 2


def test_a_loop_that_prints_is_recorded_up_to_a_bound(room: Room):
    """The last fact says that it is the last; what comes after is no fact."""
    one = room.invoke()
    half = bytes(OUTPUT_BYTES_MAX // 2)
    recorded = []
    for _ in range(5):
        room.steps(one, WriteOutput(stream="stdout", payload=half))
        recorded += room.facts
    assert [fact.is_last for fact in recorded] == [False, False, True]


def test_an_attempt_that_is_over_prints_into_no_journal(room: Room):
    one = room.invoke()
    inv = room.inv(one)
    late = AttemptSteps(
        epoch=room.state.epoch,
        invocation_id=one,
        seed=inv.seed,
        attempt=inv.attempt - 1,
        steps=(WriteOutput(stream="stderr", payload=b"late"),),
    )
    assert room.decide(late) == Stale()
    assert room.facts == []
