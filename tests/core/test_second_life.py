"""A key that runs again after a purge: one id, two lives, and nothing of the first in the second.

Attempts, completions and signals count from 1 again; only the seed tells the lives apart.
"""

from __future__ import annotations

from room import GREET, Room, approve_of, greeter, payment, run_of, value

from nbdurable.core.attempt import ref_of
from nbdurable.core.commands import (
    AttachInvocationCommand,
    AwakeableCommand,
    CallCommand,
    GetPromiseCommand,
    OutputCommand,
    RunCommand,
)
from nbdurable.core.futures import Completion
from nbdurable.core.ids import InvocationId, awakeable_id, parse_awakeable_id
from nbdurable.core.proposals import (
    AppendCommand,
    CompleteAwakeable,
    CompletePromise,
    CompleteRun,
    Done,
    PurgeInvocation,
    Stale,
)


def finish(room: Room, one: InvocationId) -> None:
    room.append(one, OutputCommand(result=value()), b"1")


def live_again(room: Room, one: InvocationId) -> int:
    """End the life that there is, begin the next; returns the seed of the one that ended."""
    former = room.inv(one).seed
    finish(room, one)
    room.decide(PurgeInvocation(invocation_id=one))
    assert room.invoke(run_of()) == one
    assert (room.status(one), room.inv(one).attempt) == ("running", 1)
    return former


def call(room: Room, of: InvocationId, child: str) -> InvocationId:
    callee = InvocationId(child)
    command = CallCommand(
        completion_id=1, invocation_id=callee, target=GREET, argument=ref_of(b"arg")
    )
    room.append(of, command, b"arg")
    return callee


def test_late_steps_of_a_former_life_are_stale():
    """Same epoch, same id, same attempt number: a step that outlived its purge fits but for one."""
    room = Room(payment())
    one = room.invoke(run_of())
    room.append(one, RunCommand(completion_id=1, name="step"))
    former = live_again(room, one)
    room.append(one, RunCommand(completion_id=1, name="step"))
    late = CompleteRun(completion_id=1, result=value(), payload=b"1")
    output = AppendCommand(command=OutputCommand(result=value()), payload=b"1")
    assert room.steps(one, late, output, seed=former) == Stale()
    assert room.facts == []
    assert room.steps(one, late) == Done()


def test_the_result_of_a_former_lifes_callee_is_ignored():
    """It would complete whatever the second life made its first future."""
    room = Room(greeter(), payment())
    one = room.invoke(run_of())
    old = call(room, one, "inv_1old")
    live_again(room, one)
    new = call(room, one, "inv_1new")
    finish(room, old)
    assert not room.inv(one).has_heard(Completion(id=1))
    finish(room, new)
    assert room.inv(one).has_heard(Completion(id=1))


def test_what_a_former_life_attached_to_does_not_answer_the_next():
    room = Room(greeter(), payment())
    stranger, one = room.invoke(), room.invoke(run_of())
    attach = AttachInvocationCommand(completion_id=1, invocation_id=stranger)
    room.append(one, attach)
    live_again(room, one)
    room.append(one, RunCommand(completion_id=1, name="step"))
    finish(room, stranger)
    assert not room.inv(one).has_heard(Completion(id=1))


def test_a_promise_that_a_former_life_waited_for_does_not_answer_the_next():
    room = Room(payment())
    one = room.invoke(run_of())
    room.append(one, GetPromiseCommand(completion_id=1, key="p"))
    room.invoke(approve_of())
    live_again(room, one)
    room.append(one, RunCommand(completion_id=1, name="step"))
    promise = CompletePromise(
        service="Payment", key="order", promise="p", result=value(), payload=b"1"
    )
    assert room.decide(promise) == Done()
    assert not room.inv(one).has_heard(Completion(id=1))


def test_an_awakeable_of_a_former_life_is_ignored():
    """Its id is in a mail somebody has not answered yet; the answer was to another question."""
    room = Room(payment())
    one = room.invoke(run_of())
    room.append(one, AwakeableCommand(signal_id=17))
    former = live_again(room, one)
    room.append(one, AwakeableCommand(signal_id=17))
    old, new = (awakeable_id(one, seed, 17) for seed in (former, room.inv(one).seed))
    assert room.decide(CompleteAwakeable(awakeable_id=old, result=value(), payload=b"1")) == Done()
    assert (room.facts, room.inv(one).open_awakeables) == ([], [17])
    assert room.decide(CompleteAwakeable(awakeable_id=new, result=value(), payload=b"1")) == Done()
    assert room.inv(one).open_awakeables == []


def test_an_awakeable_id_says_whose_it_is():
    room = Room(payment())
    one = room.invoke(run_of())
    named = parse_awakeable_id(awakeable_id(one, 5, 18))
    assert named[:2] == (one, 18)
    assert [named.is_of(seed) for seed in (5, 6)] == [True, False]


def test_a_purged_promise_leaves_no_waiter_behind():
    """Its completion goes from the log with the workflow; whoever it reached waits no more."""
    room = Room(payment())
    one = room.invoke(run_of())
    other = room.invoke(approve_of())
    room.append(other, GetPromiseCommand(completion_id=1, key="p"))
    promise = CompletePromise(
        service="Payment", key="order", promise="p", result=value(), payload=b"1"
    )
    room.decide(promise)
    # Every decision is checked against a reload; the last of these removes the promise's fact.
    live_again(room, one)
    assert not room.state.objects
