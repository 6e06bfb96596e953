"""What people do to an invocation, in every status it can be in."""

from __future__ import annotations

import pytest
from room import (
    GREET,
    Room,
    add,
    approve_of,
    counter,
    error,
    greeter,
    kinds,
    payment,
    run_of,
    value,
)

from nbdurable.core.actions import StopAttempt
from nbdurable.core.attempt import ref_of
from nbdurable.core.commands import (
    AttachInvocationCommand,
    CallCommand,
    GetPromiseCommand,
    OneWayCallCommand,
    OutputCommand,
    RunCommand,
    SetStateCommand,
    SleepCommand,
)
from nbdurable.core.facts import NotificationAppended
from nbdurable.core.futures import Completion
from nbdurable.core.ids import InvocationId
from nbdurable.core.notifications import CompletionNotification
from nbdurable.core.proposals import (
    CancelInvocation,
    CompletePromise,
    CompleteRun,
    Done,
    FailAttempt,
    KillInvocation,
    PauseInvocation,
    PurgeInvocation,
    Refused,
    ResumeInvocation,
    Suspend,
)
from nbdurable.core.values import Failure, ObjectId, RetryPolicy, Target

STATUSES = [
    "scheduled",
    "pending",
    "ready",
    "running",
    "suspended",
    "backing-off",
    "paused",
    "completed",
]


def room_with(status: str) -> tuple[Room, InvocationId]:
    """A room in which one invocation of an object has this status, and has begun if it could."""
    room = Room(greeter(), counter(), payment())
    if status == "scheduled":
        return room, room.invoke(add(), start_at_ms=9_000)
    if status == "pending":
        room.invoke(add())
    one = room.invoke(add())
    match status:
        case "ready":
            room.close_link()
        case "suspended":
            room.append(one, SleepCommand(completion_id=1, wake_up_at_ms=9_000))
            room.steps(one, Suspend(waiting_for=Completion(id=1), notification_count=0))
        case "backing-off":
            room.steps(one, FailAttempt(error=error()))
        case "paused":
            room.steps(one, FailAttempt(error=error(heals_by_retry=False)))
        case "completed":
            room.append(one, OutputCommand(result=value()), b"1")
    assert room.status(one) == status
    return room, one


def code_of(answer: object) -> int:
    return answer.code if isinstance(answer, Refused) else 200


@pytest.mark.parametrize(
    ("status", "facts", "after"),
    [
        ("scheduled", ["InvocationCompleted"], "completed"),
        ("pending", ["InvocationCompleted"], "completed"),
        ("ready", ["NotificationAppended"], "ready"),
        ("running", ["NotificationAppended"], "running"),
        ("suspended", ["NotificationAppended", "AttemptStarted"], "running"),
        ("backing-off", ["NotificationAppended", "AttemptStarted"], "running"),
        ("paused", ["NotificationAppended", "AttemptStarted"], "running"),
        ("completed", [], "completed"),
    ],
)
def test_cancelling(status: str, facts: list[str], after: str):
    """What has not begun just ends; what has begun hears of it at its await, paused or not."""
    room, one = room_with(status)
    answer = room.decide(CancelInvocation(invocation_id=one))
    assert kinds(room.facts) == facts
    assert room.status(one) == after
    assert code_of(answer) == (409 if status == "completed" else 200)


def test_what_is_cancelled_before_it_began_ends_with_409_and_frees_its_place():
    room = Room(counter())
    holder, queued, last = (room.invoke(add()) for _ in range(3))
    room.decide(CancelInvocation(invocation_id=queued))
    assert room.inv(queued).result == Failure(code=409, message="canceled")
    room.append(holder, OutputCommand(result=value()), b"1")
    assert room.status(last) == "running"


def test_cancelling_twice_is_heard_twice():
    """One-shot and repeatable: the second reaches the compensation of the first."""
    room, one = room_with("running")
    for _ in range(2):
        room.decide(CancelInvocation(invocation_id=one))
        assert [type(fact) for fact in room.facts] == [NotificationAppended]


@pytest.mark.parametrize("status", STATUSES)
def test_killing(status: str):
    """No user code runs; the lock is free, whatever the status was."""
    room, one = room_with(status)
    answer = room.decide(KillInvocation(invocation_id=one))
    if status == "completed":
        assert code_of(answer) == 409
        return
    assert answer == Done()
    assert room.inv(one).result == Failure(code=409, message="killed")
    stops = [action for action in room.actions if isinstance(action, StopAttempt)]
    assert bool(stops) == (status == "running")


def test_killing_lets_the_next_in():
    room = Room(counter())
    one, two = room.invoke(add()), room.invoke(add())
    room.decide(KillInvocation(invocation_id=one))
    assert room.status(two) == "running"


def test_killing_keeps_written_state():
    room = Room(counter())
    one = room.invoke(add())
    room.append(one, SetStateCommand(key="n", value=ref_of(b"1")), b"1")
    room.decide(KillInvocation(invocation_id=one))
    assert "n" in room.state.objects[ObjectId(service="Counter", key="ada")].state


def child(room: Room, of: InvocationId, name: str, completion_id: int) -> InvocationId:
    room.append(
        of,
        CallCommand(
            completion_id=completion_id,
            invocation_id=InvocationId(name),
            target=GREET,
            argument=ref_of(b"arg"),
        ),
        b"arg",
    )
    return InvocationId(name)


def sent(room: Room, of: InvocationId, name: str, at_ms: int | None = None) -> InvocationId:
    command = OneWayCallCommand(
        invocation_id=InvocationId(name), target=GREET, argument=ref_of(b"arg"), invoke_at_ms=at_ms
    )
    room.append(of, command, b"arg")
    return InvocationId(name)


def test_a_kill_reaches_called_children_and_nobody_else():
    """Design 6.10: sends live on, as Restate's documentation says (its server kills them)."""
    room = Room(greeter())
    one, stranger = room.invoke(), room.invoke()
    called = child(room, one, "inv_1called", 1)
    grandchild = child(room, called, "inv_1grand", 1)
    one_way = sent(room, one, "inv_1sent")
    delayed = sent(room, one, "inv_1delayed", 9_000)
    for completion_id, awaited in [(2, stranger), (3, one_way)]:
        room.append(
            one, AttachInvocationCommand(completion_id=completion_id, invocation_id=awaited)
        )
    room.decide(KillInvocation(invocation_id=one))
    assert [room.status(i) for i in (one, called, grandchild)] == ["completed"] * 3
    assert [room.status(i) for i in (stranger, one_way, delayed)] == [
        "running",
        "running",
        "scheduled",
    ]


def test_a_kill_does_not_reach_what_it_only_latched_on_to():
    """An idempotent callee that somebody else began is somebody else's."""
    room = Room(greeter())
    callee = room.invoke(GREET, idempotency_key="k")
    one = room.invoke()
    command = CallCommand(
        completion_id=1,
        invocation_id=callee,
        target=GREET,
        argument=ref_of(b"arg"),
        idempotency_key="k",
    )
    room.append(one, command, b"arg")
    room.decide(KillInvocation(invocation_id=one))
    assert room.status(callee) == "running"


def test_a_kill_reaches_the_end_of_a_very_long_chain():
    """Killing once recursed, and a chain as long as Python's stack stopped the engine."""
    room = Room(greeter(), is_checked=False)
    root = room.invoke()
    chain = [root]
    for number in range(1_500):
        chain.append(child(room, chain[-1], f"inv_1child{number}", 1))
    assert {room.status(one) for one in chain} == {"running"}
    assert room.decide(KillInvocation(invocation_id=root)) == Done()
    assert {room.status(one) for one in chain} == {"completed"}


def test_a_killed_deadlock_ends_both():
    room = Room(counter())
    one = room.invoke(add())
    command = CallCommand(
        completion_id=1,
        invocation_id=InvocationId("inv_1self"),
        target=add(),
        argument=ref_of(b"a"),
    )
    room.append(one, command, b"a")
    room.decide(KillInvocation(invocation_id=one))
    assert not room.state.invocations


@pytest.mark.parametrize(
    ("status", "code", "after"),
    [
        ("scheduled", 409, "scheduled"),
        ("pending", 409, "pending"),
        ("ready", 200, "paused"),
        ("running", 200, "paused"),
        ("suspended", 200, "paused"),
        ("backing-off", 200, "paused"),
        ("paused", 200, "paused"),
        ("completed", 409, "completed"),
    ],
)
def test_pausing(status: str, code: int, after: str):
    room, one = room_with(status)
    answer = room.decide(PauseInvocation(invocation_id=one))
    assert (code_of(answer), room.status(one)) == (code, after)


@pytest.mark.parametrize(
    ("status", "code", "after"),
    [
        ("scheduled", 409, "scheduled"),
        ("pending", 409, "pending"),
        ("ready", 409, "ready"),
        ("running", 409, "running"),
        ("suspended", 200, "running"),
        ("backing-off", 200, "running"),
        ("paused", 200, "running"),
        ("completed", 409, "completed"),
    ],
)
def test_resuming(status: str, code: int, after: str):
    room, one = room_with(status)
    answer = room.decide(ResumeInvocation(invocation_id=one))
    assert (code_of(answer), room.status(one)) == (code, after)


def test_resuming_gives_all_attempts_again():
    """Whoever resumes has mended something; one more failure is not the last straw of before."""
    room = Room(greeter(retry=RetryPolicy(initial_interval_ms=10, max_attempts=2)))
    one = room.invoke()
    for _ in range(2):
        room.steps(one, FailAttempt(error=error()))
        room.now_ms += 10
        room.fire(one)
        room.steps(one, FailAttempt(error=error()))
        assert room.status(one) == "paused"
        room.decide(ResumeInvocation(invocation_id=one))
        assert (room.status(one), room.inv(one).failure_count) == ("running", 0)


def test_resuming_gives_all_attempts_again_when_its_code_is_loaded_later():
    room = Room(greeter(retry=RetryPolicy(initial_interval_ms=10, max_attempts=1)))
    one = room.invoke()
    room.steps(one, FailAttempt(error=error()))
    room.restart()
    room.decide(ResumeInvocation(invocation_id=one))
    assert (room.status(one), room.inv(one).failure_count) == ("ready", 0)


def test_an_open_step_ends_in_the_commit_of_the_cancellation():
    """Else a crash before the attempt says so runs again what the cancellation ended."""
    room, one = room_with("running")
    for completion_id in (1, 2):
        room.append(one, RunCommand(completion_id=completion_id, name="step"))
    room.steps(one, CompleteRun(completion_id=1, result=value(), payload=b"1"))
    room.decide(CancelInvocation(invocation_id=one))
    ended = [fact.notification for fact in room.facts if isinstance(fact, NotificationAppended)]
    assert ended[1:] == [
        CompletionNotification(
            completion_id=2,
            of="Run",
            result=Failure(code=409, message="abandoned: it was cancelled"),
        )
    ]
    room.restart(counter())
    assert room.status(one) == "running"
    assert not room.inv(one).open_runs
    room.steps(one, CompleteRun(completion_id=2, result=value(), payload=b"1"))
    assert room.facts == []


def test_a_paused_invocation_keeps_what_comes_and_waits_for_a_person():
    room, one = room_with("suspended")
    room.decide(PauseInvocation(invocation_id=one))
    room.now_ms = 9_000
    room.fire(one, 1)
    assert kinds(room.facts) == ["NotificationAppended"]
    room.fire(one)
    assert room.status(one) == "paused"
    room.decide(ResumeInvocation(invocation_id=one))
    assert room.status(one) == "running"


def test_pausing_stops_the_attempt():
    room, one = room_with("running")
    room.decide(PauseInvocation(invocation_id=one))
    assert kinds(room.actions) == ["StopAttempt"]
    assert kinds(room.facts) == ["InvocationPaused"]


@pytest.mark.parametrize("status", STATUSES)
def test_purging_is_for_what_is_completed(status: str):
    room, one = room_with(status)
    answer = room.decide(PurgeInvocation(invocation_id=one))
    assert code_of(answer) == (200 if status == "completed" else 409)
    assert (room.state.find(one) is not None) == (status != "completed")


def test_purging_a_run_purges_its_state_and_promises():
    room = Room(payment())
    one = room.invoke(run_of())
    room.append(one, SetStateCommand(key="n", value=ref_of(b"1")), b"1")
    promise = CompletePromise(
        service="Payment", key="order", promise="p", result=value(b"ok"), payload=b"ok"
    )
    room.decide(promise)
    waiting = room.invoke(approve_of())
    room.append(waiting, GetPromiseCommand(completion_id=1, key="other"))
    room.append(one, OutputCommand(result=value()), b"1")
    room.decide(PurgeInvocation(invocation_id=one))
    obj = room.state.objects[ObjectId(service="Payment", key="order")]
    assert not obj.state
    assert not obj.promises
    assert room.decide(promise) == Done()
    again = room.invoke(run_of())
    assert (again, room.status(again)) == (one, "running")


def test_purging_anything_else_keeps_state():
    room = Room(counter())
    one = room.invoke(add())
    room.append(one, SetStateCommand(key="n", value=ref_of(b"1")), b"1")
    room.append(one, OutputCommand(result=value()), b"1")
    room.decide(PurgeInvocation(invocation_id=one))
    assert "n" in room.state.objects[ObjectId(service="Counter", key="ada")].state


@pytest.mark.parametrize(
    "verb",
    [CancelInvocation, KillInvocation, PauseInvocation, ResumeInvocation, PurgeInvocation],
)
def test_what_is_unknown_is_a_404(verb: type):
    room = Room(greeter())
    answer = room.decide(verb(invocation_id=InvocationId("inv_1nobody")))
    assert code_of(answer) == 404


def test_a_target_is_written_as_its_path():
    assert str(Target(service="Counter", handler="add", key="ada")) == "Counter/ada/add"
