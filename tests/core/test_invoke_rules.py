"""An invocation begins: once per id, where it can, in its turn."""

from __future__ import annotations

import msgspec
import pytest
from room import (
    GREET,
    Room,
    add,
    counter,
    greeter,
    kinds,
    payment,
    peek,
    run_of,
    value,
)

from nbdurable.core.actions import SetTimer, StartAttempt
from nbdurable.core.attempt import ref_of
from nbdurable.core.commands import GetPromiseCommand, OutputCommand, SetStateCommand
from nbdurable.core.facts import AttemptStarted, InvocationCreated
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import Invoked, KillInvocation, PurgeInvocation, Refused
from nbdurable.core.values import ObjectId, Target


@pytest.fixture
def room() -> Room:
    return Room(greeter(), counter(), payment())


def finish(room: Room, invocation_id: InvocationId, data: bytes = b"out") -> None:
    room.append(invocation_id, OutputCommand(result=value(data)), data)


def test_a_call_begins_at_once_when_its_code_is_loaded(room: Room):
    one = room.invoke()
    assert kinds(room.facts) == ["InvocationCreated", "AttemptStarted"]
    assert kinds(room.actions) == ["StartAttempt"]
    match room.facts:
        case [InvocationCreated() as created, AttemptStarted() as started]:
            assert (created.status, created.target, created.handler_type) == ("ready", GREET, None)
            assert (started.attempt, started.revision, started.link) == (1, 1, "here")
    assert room.answer == Invoked(invocation_id=one)


def test_a_call_waits_ready_when_its_code_is_not_loaded(room: Room):
    """A fresh kernel knows the service from the journal; the cell has not been run yet."""
    room.restart()
    one = room.invoke()
    assert kinds(room.facts) == ["InvocationCreated"]
    assert room.status(one) == "ready"
    room.load(greeter())
    assert room.status(one) == "running"


def test_the_same_idempotency_key_finds_the_first_invocation(room: Room):
    one = room.invoke(GREET, idempotency_key="k")
    two = room.invoke(GREET, idempotency_key="k")
    assert one == two
    assert room.answer == Invoked(invocation_id=one, existing=True)
    assert room.facts == []


def test_a_proposal_decided_twice_is_not_told_that_it_came_second(room: Room):
    """After a commit of unknown outcome clients are decided again; nobody else was first."""
    proposal = room.invocation(run_of())
    room.decide(proposal)
    assert room.decide(proposal) == Invoked(invocation_id=proposal.invocation_id, existing=False)
    assert room.facts == []


def test_a_workflow_runs_once_per_key(room: Room):
    one = room.invoke(run_of())
    finish(room, one)
    room.invoke(run_of())
    assert room.answer == Invoked(invocation_id=one, existing=True)


def test_a_workflow_cannot_be_run_under_another_id(room: Room):
    """A client that does not know it is a workflow would run the key a second time."""
    proposal = room.invocation(run_of())
    other = msgspec.structs.replace(proposal, invocation_id=InvocationId("inv_1other"))
    match room.decide(other):
        case Refused(code=400, message=message):
            assert "runs once per key" in message
        case answer:
            pytest.fail(f"{answer}")
    assert room.facts == []


def test_a_key_that_was_only_touched_leaves_nothing_behind(room: Room):
    """A million keys that were used once must not fill the memory for ever."""
    for key in "abc":
        finish(room, room.invoke(add(key)))
        room.decide(KillInvocation(invocation_id=room.invoke(add(key))))
        one = room.invoke(run_of(key))
        room.append(one, GetPromiseCommand(completion_id=1, key="p"))
        finish(room, one)
    assert room.state.objects == {}


def test_a_key_that_was_written_to_is_kept_until_it_is_purged(room: Room):
    one = room.invoke(run_of())
    room.append(one, SetStateCommand(key="n", value=ref_of(b"1")), b"1")
    finish(room, one)
    assert list(room.state.objects) == [ObjectId(service="Payment", key="order")]
    room.decide(PurgeInvocation(invocation_id=one))
    assert room.state.objects == {}


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        (Target(service="Nobody", handler="greet"), 404, "service 'Nobody' not found"),
        (Target(service="Greeter", handler="meet"), 404, "'meet' was not found; it has: greet"),
        (Target(service="Counter", handler="add"), 400, "the call needs a key"),
        (Target(service="Greeter", handler="greet", key="x"), 400, "has no keys"),
    ],
)
def test_what_cannot_be_called_is_refused_and_said(
    room: Room, target: Target, code: int, said: str
):
    room.invoke(target)
    match room.answer:
        case Refused(code=found, message=message):
            assert found == code
            assert said in message
        case _:
            pytest.fail(f"{room.answer}")
    assert room.facts == []


@pytest.mark.parametrize(
    "target",
    [
        Target(service="Counter", handler="add", key=5),  # type: ignore[arg-type]
        Target(service="Counter", handler="add", key="\ud800"),
    ],
)
def test_a_key_that_the_journal_cannot_hold_is_refused_before_it_is_recorded(
    room: Room, target: Target
):
    """Recorded, it would make the journal unreadable; failing to record, it would stop us all."""
    room.invoke(target)
    assert isinstance(room.answer, Refused)
    assert room.answer.code == 400
    assert room.facts == []


def test_a_delayed_call_waits_for_its_time(room: Room):
    one = room.invoke(GREET, start_at_ms=5_000)
    assert kinds(room.facts) == ["InvocationCreated"]
    assert [(a.timer.completion_id, a.at_ms) for a in room.actions if isinstance(a, SetTimer)] == [
        (0, 5_000)
    ]
    assert room.status(one) == "scheduled"
    room.now_ms = 5_000
    room.fire(one)
    assert kinds(room.facts) == ["AttemptStarted"]


def test_a_delay_that_is_over_is_none(room: Room):
    one = room.invoke(GREET, start_at_ms=room.now_ms)
    assert room.status(one) == "running"


def test_exclusive_calls_of_one_key_queue_first_in_first_out(room: Room):
    first, second, third = (room.invoke(add()) for _ in range(3))
    assert [room.status(one) for one in (first, second, third)] == ["running", "pending", "pending"]
    finish(room, first)
    assert kinds(room.facts) == ["InvocationCompleted", "AttemptStarted"]
    assert [room.status(one) for one in (second, third)] == ["running", "pending"]
    finish(room, second)
    assert room.status(third) == "running"


def test_other_keys_and_shared_handlers_do_not_queue(room: Room):
    room.invoke(add("ada"))
    assert room.status(room.invoke(add("bob"))) == "running"
    assert room.status(room.invoke(peek("ada"))) == "running"


def test_a_delayed_call_joins_the_queue_when_its_time_comes(room: Room):
    """Not before: Restate's delayed sends enter the inbox only when the timer fires."""
    delayed = room.invoke(add(), start_at_ms=2_000)
    room.invoke(add())
    queued = room.invoke(add())
    room.now_ms = 2_000
    room.fire(delayed)
    assert kinds(room.facts) == ["InvocationPending"]
    (obj,) = [o for o in room.state.objects.values() if o.inbox]
    assert list(obj.inbox) == [queued, delayed]


def test_the_lock_of_one_whose_code_is_nowhere_is_kept(room: Room):
    """The next in the queue has the lock and waits for its cell, it does not lose its turn."""
    first, second, third = (room.invoke(add()) for _ in range(3))
    room.restart()
    assert room.status(first) == "ready"
    room.load(counter())
    assert [room.status(one) for one in (first, second, third)] == ["running", "pending", "pending"]
    room.close_link()
    assert room.status(first) == "ready"
    assert room.status(second) == "pending"


def test_attempts_are_started_on_the_link_that_has_the_code():
    room = Room(greeter(), link="there")
    room.invoke()
    assert [a.link for a in room.actions if isinstance(a, StartAttempt)] == ["there"]
