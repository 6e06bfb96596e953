"""At most so many attempts at once: of the engine, of a service, of a scope and its limit keys."""

from __future__ import annotations

import pytest
from room import GREET, Room, add, counter, error, greeter, value

from nbdurable.core.attempt import ref_of
from nbdurable.core.commands import OutputCommand, SleepCommand
from nbdurable.core.futures import Completion
from nbdurable.core.ids import InvocationId, random_invocation_id
from nbdurable.core.limits import Limits
from nbdurable.core.proposals import (
    ConfigureEngine,
    FailAttempt,
    Invoke,
    KillInvocation,
    PauseInvocation,
    Suspend,
)
from nbdurable.core.settings import Settings
from nbdurable.core.values import Target


def limited(**limits) -> Room:
    room = Room(greeter(), counter())
    room.decide(ConfigureEngine(settings=Settings(limits=Limits(**limits))))
    return room


def statuses(room: Room, *ids: InvocationId) -> list[str]:
    return [room.status(one) for one in ids]


def test_who_finds_no_slot_is_ready_and_gets_one_in_turn():
    room = limited(engine=1)
    one, two, three = (room.invoke() for _ in range(3))
    assert statuses(room, one, two, three) == ["running", "ready", "ready"]
    room.append(one, OutputCommand(result=value()), b"1")
    assert statuses(room, one, two, three) == ["completed", "running", "ready"]


@pytest.mark.parametrize("how", ["suspends", "fails", "is paused", "is killed", "is lost"])
def test_a_slot_is_free_however_its_attempt_ends(how: str):
    room = limited(engine=1)
    one, two = room.invoke(), room.invoke()
    match how:
        case "suspends":
            room.append(one, SleepCommand(completion_id=1, wake_up_at_ms=9_000))
            room.steps(one, Suspend(waiting_for=Completion(id=1), notification_count=0))
        case "fails":
            room.steps(one, FailAttempt(error=error()))
        case "is paused":
            room.decide(PauseInvocation(invocation_id=one))
        case "is killed":
            room.decide(KillInvocation(invocation_id=one))
        case "is lost":
            room.load(greeter(), link="there")
            room.close_link()
    running = [inv.id for inv in room.state.live() if inv.status == "running"]
    assert len(running) == 1
    assert running == [two] or how == "is lost"


def test_a_services_limit_leaves_others_alone():
    room = limited(services={"Greeter": 1})
    one, two, other = room.invoke(), room.invoke(), room.invoke(add())
    assert statuses(room, one, two, other) == ["running", "ready", "running"]


def test_whoever_waits_holds_the_lock_of_its_object():
    """It left the inbox; only its attempt has to wait."""
    room = limited(services={"Counter": 1})
    one, two, three = room.invoke(add("ada")), room.invoke(add("bob")), room.invoke(add("bob"))
    assert statuses(room, one, two, three) == ["running", "ready", "pending"]
    room.append(one, OutputCommand(result=value()), b"1")
    assert statuses(room, two, three) == ["running", "pending"]


def scoped(room: Room, scope: str, limit_key: str | None, seed: int) -> InvocationId:
    target = Target(service="Greeter", handler="greet", scope=scope)
    proposal = Invoke(
        invocation_id=random_invocation_id(seed),
        seed=seed,
        target=target,
        argument=ref_of(b""),
        payload=b"",
        limit_key=limit_key,
    )
    room.decide(proposal)
    return proposal.invocation_id


def test_a_limit_key_counts_at_every_level_of_its_path():
    room = limited(scopes={"s": 3, "s/a": 2, "s/a/x": 1})
    keys = ["a/x", "a/x", "a/y", "a/y", "b", "b"]
    ids = [scoped(room, "s", key, seed) for seed, key in enumerate(keys, start=100)]
    assert statuses(room, *ids) == ["running", "ready", "running", "ready", "running", "ready"]
    assert room.status(scoped(room, "other", "a/x", 200)) == "running"
    assert room.status(room.invoke(GREET)) == "running"


def test_raising_a_limit_lets_those_in_that_wait():
    room = limited(engine=1)
    one, two = room.invoke(), room.invoke()
    room.decide(ConfigureEngine(settings=Settings(limits=Limits(engine=2))))
    assert statuses(room, one, two) == ["running", "running"]
    room.decide(ConfigureEngine(settings=Settings()))
    assert room.status(room.invoke()) == "running"


def test_the_next_owner_starts_them_in_the_order_they_came():
    room = limited(engine=1)
    ids = [room.invoke() for _ in range(3)]
    room.restart(greeter(), counter())
    assert statuses(room, *ids) == ["running", "ready", "ready"]
