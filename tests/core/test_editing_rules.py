"""State edited by hand: at once, or in its turn behind those who have the lock and queue for it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from room import Room, add, approve_of, counter, greeter, kinds, payment, run_of, value

from nbdurable.core.attempt import ref_of
from nbdurable.core.commands import ClearAllStateCommand, OutputCommand, SetStateCommand
from nbdurable.core.facts import StateEdited
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import (
    Answer,
    CancelInvocation,
    Done,
    EditState,
    KillInvocation,
    PurgeInvocation,
    Refused,
    StateValue,
)
from nbdurable.core.rules.editing import version_of
from nbdurable.core.values import ObjectId, PayloadRef

ADA = ObjectId(service="Counter", key="ada")


@pytest.fixture
def room() -> Room:
    return Room(greeter(), counter(), payment())


def edit(
    room: Room, values: Mapping[str, bytes], version: str | None = None, of: ObjectId = ADA
) -> Answer:
    parts = tuple(
        StateValue(name=name, value=ref_of(data), payload=data) for name, data in values.items()
    )
    return room.decide(EditState(object=of, values=parts, version=version))


def finish(room: Room, one: InvocationId) -> None:
    room.append(one, OutputCommand(result=value()), b"1")


def write(room: Room, one: InvocationId, name: str, data: bytes) -> None:
    room.append(one, SetStateCommand(key=name, value=ref_of(data)), data)


def state_of(room: Room, of: ObjectId = ADA) -> dict[str, PayloadRef]:
    obj = room.state.objects.get(of)
    return {} if obj is None else obj.state


def sizes(room: Room, of: ObjectId = ADA) -> dict[str, int]:
    return {name: ref.bytes for name, ref in state_of(room, of).items()}


def test_an_edit_of_a_free_key_replaces_all_its_state_at_once(room: Room):
    one = room.invoke(add())
    write(room, one, "old", b"1")
    finish(room, one)
    assert edit(room, {"a": b"22", "b": b""}) == Done()
    assert kinds(room.facts) == ["StateEdited"] * 3
    assert sizes(room) == {"a": 2, "b": 0}


def test_an_edit_to_nothing_leaves_no_trace_of_the_key(room: Room):
    edit(room, {"a": b"1"})
    assert edit(room, {}) == Done()
    assert room.facts == [StateEdited(object=ADA, command=ClearAllStateCommand())]
    assert ADA not in room.state.objects


def test_an_edit_waits_for_the_holder_of_the_lock(room: Room):
    """Whoever holds it has read the state already, and would write over what it did not see."""
    one = room.invoke(add())
    assert edit(room, {"a": b"22"}) == Done()
    assert kinds(room.facts) == ["StateEditQueued"] * 2
    write(room, one, "a", b"1")
    assert sizes(room) == {"a": 1}
    finish(room, one)
    assert kinds(room.facts) == ["InvocationCompleted", "StateEdited", "StateEdited"]
    assert sizes(room) == {"a": 2}


def test_an_edit_has_its_turn_among_those_who_queue(room: Room):
    """First come, first served, as in Restate: the one before it sees the state before it."""
    one, two = room.invoke(add()), room.invoke(add())
    edit(room, {"a": b"22"})
    three = room.invoke(add())
    finish(room, one)
    assert sizes(room) == {}
    write(room, two, "a", b"1")
    finish(room, two)
    assert sizes(room) == {"a": 2}
    assert room.status(three) == "running"


def test_several_edits_are_made_in_the_order_they_came(room: Room):
    one = room.invoke(add())
    edit(room, {"a": b"1"})
    edit(room, {"b": b"22"})
    finish(room, one)
    assert sizes(room) == {"b": 2}


def test_one_that_leaves_the_queue_takes_no_edit_with_it(room: Room):
    """An edit behind a cancelled one is behind whoever was before that, not suddenly due."""
    one, two, three = (room.invoke(add()) for _ in range(3))
    edit(room, {"a": b"22"})
    room.decide(CancelInvocation(invocation_id=three))
    room.decide(CancelInvocation(invocation_id=two))
    assert sizes(room) == {}
    finish(room, one)
    assert sizes(room) == {"a": 2}


@pytest.mark.parametrize("first", [0, 1])
def test_an_edit_is_not_due_before_those_who_queue_before_it(room: Room, first: int):
    one, two, three = (room.invoke(add()) for _ in range(3))
    edit(room, {"a": b"22"})
    room.decide(CancelInvocation(invocation_id=[three, two][first]))
    finish(room, one)
    assert sizes(room) == {}
    finish(room, [two, three][first])
    assert sizes(room) == {"a": 2}


def test_a_killed_holder_lets_edits_in(room: Room):
    one = room.invoke(add())
    edit(room, {"a": b"22"})
    room.decide(KillInvocation(invocation_id=one))
    assert sizes(room) == {"a": 2}


def test_an_edit_that_was_made_needs_nobody_whom_it_waited_for(room: Room):
    """Purged with its holder's facts, it once kept the journal from being opened."""
    one = room.invoke(add())
    edit(room, {"a": b"22"})
    finish(room, one)
    room.decide(PurgeInvocation(invocation_id=one))
    room.restart(counter())
    assert sizes(room) == {"a": 2}


def test_a_queued_edit_outlives_a_restart(room: Room):
    room.invoke(add())
    edit(room, {"a": b"22"})
    one = next(iter(room.state.invocations))
    room.restart(counter())
    finish(room, one)
    assert sizes(room) == {"a": 2}


def test_a_workflow_has_no_lock_to_wait_for(room: Room):
    """Its run does not hold one: its key admits one run."""
    one = room.invoke(run_of())
    order = ObjectId(service="Payment", key="order")
    assert edit(room, {"a": b"1"}, of=order) == Done()
    assert sizes(room, order) == {"a": 1}
    finish(room, one)
    room.decide(PurgeInvocation(invocation_id=one))
    assert sizes(room, order) == {}
    room.invoke(approve_of())


@pytest.mark.parametrize(
    ("service", "code"), [("Greeter", 400), ("Nobody", 404)], ids=["no keys", "no service"]
)
def test_only_what_has_keys_has_state(room: Room, service: str, code: int):
    """Restate accepts an edit of a service that it does not know, and forgets it."""
    answer = edit(room, {"a": b"1"}, of=ObjectId(service=service, key="k"))
    assert isinstance(answer, Refused)
    assert answer.code == code
    assert room.facts == []


def test_an_edit_of_the_version_that_is_there_is_made(room: Room):
    assert edit(room, {"a": b"1"}, version_of({})) == Done()
    assert edit(room, {"a": b"2"}, version_of(state_of(room))) == Done()
    assert sizes(room) == {"a": 1}


def test_an_edit_of_a_version_that_is_gone_is_refused(room: Room):
    """Restate says 202 and drops it in silence."""
    version = version_of(state_of(room))
    edit(room, {"a": b"1"})
    answer = edit(room, {"a": b"2"}, version)
    assert isinstance(answer, Refused)
    assert answer.code == 409
    assert "has changed since it was read" in answer.message


def test_an_edit_of_a_version_is_refused_while_the_key_is_in_use(room: Room):
    """What its version will be when the edit has its turn, nobody knows."""
    one = room.invoke(add())
    answer = edit(room, {"a": b"2"}, version_of({}))
    assert isinstance(answer, Refused)
    assert answer.code == 409
    assert one in answer.message


def test_a_version_that_others_have_computed_says_nothing_to_us(room: Room):
    """The official CLI sends its own digest of what it has read by SQL."""
    edit(room, {"a": b"1"})
    assert edit(room, {"a": b"22"}, "x" * 43) == Done()
    assert sizes(room) == {"a": 2}


def test_equal_states_have_equal_versions():
    a, b = ref_of(b"1"), ref_of(b"2")
    assert version_of({"a": a, "b": b}) == version_of({"b": b, "a": a})
    assert len({version_of(s) for s in ({}, {"a": a}, {"b": a}, {"a": b})}) == 4


def test_what_cannot_be_recorded_is_refused(room: Room):
    answer = edit(room, {"\ud800": b"1"})
    assert isinstance(answer, Refused)
    assert answer.code == 400
