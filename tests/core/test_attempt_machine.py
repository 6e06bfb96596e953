"""One attempt on one journal: what replay serves, what progress says, what does not match."""

from __future__ import annotations

import pytest
from journal import (
    CHILD,
    GREET,
    INVOCATION,
    Line,
    asked,
    awakeable,
    call,
    cancelled,
    cancels,
    done,
    failed,
    get,
    notify,
    replay,
    run,
    set_,
    signalled,
    sleep,
)

from nbdurable.core.attempt import (
    AttemptMachine,
    Cancelled,
    ExecuteRun,
    MismatchError,
    Phase,
    Ready,
    WaitExternal,
    ref_of,
    success_of,
)
from nbdurable.core.commands import CallCommand, OutputCommand
from nbdurable.core.futures import AllCompleted, Completion, FirstCompleted, Signal
from nbdurable.core.ids import awakeable_id, child_invocation_id, keyed_invocation_id
from nbdurable.core.proposals import AppendCommand, CompleteRun
from nbdurable.core.values import ErrorReport, Failure, RetryPolicy, Target

ONE, TWO = Completion(id=1), Completion(id=2)


# -- progress ---------------------------------------------------------------------------------


def test_a_step_is_executed_when_it_is_waited_for_and_once():
    machine = replay()
    one, two = machine.run("a"), machine.run("b")
    assert asked(machine) == ["RunCommand", "RunCommand"]
    assert machine.await_(one) == ExecuteRun((1,))
    assert machine.await_(one) == WaitExternal(can_suspend=False)
    assert machine.await_(AllCompleted(of=(one, two))) == ExecuteRun((2,))


def test_a_new_command_says_that_the_code_has_not_been_here_before():
    """A handler that reads and writes state never asks whether anything is there."""
    machine = replay(get("n", None), set_("n"))
    machine.get_state("n")
    machine.set_state("n", b"1")
    assert machine.phase is Phase.REPLAYING
    machine.set_state("m", b"2")
    assert machine.phase is Phase.PROCESSING


def test_a_result_reaches_the_code_only_as_a_committed_notification():
    machine = replay()
    one = machine.run("a")
    machine.await_(one)
    machine.complete_run(1, success_of(b"7"), b"7")
    assert machine.await_(one) == WaitExternal(can_suspend=False)
    notify(machine, 2, done(1, b"7"))
    assert machine.await_(one) == Ready()
    assert machine.take(one).payload == b"7"


def test_replay_serves_the_recorded_result_and_executes_nothing():
    machine = replay(run("a"), done(1, b"7"))
    assert machine.phase is Phase.REPLAYING
    one = machine.run("a")
    assert machine.await_(one) == Ready()
    assert machine.take(one).payload == b"7"
    assert asked(machine) == []
    assert machine.phase is Phase.PROCESSING


def test_a_recorded_step_without_a_result_is_executed_again():
    """At least once: it was running when the process died."""
    machine = replay(run("a"))
    assert machine.await_(machine.run("a")) == ExecuteRun((1,))
    assert asked(machine) == []


def test_only_what_nothing_here_works_on_can_suspend():
    machine = replay()
    machine.sleep(9_000)
    step = machine.run("a")
    assert machine.await_(ONE) == WaitExternal(can_suspend=True)
    assert machine.await_(FirstCompleted(of=(ONE, step))) == ExecuteRun((2,))
    assert machine.await_(ONE) == WaitExternal(can_suspend=False)


def test_notifications_are_consumed_one_at_a_time_in_journal_order():
    """Both are there; only the first is seen by a select, whichever is asked about first."""
    machine = replay(sleep(1), sleep(2), done(2, of="Sleep"), done(1, of="Sleep"))
    one, two = machine.sleep(1), machine.sleep(1)
    assert machine.await_(FirstCompleted(of=(one, two))) == Ready()
    assert (machine.is_settled(one), machine.is_settled(two)) == (False, True)
    assert machine.await_(one) == Ready()


def test_a_future_is_not_settled_before_an_await():
    machine = replay(sleep(1), done(1, of="Sleep"))
    one = machine.sleep(1)
    assert not machine.is_settled(one)


def test_a_notification_delivered_twice_counts_once():
    """It may be both in the journal an attempt starts with and on its way to that attempt."""
    machine = replay(awakeable(), signalled(17, b"a"))
    notify(machine, 2, signalled(17, b"b"))
    _, signal = machine.awakeable()
    assert machine.await_(signal) == Ready()
    assert machine.take(signal).payload == b"a"


# -- mismatch ---------------------------------------------------------------------------------

JOURNAL: tuple[Line, ...] = (run("a", 1), done(1, b"7"), set_("k", b"1"), call(2), sleep(3, "nap"))


def perform(machine: AttemptMachine, change: str = "") -> None:
    """The code that wrote JOURNAL, or a changed version of it."""
    if change == "command added in front":
        machine.set_state("x", b"1")
    if change != "command removed":
        step = machine.run("b" if change == "name of a step" else "a")
        machine.await_(step)
    if change == "await added":
        machine.await_(machine.sleep(1) if change == "x" else Completion(id=2))
    if change == "kind":
        machine.clear_state("k")
    else:
        key = "other" if change == "key" else "k"
        machine.set_state(key, b"2" if change == "value" else b"1")
    target = Target(service="Greeter", handler="meet") if change == "target" else GREET
    headers = {"a": "b"} if change == "headers" else None
    argument = b"other" if change == "argument" else b"arg"
    idempotency_key = "k" if change == "idempotency key" else None
    machine.call(target, argument, headers=headers, idempotency_key=idempotency_key)
    if change == "returns early":
        machine.output(success_of(b""))
        return
    machine.sleep(77_000, "rest" if change == "name of a sleep" else "nap")


def test_the_same_code_matches():
    machine = replay(*JOURNAL)
    perform(machine)
    assert asked(machine) == []


@pytest.mark.parametrize(
    ("change", "index", "said"),
    [
        ("name of a step", 1, "name: recorded 'a', attempted 'b'"),
        ("kind", 2, "command: recorded 'Command: SetState', attempted 'Command: ClearState'"),
        ("key", 2, "key: recorded 'k', attempted 'other'"),
        ("value", 2, "value: recorded 1 bytes"),
        ("target", 3, "target: recorded Greeter/greet, attempted Greeter/meet"),
        ("headers", 3, "headers"),
        ("idempotency key", 3, "idempotency_key"),
        ("argument", 3, "argument: recorded 3 bytes"),
        ("name of a sleep", 4, "name: recorded 'nap', attempted 'rest'"),
        ("command added in front", 1, "recorded:  Run 'a'"),
        ("command removed", 1, "attempted: SetState 'k'"),
        ("await added", 1, "an await was added"),
        ("returns early", 4, "recorded:  Sleep 'nap'"),
    ],
)
def test_changed_code_does_not_match_and_is_told_where(change: str, index: int, said: str):
    with pytest.raises(MismatchError) as raised:
        perform(replay(*JOURNAL), change)
    assert raised.value.mismatch.command_index == index
    assert said in str(raised.value)


def test_values_that_need_not_be_equal_bytes_are_not_compared():
    """Two pickles of equal values may differ; names and kinds are compared all the same."""
    machine = replay(set_("k", b"one"))
    machine.set_state("k", b"another", comparable=False)
    with pytest.raises(MismatchError):
        replay(set_("k", b"one")).set_state("other", b"one", comparable=False)


def test_how_long_a_sleep_is_and_how_late_a_send_is_not_compared():
    machine = replay(sleep(1, at_ms=5_000))
    machine.sleep(6_000)
    assert asked(machine) == []


# -- identity ---------------------------------------------------------------------------------


def test_children_are_named_by_place_and_found_again():
    first, again = replay(), replay()
    ids = [machine.call(GREET, b"arg")[1] for machine in (first, again)]
    assert ids[0] == ids[1] == child_invocation_id(7, 1)
    assert first.call(GREET, b"arg")[1] != ids[0]


def test_idempotent_callees_and_runs_are_named_by_key():
    machine = replay()
    run_target = Target(service="Payment", handler="run", key="k")
    assert machine.send(GREET, b"", idempotency_key="x") == keyed_invocation_id(
        "Greeter", None, "greet", "x"
    )
    assert machine.call(run_target, b"", is_run=True)[1] == keyed_invocation_id(
        "Payment", "k", "run", None
    )


def test_awakeables_are_numbered_from_17():
    machine = replay()
    text, signal = machine.awakeable()
    assert (text, signal) == (awakeable_id(INVOCATION, 7, 17), Signal(id=17))
    assert machine.awakeable()[1] == Signal(id=18)


def test_what_the_journal_cannot_hold_is_refused_at_the_call():
    """Not at the commit, where it would look like a broken disk."""
    machine = replay()
    with pytest.raises(TypeError, match="cannot be recorded as a 'Command: SetState' entry"):
        machine.set_state(5, b"1")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        machine.call(Target(service="G", handler="g", key=5), b"")  # type: ignore[arg-type]
    assert asked(machine) == []
    assert machine.command_index == 0


# -- state ------------------------------------------------------------------------------------


def test_state_is_read_as_it_was_read():
    """Whatever it is by now: replay gives what the first execution saw."""
    machine = replay(get("n", b"1"), set_("n", b"2"), state={"n": b"2"})
    assert machine.get_state("n") == b"1"
    machine.set_state("n", b"2")
    assert machine.get_state("n") == b"2"
    assert asked(machine) == ["GetEagerStateCommand"]


def test_a_name_without_a_value_is_none_and_an_empty_value_is_not():
    machine = replay(get("n", None), get("m", b""))
    assert machine.get_state("n") is None
    assert machine.get_state("m") == b""


def test_own_writes_are_seen():
    machine = replay(state={"a": b"1", "b": b"2"})
    machine.clear_state("a")
    machine.set_state("c", b"3")
    assert machine.state_keys() == ["b", "c"]
    machine.clear_all_state()
    assert machine.state_keys() == []


# -- cancellation -----------------------------------------------------------------------------


def test_a_cancellation_is_raised_once_after_the_children_were_cancelled():
    machine = replay()
    future, child = machine.call(GREET, b"arg")
    step = machine.run("a")
    machine.await_(step)
    asked(machine)
    notify(machine, 3, cancelled())
    assert machine.await_(step) == Cancelled((2,))
    assert asked(machine) == ["SendSignalCommand", "CompleteRun"]
    assert machine.await_(future) == WaitExternal(can_suspend=True)
    assert child != CHILD


def test_an_abandoned_step_is_journaled_and_replay_is_equal():
    """The journal that a cancelled attempt leaves is one that replay can follow."""
    lines = (
        call(1),
        run("a", 2),
        cancelled(),
        cancels(),
        failed(2, 409, "abandoned: cancelled while it was executing"),
    )
    machine = replay(*lines)
    machine.call(GREET, b"arg")
    step = machine.run("a")
    assert machine.await_(step) == Cancelled(())
    assert asked(machine) == []
    assert machine.await_(step) == Ready()
    assert machine.take(step).result == Failure(
        code=409, message="abandoned: cancelled while it was executing"
    )


def test_what_is_done_before_the_cancellation_is_done():
    machine = replay(run("a"), done(1, b"7"), cancelled())
    step = machine.run("a")
    assert machine.await_(step) == Ready()
    assert machine.await_(machine.sleep(9_000)) == Cancelled(())


def test_finished_children_are_not_cancelled():
    machine = replay(call(1), done(1, b"x", of="Call"), cancelled())
    future, _ = machine.call(GREET, b"arg")
    assert machine.await_(future) == Ready()
    assert machine.await_(machine.sleep(9_000)) == Cancelled(())
    assert asked(machine) == ["SleepCommand"]


def test_a_second_cancellation_is_raised_at_the_next_await():
    machine = replay(sleep(1), cancelled(), cancelled())
    future = machine.sleep(1)
    assert [machine.await_(future) for _ in range(3)] == [
        Cancelled(()),
        Cancelled(()),
        WaitExternal(can_suspend=True),
    ]


# -- keyed journals ---------------------------------------------------------------------------


def test_keyed_steps_are_found_by_key_in_any_order():
    """Cells may be moved; a cell that ran is not run again."""
    lines = (run("a", 1, "ka"), done(1, b"1"), run("b", 2, "kb"), done(2, b"2"))
    machine = replay(*lines, keyed=True)
    for key, value in [("kb", b"2"), ("ka", b"1")]:
        step = machine.run("renamed", key)
        assert machine.await_(step) == Ready()
        assert machine.take(step).payload == value
    assert asked(machine) == []


def test_a_new_keyed_step_is_new_wherever_it_stands():
    lines = (run("a", 1, "ka"), done(1, b"1"), run("b", 2, "kb"))
    machine = replay(*lines, keyed=True)
    new = machine.run("c", "kc")
    assert new == Completion(id=3)
    assert machine.await_(new) == ExecuteRun((3,))
    old = machine.run("b", "kb")
    assert machine.await_(old) == ExecuteRun((2,))
    assert asked(machine) == ["RunCommand"]


def test_a_keyed_step_asked_for_twice_is_one_step():
    machine = replay(keyed=True)
    assert machine.run("a", "ka") == machine.run("a", "ka")
    assert asked(machine) == ["RunCommand"]


# -- the end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "output", "fail", "suspend"])
def test_a_closed_attempt_records_nothing(how: str):
    machine = replay()
    match how:
        case "close":
            machine.close()
        case "output":
            machine.output(success_of(b""))
        case "fail":
            machine.fail(ErrorReport(code=500, message="x"))
        case _:
            machine.suspend(ONE)
    machine.take_steps()
    machine.run("late")
    machine.set_state("late", b"1")
    machine.send(GREET, b"late")
    machine.complete_run(1, success_of(b"late"), b"late")
    machine.fail_run(1, ErrorReport(code=500, message="late"), RetryPolicy())
    machine.output(success_of(b"late"), b"late")
    machine.suspend(TWO)
    machine.fail(ErrorReport(code=500, message="late"))
    notify(machine, 9, done(1))
    assert not machine.has_steps
    assert machine.phase is Phase.CLOSED


def test_a_suspension_says_how_much_was_seen():
    """So that the engine can tell what came meanwhile."""
    machine = replay(sleep(1), signalled(17), sleep(2))
    machine.suspend(ONE)
    (step,) = machine.take_steps()
    assert step.notification_count == 1  # type: ignore[union-attr]


def test_steps_are_proposed_in_the_order_they_were_taken():
    machine = replay()
    machine.set_state("a", b"1")
    step = machine.run("b")
    assert not machine.only_runs_pending
    machine.await_(step)
    machine.complete_run(1, success_of(b"7"), b"7")
    machine.output(success_of(b"out"), b"out")
    steps = machine.take_steps()
    assert [type(s) for s in steps] == [AppendCommand, AppendCommand, CompleteRun, AppendCommand]
    assert steps[-1] == AppendCommand(
        command=OutputCommand(result=success_of(b"out")), payload=b"out"
    )


def test_a_call_carries_its_argument_beside_it():
    machine = replay()
    machine.call(GREET, b"arg")
    (step,) = machine.take_steps()
    assert isinstance(step, AppendCommand)
    assert isinstance(step.command, CallCommand)
    assert (step.payload, step.command.argument) == (b"arg", ref_of(b"arg"))
