"""Named signals: values that an invocation is sent, kept until it waits for them."""

from __future__ import annotations

import pytest
from room import Room, add, counter, greeter, value

from nbdurable.core.commands import SendSignalCommand, SignalCommand
from nbdurable.core.futures import NamedSignal
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import Done, Refused, SendSignal, Suspend
from nbdurable.core.values import Failure


@pytest.fixture
def room() -> Room:
    return Room(greeter(), counter())


def send(room: Room, to: InvocationId, name: str = "go", data: bytes = b"1"):
    proposal = SendSignal(invocation_id=to, name=name, result=value(data), payload=data)
    return room.decide(proposal)


def wait(room: Room, one: InvocationId, index: int = 0, name: str = "go") -> None:
    room.append(one, SignalCommand(signal_name=name, index=index))
    leaf = NamedSignal(name=name, index=index)
    seen = room.inv(one).notification_count
    room.steps(one, Suspend(waiting_for=leaf, notification_count=seen))


def test_a_signal_wakes_whoever_waits_for_its_name(room: Room):
    one = room.invoke()
    wait(room, one)
    assert (room.status(one), room.inv(one).open_signals) == ("suspended", ["go"])
    send(room, one, "other")
    assert room.status(one) == "suspended"
    send(room, one)
    assert (room.status(one), room.inv(one).open_signals) == ("running", [])


def test_signals_that_come_early_are_kept_in_order(room: Room):
    """Each wait takes the next value; none is lost because nobody waited yet."""
    one = room.invoke()
    send(room, one, data=b"first")
    send(room, one, data=b"second")
    assert room.inv(one).heard == {
        NamedSignal(name="go", index=0): True,
        NamedSignal(name="go", index=1): True,
    }
    wait(room, one, 0)
    assert room.status(one) == "running"


def test_a_signal_to_one_that_is_scheduled_or_queued_is_kept(room: Room):
    """Restate loses it in silence; the sender was told that it was sent."""
    later = room.invoke(start_at_ms=room.now_ms + 1_000)
    room.invoke(add())
    queued = room.invoke(add())
    assert [send(room, one) for one in (later, queued)] == [Done(), Done()]
    assert [room.status(one) for one in (later, queued)] == ["scheduled", "pending"]
    assert [room.inv(one).has_heard(NamedSignal(name="go", index=0)) for one in (later, queued)]


def test_a_handler_signals_another_and_nobody_hears_of_one_that_has_ended(room: Room):
    one, other = room.invoke(), room.invoke()
    wait(room, other)
    command = SendSignalCommand(
        invocation_id=other, signal_id=0, signal_name="go", result=value(b"x")
    )
    assert room.append(one, command, b"x") == Done()
    assert room.status(other) == "running"
    gone = SendSignalCommand(
        invocation_id=InvocationId("inv_1gone"),
        signal_id=0,
        signal_name="go",
        result=Failure(code=500, message="no"),
    )
    assert room.append(one, gone) == Done()
    assert room.status(one) == "running"


def test_a_client_is_told_that_there_is_nobody_to_signal(room: Room):
    answer = send(room, InvocationId("inv_1gone"))
    assert isinstance(answer, Refused)
    assert answer.code == 404
