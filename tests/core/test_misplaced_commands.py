"""Commands that our own contexts never say: their attempt is over, and nothing else is."""

from __future__ import annotations

import pytest
from room import Room, counter, greeter, kinds, payment, value

from nbdurable.core.commands import (
    AnyCommand,
    ClearAllStateCommand,
    ClearStateCommand,
    CompletePromiseCommand,
    GetPromiseCommand,
    PeekPromiseCommand,
    RunCommand,
    SendSignalCommand,
    SetStateCommand,
    SleepCommand,
)
from nbdurable.core.facts import InvocationPaused
from nbdurable.core.ids import InvocationId

ONE = InvocationId("inv_1one")


@pytest.fixture
def room() -> Room:
    return Room(greeter(), counter(), payment())


@pytest.mark.parametrize(
    "command",
    [
        SetStateCommand(key="n", value=value().value),
        ClearStateCommand(key="n"),
        ClearAllStateCommand(),
        GetPromiseCommand(completion_id=2, key="p"),
        PeekPromiseCommand(completion_id=2, key="p"),
        CompletePromiseCommand(completion_id=2, key="p", result=value()),
        SleepCommand(completion_id=1, wake_up_at_ms=7),
        SendSignalCommand(invocation_id=ONE, signal_id=17, signal_name="go"),
    ],
)
def test_what_does_not_belong_there_pauses_its_invocation(room: Room, command: AnyCommand) -> None:
    """It once ended the engine, for everybody: a process that has joined may say anything."""
    one, other = room.invoke(), room.invoke()
    room.append(one, RunCommand(completion_id=1, name="step"))
    room.append(one, command)
    assert kinds(room.facts) == ["AttemptFailed", "InvocationPaused"]
    assert isinstance(room.facts[-1], InvocationPaused)
    assert "cannot be recorded" in room.inv(one).last_error.message
    assert (room.status(one), room.status(other)) == ("paused", "running")
