"""What an attempt did, and what follows: entries, steps, failures, suspension, results."""

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

from nbdurable.core.actions import DeliverNotification, RetryRun, SetTimer, StopAttempt
from nbdurable.core.attempt import ref_of
from nbdurable.core.commands import (
    AttachInvocationCommand,
    AwakeableCommand,
    CallCommand,
    ClearAllStateCommand,
    ClearStateCommand,
    CompleteAwakeableCommand,
    CompletePromiseCommand,
    GetPromiseCommand,
    OneWayCallCommand,
    OutputCommand,
    PeekPromiseCommand,
    RunCommand,
    SetStateCommand,
    SleepCommand,
)
from nbdurable.core.facts import (
    AttemptFailed,
    EntryAppended,
    InvocationCompleted,
    InvocationCreated,
    InvocationPaused,
    NotificationAppended,
    PromiseCompleted,
    RunAttemptFailed,
)
from nbdurable.core.futures import AllCompleted, Completion, FirstCompleted, Signal
from nbdurable.core.ids import InvocationId, awakeable_id, random_invocation_id
from nbdurable.core.proposals import (
    AppendCommand,
    CompleteAwakeable,
    CompletePromise,
    CompleteRun,
    Done,
    FailAttempt,
    FailRun,
    Refused,
    Stale,
    Suspend,
)
from nbdurable.core.values import Failure, ObjectId, Result, RetryPolicy, Target

CHILD = InvocationId("inv_1child")
OTHER = InvocationId("inv_1other")


@pytest.fixture
def room() -> Room:
    return Room(greeter(), counter(), payment())


def result_in(room: Room, position: int = -1) -> Result:
    fact = room.facts[position]
    assert isinstance(fact, NotificationAppended)
    return fact.notification.result


def begin_run(room: Room, of: InvocationId, completion_id: int = 1) -> None:
    room.append(of, RunCommand(completion_id=completion_id, name="step"))


def finish(room: Room, of: InvocationId, data: bytes = b"out") -> None:
    room.append(of, OutputCommand(result=value(data)), data)


def call(
    completion_id: int = 1,
    target: Target = GREET,
    invocation_id: InvocationId = CHILD,
    idempotency_key: str | None = None,
) -> CallCommand:
    return CallCommand(
        completion_id=completion_id,
        invocation_id=invocation_id,
        target=target,
        argument=ref_of(b"arg"),
        idempotency_key=idempotency_key,
    )


def send(
    target: Target = GREET, invocation_id: InvocationId = CHILD, at_ms: int | None = None
) -> OneWayCallCommand:
    return OneWayCallCommand(
        invocation_id=invocation_id, target=target, argument=ref_of(b"arg"), invoke_at_ms=at_ms
    )


def suspend(room: Room, of: InvocationId, tree: object, seen: int | None = None) -> None:
    count = room.inv(of).notification_count if seen is None else seen
    room.steps(of, Suspend(waiting_for=tree, notification_count=count))  # type: ignore[arg-type]


# -- fencing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["another epoch", "an earlier attempt", "a finished invocation"])
def test_a_message_of_another_epoch_or_attempt_changes_nothing(room: Room, who: str):
    one = room.invoke()
    epoch, attempt = room.state.epoch, 1
    match who:
        case "another epoch":
            epoch -= 1
        case "an earlier attempt":
            room.close_link()
            room.load(greeter())
            assert room.inv(one).attempt == 2
        case _:
            finish(room, one)
    step = AppendCommand(command=RunCommand(completion_id=1, name="late"))
    assert room.steps(one, step, epoch=epoch, attempt=attempt) == Stale()
    assert room.facts == []
    assert room.actions == []


def test_a_message_of_a_suspended_attempt_is_stale(room: Room):
    one = room.invoke()
    room.append(one, SleepCommand(completion_id=1, wake_up_at_ms=9_000))
    suspend(room, one, Completion(id=1))
    assert room.steps(one, FailAttempt(error=error()), attempt=1) == Stale()


def test_what_comes_after_the_output_in_one_message_is_stale(room: Room):
    one = room.invoke()
    answer = room.steps(
        one,
        AppendCommand(command=OutputCommand(result=value(b"1")), payload=b"1"),
        AppendCommand(command=RunCommand(completion_id=1, name="late")),
    )
    assert answer == Stale()
    assert kinds(room.facts) == ["InvocationCompleted"]


# -- steps ------------------------------------------------------------------------------------


def test_a_result_is_recorded_and_delivered(room: Room):
    one = room.invoke()
    begin_run(room, one)
    room.steps(one, CompleteRun(completion_id=1, result=value(b"7"), payload=b"7"))
    assert kinds(room.facts) == ["NotificationAppended"]
    (delivery,) = room.actions
    assert isinstance(delivery, DeliverNotification)
    assert (delivery.entry_index, delivery.lsn) == (2, room.records[-1].lsn)


def test_a_second_result_for_a_step_changes_nothing(room: Room):
    """A step abandoned by a cancellation may still come back with a value."""
    one = room.invoke()
    begin_run(room, one)
    room.steps(one, CompleteRun(completion_id=1, result=value(b"7"), payload=b"7"))
    room.steps(one, CompleteRun(completion_id=1, result=value(b"8"), payload=b"8"))
    assert room.facts == []
    room.steps(one, FailRun(completion_id=1, error=error(), retry=RetryPolicy()))
    assert room.facts == []


def test_a_failed_step_is_retried_with_back_off_and_a_durable_count(room: Room):
    policy = RetryPolicy(
        initial_interval_ms=100, factor=2.0, max_interval_ms=300, max_attempts=None
    )
    one = room.invoke()
    begin_run(room, one)
    for count, delay_ms in [(1, 100), (2, 200), (3, 300), (4, 300)]:
        if count == 3:
            room.restart(greeter())
        room.steps(one, FailRun(completion_id=1, error=error(), retry=policy))
        (failed,) = room.facts
        (retry,) = room.actions
        assert isinstance(failed, RunAttemptFailed)
        assert isinstance(retry, RetryRun)
        assert (failed.failure_count, failed.next_retry_at_ms) == (count, room.now_ms + delay_ms)
        assert retry.at_ms == room.now_ms + delay_ms
        room.now_ms += 1_000
    assert room.status(one) == "running"


@pytest.mark.parametrize("max_attempts", [1, 0])
def test_one_attempt_means_no_retry(room: Room, max_attempts: int):
    one = room.invoke()
    begin_run(room, one)
    policy = RetryPolicy(max_attempts=max_attempts)
    room.steps(one, FailRun(completion_id=1, error=error("ValueError('x')"), retry=policy))
    assert result_in(room) == Failure(code=500, message="ValueError('x')")


def test_a_step_out_of_attempts_fails_with_its_last_error(room: Room):
    one = room.invoke()
    begin_run(room, one)
    policy = RetryPolicy(max_attempts=2)
    room.steps(one, FailRun(completion_id=1, error=error("first"), retry=policy))
    room.steps(one, FailRun(completion_id=1, error=error("second"), retry=policy))
    assert result_in(room) == Failure(code=500, message="second")
    assert room.inv(one).open_runs == {}


def test_a_step_out_of_time_fails(room: Room):
    one = room.invoke()
    begin_run(room, one)
    policy = RetryPolicy(max_attempts=None, max_duration_ms=1_000)
    room.steps(one, FailRun(completion_id=1, error=error(), retry=policy))
    room.now_ms += 999
    room.steps(one, FailRun(completion_id=1, error=error(), retry=policy))
    assert kinds(room.facts) == ["RunAttemptFailed"]
    room.now_ms += 1
    room.steps(one, FailRun(completion_id=1, error=error(), retry=policy))
    assert kinds(room.facts) == ["NotificationAppended"]


def test_a_step_may_ask_when_to_be_retried(room: Room):
    one = room.invoke()
    begin_run(room, one)
    asked = error(retry_after_ms=77)
    room.steps(one, FailRun(completion_id=1, error=asked, retry=RetryPolicy()))
    assert [a.at_ms for a in room.actions if isinstance(a, RetryRun)] == [room.now_ms + 77]


# -- the invocation's own retries ------------------------------------------------------------


def fail(room: Room, of: InvocationId, **fields: object) -> None:
    room.steps(of, FailAttempt(error=error(**fields)))  # type: ignore[arg-type]


def retry(room: Room, of: InvocationId) -> None:
    room.now_ms = room.inv(of).next_retry_at_ms or room.now_ms
    room.fire(of)


def test_a_failed_attempt_backs_off_and_begins_again():
    room = Room(greeter(retry=RetryPolicy(initial_interval_ms=100)))
    one = room.invoke()
    fail(room, one)
    assert kinds(room.facts) == ["AttemptFailed"]
    assert [a.at_ms for a in room.actions if isinstance(a, SetTimer)] == [room.now_ms + 100]
    assert room.status(one) == "backing-off"
    retry(room, one)
    assert kinds(room.facts) == ["AttemptStarted"]
    assert room.inv(one).attempt == 2


def test_back_off_grows_until_there_is_progress():
    """70 attempts means 70 without a new entry."""
    room = Room(greeter(retry=RetryPolicy(initial_interval_ms=100)))
    one = room.invoke()
    delays = []
    for number in range(5):
        if number == 3:
            begin_run(room, one)
        fail(room, one)
        (failed,) = room.facts
        assert isinstance(failed, AttemptFailed)
        delays.append((failed.next_retry_at_ms or 0) - room.now_ms)
        retry(room, one)
    assert delays == [100, 200, 400, 100, 200]


def test_a_retry_that_fires_early_is_set_again():
    """The clock was set back between the timer and the decision: nobody must be forgotten."""
    room = Room(greeter())
    one = room.invoke()
    fail(room, one)
    due_ms = room.inv(one).next_retry_at_ms
    room.fire(one)
    assert room.facts == []
    assert [a.at_ms for a in room.actions if isinstance(a, SetTimer)] == [due_ms]


def test_out_of_attempts_it_pauses_and_keeps_its_lock():
    room = Room(counter(retry=RetryPolicy(max_attempts=2)))
    one, two = room.invoke(add()), room.invoke(add())
    fail(room, one)
    retry(room, one)
    fail(room, one)
    assert kinds(room.facts) == ["AttemptFailed", "InvocationPaused"]
    assert room.inv(one).paused_by == "retries"
    assert (room.status(one), room.status(two)) == ("paused", "pending")


def test_out_of_attempts_it_ends_with_its_last_error_when_the_policy_says_kill():
    room = Room(greeter(retry=RetryPolicy(max_attempts=1, on_max_attempts="kill")))
    one = room.invoke()
    fail(room, one, message="ValueError('x')")
    assert kinds(room.facts) == ["AttemptFailed", "InvocationCompleted"]
    assert room.inv(one).result == Failure(code=500, message="ValueError('x')")
    assert room.inv(one).completed_by == "retries"


@pytest.mark.parametrize("on_max_attempts", ["pause", "kill"])
def test_what_retrying_cannot_heal_pauses_at_once(on_max_attempts: str):
    """A mismatch is not killed by a policy made for passing failures: somebody must look."""
    policy = RetryPolicy(max_attempts=1, on_max_attempts=on_max_attempts)  # type: ignore[arg-type]
    room = Room(greeter(retry=policy))
    one = room.invoke()
    fail(room, one, heals_by_retry=False)
    assert [f for f in room.facts if isinstance(f, InvocationPaused)] == [
        InvocationPaused(invocation_id=one, by="error")
    ]


def test_an_attempt_may_ask_when_to_begin_again(room: Room):
    one = room.invoke()
    fail(room, one, retry_after_ms=5_000)
    assert room.inv(one).next_retry_at_ms == room.now_ms + 5_000


# -- suspension -------------------------------------------------------------------------------


def test_a_suspended_invocation_begins_again_when_what_it_waits_for_is_there(room: Room):
    one = room.invoke()
    room.append(one, SleepCommand(completion_id=1, wake_up_at_ms=2_000))
    room.append(one, SleepCommand(completion_id=2, wake_up_at_ms=3_000))
    suspend(room, one, AllCompleted(of=(Completion(id=1), Completion(id=2))))
    assert kinds(room.facts) == ["InvocationSuspended"]
    room.now_ms = 2_000
    room.fire(one, 1)
    assert kinds(room.facts) == ["NotificationAppended"]
    assert room.status(one) == "suspended"
    room.now_ms = 3_000
    room.fire(one, 2)
    assert kinds(room.facts) == ["NotificationAppended", "AttemptStarted"]


def test_any_of_several_is_enough_for_a_select(room: Room):
    one = room.invoke()
    room.append(one, SleepCommand(completion_id=1, wake_up_at_ms=2_000))
    room.append(one, AwakeableCommand(signal_id=17))
    suspend(room, one, FirstCompleted(of=(Completion(id=1), Signal(id=17))))
    room.now_ms = 2_000
    room.fire(one, 1)
    assert room.status(one) == "running"


def test_what_came_while_it_suspended_begins_it_again_at_once(room: Room):
    """The attempt had seen nothing when it decided to suspend; the engine knew more by then."""
    one = room.invoke()
    room.append(one, SleepCommand(completion_id=1, wake_up_at_ms=2_000))
    room.now_ms = 2_000
    room.fire(one, 1)
    suspend(room, one, Completion(id=1), seen=0)
    assert kinds(room.facts) == ["InvocationSuspended", "AttemptStarted"]


def test_a_suspended_invocation_whose_code_is_gone_waits_ready(room: Room):
    one = room.invoke()
    room.append(one, SleepCommand(completion_id=1, wake_up_at_ms=2_000))
    suspend(room, one, Completion(id=1))
    room.close_link()
    assert room.status(one) == "suspended"
    room.now_ms = 2_000
    room.fire(one, 1)
    assert kinds(room.facts) == ["NotificationAppended", "InvocationReadied"]
    room.load(greeter())
    assert room.status(one) == "running"


# -- state, timers ----------------------------------------------------------------------------


def test_state_is_written_as_the_command_is_stored(room: Room):
    """It survives a later failure, as on Restate: set 99, raise, read 99."""
    one = room.invoke(add())
    room.append(one, SetStateCommand(key="n", value=ref_of(b"99")), b"99")
    (entry,) = room.facts
    assert isinstance(entry, EntryAppended)
    assert entry.object == ObjectId(service="Counter", key="ada")
    room.append(one, OutputCommand(result=Failure(code=500, message="no")))
    obj = room.state.objects[entry.object]
    assert obj.state["n"].lsn == room.records[-2].lsn


def test_state_is_cleared_by_name_or_whole(room: Room):
    one = room.invoke(add())
    for key in "abc":
        room.append(one, SetStateCommand(key=key, value=ref_of(b"1")), b"1")
    obj = room.state.objects[ObjectId(service="Counter", key="ada")]
    room.append(one, ClearStateCommand(key="a"))
    assert sorted(obj.state) == ["b", "c"]
    room.append(one, ClearAllStateCommand())
    assert obj.state == {}


def test_a_timer_that_fires_twice_completes_its_sleep_once(room: Room):
    one = room.invoke()
    room.append(one, SleepCommand(completion_id=1, wake_up_at_ms=2_000))
    assert [a.at_ms for a in room.actions if isinstance(a, SetTimer)] == [2_000]
    room.now_ms = 2_000
    room.fire(one, 1)
    assert kinds(room.facts) == ["NotificationAppended"]
    room.fire(one, 1)
    assert (room.facts, room.actions) == ([], [])


def test_a_timer_for_what_is_gone_changes_nothing(room: Room):
    one = room.invoke()
    finish(room, one)
    assert room.fire(one, 1) == Done()
    assert room.fire(OTHER, 1) == Done()
    assert room.facts == []


# -- calls ------------------------------------------------------------------------------------


def test_a_call_begins_its_callee_in_the_same_commit(room: Room):
    one = room.invoke()
    room.append(one, call(target=add()), b"arg")
    assert kinds(room.facts) == ["EntryAppended", "InvocationCreated", "AttemptStarted"]
    created = room.facts[1]
    assert isinstance(created, InvocationCreated)
    assert created.caller is not None
    assert (created.caller.invocation_id, created.caller.completion_id) == (one, 1)


@pytest.mark.parametrize("result", [value(b"yes"), Failure(code=418, message="teapot")])
def test_a_callers_future_gets_the_callees_result(room: Room, result: Result):
    one = room.invoke()
    room.append(one, call(), b"arg")
    payload = None if isinstance(result, Failure) else b"yes"
    room.append(CHILD, OutputCommand(result=result), payload)
    assert kinds(room.facts) == ["InvocationCompleted", "NotificationAppended"]
    assert result_in(room) == result
    assert room.facts[1].invocation_id == one  # type: ignore[union-attr]


def test_a_result_for_a_finished_caller_is_dropped(room: Room):
    one = room.invoke()
    room.append(one, call(), b"arg")
    finish(room, one)
    finish(room, CHILD)
    assert kinds(room.facts) == ["InvocationCompleted"]


def test_a_sent_invocation_answers_nobody(room: Room):
    one = room.invoke()
    room.append(one, send(), b"arg")
    finish(room, CHILD)
    assert kinds(room.facts) == ["InvocationCompleted"]


def test_a_delayed_send_waits(room: Room):
    one = room.invoke()
    room.append(one, send(at_ms=9_000), b"arg")
    assert room.status(CHILD) == "scheduled"
    finish(room, one)
    room.now_ms = 9_000
    room.fire(CHILD)
    assert room.status(CHILD) == "running"


def test_a_workflow_called_again_is_a_conflict_for_the_caller(room: Room):
    run = room.invoke(run_of())
    one = room.invoke()
    room.append(one, call(target=run_of(), invocation_id=run), b"arg")
    assert result_in(room) == Failure(code=409, message="the workflow method was already invoked")


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_idempotent_call_latches_on(room: Room, when: str):
    callee = room.invoke(GREET, idempotency_key="k")
    one = room.invoke()
    if when == "after":
        finish(room, callee, b"done")
    room.append(one, call(invocation_id=callee, idempotency_key="k"), b"arg")
    if when == "before":
        assert kinds(room.facts) == ["EntryAppended"]
        finish(room, callee, b"done")
    result = result_in(room)
    assert (result.value.bytes, result.value.digest) == (4, ref_of(b"done").digest)  # type: ignore[union-attr]


def test_two_calls_of_one_handler_with_one_key_both_get_the_result(room: Room):
    one = room.invoke()
    room.append(one, call(1, idempotency_key="k"), b"arg")
    room.append(one, call(2, idempotency_key="k"), b"arg")
    finish(room, CHILD)
    assert kinds(room.facts) == ["InvocationCompleted", *["NotificationAppended"] * 2]


def test_attaching_gets_a_result_now_or_later(room: Room):
    other = room.invoke()
    one = room.invoke()
    room.append(one, AttachInvocationCommand(completion_id=1, invocation_id=other))
    assert kinds(room.facts) == ["EntryAppended"]
    finish(room, other)
    assert kinds(room.facts) == ["InvocationCompleted", "NotificationAppended"]
    room.append(one, AttachInvocationCommand(completion_id=2, invocation_id=other))
    assert kinds(room.facts) == ["EntryAppended", "NotificationAppended"]


def test_attaching_to_what_is_not_there_is_a_404(room: Room):
    one = room.invoke()
    room.append(one, AttachInvocationCommand(completion_id=1, invocation_id=OTHER))
    assert result_in(room) == Failure(code=404, message="not found")


def test_one_that_ends_leaves_nobody_waiting_for_it(room: Room):
    """Recovery does not read its journal again, so what it awaited must not remember it."""
    other = room.invoke()
    one = room.invoke()
    room.append(one, AttachInvocationCommand(completion_id=1, invocation_id=other))
    finish(room, one)
    assert not room.inv(other).waiters


def test_a_call_to_what_is_not_registered_backs_off(room: Room):
    """As on Restate (RT0018): the callee may be registered a moment later."""
    one = room.invoke()
    room.append(one, call(target=Target(service="Later", handler="x")), b"arg")
    assert kinds(room.facts) == ["AttemptFailed"]
    assert [type(a) for a in room.actions] == [StopAttempt, SetTimer]
    assert room.inv(one).last_error.type_name == "RT0018"  # type: ignore[union-attr]
    assert room.inv(one).entry_count == 1


@pytest.mark.parametrize(
    "target",
    [
        Target(service="Greeter", handler="greet", key="ada"),
        Target(service="Counter", handler="add"),
    ],
)
def test_a_call_to_what_is_registered_otherwise_backs_off(room: Room, target: Target):
    """As on Restate (RT0017): corrected code, or another revision over there, goes on from here."""
    one = room.invoke()
    room.append(one, call(target=target), b"arg")
    assert kinds(room.facts) == ["AttemptFailed"]
    assert room.inv(one).last_error.type_name == "RT0017"  # type: ignore[union-attr]
    assert room.inv(one).entry_count == 1


# -- promises ---------------------------------------------------------------------------------

OK = value(b"ok")
ORDER = {"service": "Payment", "key": "order", "promise": "approval"}


def complete_promise(room: Room, result: Result = OK) -> object:
    payload = None if isinstance(result, Failure) else b"ok"
    return room.decide(CompletePromise(**ORDER, result=result, payload=payload))


def test_a_promise_completes_whoever_waits_for_it(room: Room):
    one, two = room.invoke(run_of()), room.invoke(approve_of())
    for waiting in (one, two):
        room.append(waiting, GetPromiseCommand(completion_id=1, key="approval"))
        assert kinds(room.facts) == ["EntryAppended"]
    assert complete_promise(room) == Done()
    assert kinds(room.facts) == ["PromiseCompleted", *["NotificationAppended"] * 2]


def test_a_promise_completed_before_the_run_began_is_there_at_once(room: Room):
    complete_promise(room)
    one = room.invoke(run_of())
    room.append(one, GetPromiseCommand(completion_id=1, key="approval"))
    assert kinds(room.facts) == ["EntryAppended", "NotificationAppended"]


@pytest.mark.parametrize("result", [value(b"ok"), Failure(code=500, message="no")])
def test_a_promise_is_written_once(room: Room, result: Result):
    assert complete_promise(room, result) == Done()
    match complete_promise(room):
        case Refused(code=409):
            pass
        case answer:
            pytest.fail(f"{answer}")
    assert room.facts == []


def test_the_second_handler_to_complete_a_promise_is_told(room: Room):
    one, two = room.invoke(approve_of()), room.invoke(approve_of())
    command = CompletePromiseCommand(completion_id=1, key="approval", result=value(b"ok"))
    room.append(one, command, b"ok")
    assert kinds(room.facts) == ["EntryAppended", "PromiseCompleted", "NotificationAppended"]
    by = room.facts[1]
    assert isinstance(by, PromiseCompleted)
    assert by.by == one
    room.append(two, command, b"ok")
    assert result_in(room) == Failure(code=409, message="promise was already completed")


def test_peeking_never_waits(room: Room):
    one = room.invoke(approve_of())
    room.append(one, PeekPromiseCommand(completion_id=1, key="approval"))
    assert result_in(room).value.bytes == 0  # type: ignore[union-attr]
    complete_promise(room)
    room.append(one, PeekPromiseCommand(completion_id=2, key="approval"))
    assert result_in(room).value.bytes == 2  # type: ignore[union-attr]


def test_there_are_no_promises_without_a_workflow(room: Room):
    answer = room.decide(
        CompletePromise(
            service="Counter", key="ada", promise="x", result=value(b"ok"), payload=b"ok"
        )
    )
    assert isinstance(answer, Refused)
    assert answer.code == 404


def test_promises_of_different_keys_are_different(room: Room):
    complete_promise(room)
    one = room.invoke(run_of("another"))
    room.append(one, GetPromiseCommand(completion_id=1, key="approval"))
    assert kinds(room.facts) == ["EntryAppended"]


# -- awakeables -------------------------------------------------------------------------------


def complete_awakeable(room: Room, text: str, data: bytes = b"ok") -> object:
    return room.decide(CompleteAwakeable(awakeable_id=text, result=value(data), payload=data))


def test_the_first_to_complete_an_awakeable_wins(room: Room):
    one = room.invoke()
    room.append(one, AwakeableCommand(signal_id=17))
    text = awakeable_id(one, room.inv(one).seed, 17)
    assert room.inv(one).open_awakeables == [17]
    assert complete_awakeable(room, text) == Done()
    assert kinds(room.facts) == ["NotificationAppended"]
    assert complete_awakeable(room, text, b"other") == Done()
    assert room.facts == []
    assert room.inv(one).open_awakeables == []


def test_an_awakeable_completed_by_a_handler_carries_its_value(room: Room):
    one, two = room.invoke(), room.invoke()
    room.append(one, AwakeableCommand(signal_id=17))
    text = awakeable_id(one, room.inv(one).seed, 17)
    room.append(two, CompleteAwakeableCommand(awakeable_id=text, result=value(b"ok")), b"ok")
    assert kinds(room.facts) == ["EntryAppended", "NotificationAppended"]
    assert room.records[-1].payload == b"ok"


def test_an_awakeable_completed_before_its_command_was_committed_is_kept(room: Room):
    """A step can hand out the id before the entry that made it is durable."""
    one = room.invoke()
    complete_awakeable(room, awakeable_id(one, room.inv(one).seed, 17))
    assert kinds(room.facts) == ["NotificationAppended"]
    room.append(one, AwakeableCommand(signal_id=17))
    assert room.inv(one).open_awakeables == []


def test_an_awakeable_of_a_finished_invocation_is_ignored(room: Room):
    one = room.invoke()
    finish(room, one)
    assert complete_awakeable(room, awakeable_id(one, room.inv(one).seed, 17)) == Done()
    assert room.facts == []


def test_an_awakeable_of_no_invocation_is_a_404(room: Room):
    """Restate says 202, and whoever sent it believes that somebody has heard it."""
    answer = complete_awakeable(room, awakeable_id(random_invocation_id(99), 99, 17))
    assert isinstance(answer, Refused)
    assert answer.code == 404
    assert room.facts == []


@pytest.mark.parametrize("text", ["", "sign_1", "nonsense", "sign_1????", "sign_1AAAA", "prom_1é"])
def test_a_bad_awakeable_id_is_a_400(room: Room, text: str):
    answer = complete_awakeable(room, text)
    assert isinstance(answer, Refused)
    assert answer.code == 400


def test_an_id_made_by_hand_cannot_cancel(room: Room):
    """Signal 1 is a cancellation; who may complete awakeables may not therefore cancel."""
    one = room.invoke()
    answer = complete_awakeable(room, awakeable_id(one, room.inv(one).seed, 1))
    assert isinstance(answer, Refused)
    assert room.facts == []


def test_completing_fact_has_the_output_as_its_last_entry(room: Room):
    one = room.invoke()
    begin_run(room, one)
    finish(room, one)
    (fact,) = room.facts
    assert isinstance(fact, InvocationCompleted)
    assert (fact.entry_index, fact.entry_count, fact.by) == (2, 3, "output")
