"""Code comes and goes: who goes on with what."""

from __future__ import annotations

import msgspec
import pytest
from room import Room, add, counter, error, greeter, kinds, manifest, payment, run_of, value

from nbdurable.core.commands import OutputCommand, RunCommand, SleepCommand
from nbdurable.core.facts import InvocationMoved
from nbdurable.core.futures import Completion
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import FailAttempt, Loaded, PauseInvocation, Suspend


def test_an_unchanged_definition_is_the_revision_it_was():
    room = Room(greeter())
    assert room.load(greeter()) == Loaded(revision=1, is_new=False)
    assert room.facts == []
    assert kinds(room.actions) == ["AssignRevision"]


def test_where_it_was_typed_makes_no_difference():
    room = Room(manifest("G", "service", {"greet": None}))
    moved = manifest("G", "service", {"greet": None})
    assert not room.load(moved).is_new


def test_a_changed_definition_is_the_next_revision_and_new_calls_go_there():
    room = Room(greeter())
    answer = room.load(greeter(digest="v2"))
    assert (answer.revision, answer.is_new) == (2, True)
    assert kinds(room.facts) == ["ServiceRegistered", "CodeLoaded"]
    assert room.inv(room.invoke()).revision == 2


def test_a_changed_option_is_a_new_revision():
    from nbdurable.core.values import RetryPolicy

    room = Room(greeter())
    assert room.load(greeter(retry=RetryPolicy(max_attempts=3))).revision == 2


def tried_again() -> tuple[Room, InvocationId]:
    """An invocation in the attempt that follows its first failure."""
    room = Room(greeter())
    one = room.invoke()
    room.steps(one, FailAttempt(error=error()))
    room.now_ms = room.inv(one).next_retry_at_ms
    room.fire(one)
    return room, one


def test_a_healthy_invocation_stays_on_the_revision_it_began_with():
    room = Room(greeter())
    one = room.invoke()
    answer = room.load(greeter(digest="v2"))
    assert (answer.moved, answer.staying) == ((), (one,))
    assert (room.status(one), room.inv(one).revision) == ("running", 1)


@pytest.mark.parametrize("heals", [True, False])
def test_what_failed_moves_to_the_corrected_code_and_goes_on(heals: bool):  # noqa: FBT001
    """Re-running a corrected cell repairs its failed runs."""
    room = Room(greeter())
    one = room.invoke()
    room.steps(one, FailAttempt(error=error(heals_by_retry=heals)))
    answer = room.load(greeter(digest="v2"))
    assert answer.moved == (one,)
    assert kinds(room.facts)[-2:] == ["InvocationMoved", "AttemptStarted"]
    assert (room.status(one), room.inv(one).revision) == ("running", 2)


def test_what_is_just_tried_again_moves_to_the_corrected_code_too():
    """Early retries follow each other closely: who corrects a cell must not have to hit a gap."""
    room, one = tried_again()
    assert (room.status(one), room.inv(one).attempt) == ("running", 2)
    answer = room.load(greeter(digest="v2"))
    assert answer.moved == (one,)
    assert kinds(room.facts)[-3:] == ["AttemptLost", "InvocationMoved", "AttemptStarted"]
    assert "StopAttempt" in kinds(room.actions)
    assert (room.status(one), room.inv(one).revision) == ("running", 2)


def test_what_has_got_further_since_it_failed_is_healthy():
    room, one = tried_again()
    room.append(one, RunCommand(completion_id=1, name="further"))
    answer = room.load(greeter(digest="v2"))
    assert (answer.moved, answer.staying) == ((), (one,))


def test_what_a_person_paused_stays_paused():
    room = Room(greeter())
    one = room.invoke()
    room.decide(PauseInvocation(invocation_id=one))
    room.load(greeter(digest="v2"))
    assert (room.status(one), room.inv(one).revision) == ("paused", 1)


def test_pinned_invocations_do_not_move():
    room = Room(greeter())
    one = room.invoke()
    room.steps(one, FailAttempt(error=error()))
    answer = room.load(greeter(digest="v2"), pin=True)
    assert answer.moved == ()
    assert (room.status(one), room.inv(one).revision) == ("backing-off", 1)


def test_those_whose_own_code_is_nowhere_are_adopted():
    """A fresh kernel has only the cell as it is now; replay checks every entry anyway."""
    room = Room(greeter())
    ready, asleep = room.invoke(), room.invoke()
    room.append(asleep, SleepCommand(completion_id=1, wake_up_at_ms=9_000))
    room.steps(asleep, Suspend(waiting_for=Completion(id=1), notification_count=0))
    room.restart(greeter(digest="v2"))
    assert [f for f in room.facts if isinstance(f, InvocationMoved)] == [
        InvocationMoved(invocation_id=one, revision=2) for one in (ready, asleep)
    ]
    assert (room.status(ready), room.status(asleep)) == ("running", "suspended")
    room.now_ms = 9_000
    room.fire(asleep, 1)
    assert room.inv(asleep).revision == 2


@pytest.mark.parametrize("status", ["backing-off", "ready", "never ran"])
def test_an_invocation_whose_handler_is_gone_stays_where_it_is(status: str):
    """A cell that lost or renamed a handler must not stop the engine."""
    room = Room(greeter())
    if status == "never ran":
        room.restart()
    one = room.invoke()
    if status == "backing-off":
        room.steps(one, FailAttempt(error=error()))
    else:
        room.restart()
    answer = room.load(manifest("Greeter", "service", {"meet": None}, digest="v2"))
    assert answer.moved == ()
    assert room.actions[1:] == []
    if status == "backing-off":
        room.now_ms = 1_000_000
        room.fire(one)
        assert room.status(one) == "running"
        return
    assert room.status(one) == "ready"
    room.load(greeter(digest="v3"))
    assert room.status(one) == "running"


def test_code_of_one_service_leaves_others_alone():
    room = Room(greeter(), counter())
    one = room.invoke(add())
    room.steps(one, FailAttempt(error=error()))
    assert room.load(greeter(digest="v2")).moved == ()


# -- links and epochs -------------------------------------------------------------------------


def test_a_closed_link_loses_its_attempts_without_counting_them():
    room = Room(greeter())
    one = room.invoke()
    room.close_link()
    assert kinds(room.facts) == ["LinkClosed", "AttemptLost"]
    assert (room.status(one), room.inv(one).failure_count) == ("ready", 0)


def test_lost_attempts_begin_again_where_the_code_is():
    room = Room(greeter())
    one = room.invoke()
    room.load(greeter(), link="there")
    room.close_link("here")
    assert kinds(room.facts) == ["LinkClosed", "AttemptLost", "AttemptStarted"]
    assert (room.inv(one).link, room.inv(one).attempt) == ("there", 2)


def test_code_that_is_loaded_twice_is_there_until_its_last_link_closes():
    """The same cell is run in two kernels; closing one of them takes nothing from the other."""
    room = Room(greeter())
    room.load(greeter(), link="there")
    room.close_link("there")
    one = room.invoke()
    assert (room.status(one), room.inv(one).link) == ("running", "here")
    room.close_link("here")
    assert room.status(one) == "ready"


def test_a_link_runs_no_more_than_it_has_slots_and_the_rest_runs_elsewhere():
    room = Room(greeter())
    room.open_link("there", slots=1)
    room.load(greeter(), link="there")
    one, two, three = (room.invoke() for _ in range(3))
    assert [room.inv(i).link for i in (one, two, three)] == ["there", "here", "here"]


@pytest.mark.parametrize("how", ["it ends", "its link closes", "another link has the code"])
def test_who_finds_no_slot_at_any_link_waits_for_one(how: str):
    room = Room()
    room.open_link("there", slots=1)
    room.load(greeter(), link="there")
    one, two = room.invoke(), room.invoke()
    assert (room.status(one), room.status(two)) == ("running", "ready")
    match how:
        case "it ends":
            room.append(one, OutputCommand(result=value()), b"1")
        case "its link closes":
            room.open_link("again", slots=1)
            room.load(greeter(), link="again")
            room.close_link("there")
        case _:
            room.load(greeter(), link="here")
    assert room.status(two) == "running"


def test_an_invocation_runs_where_it_was_asked_for_if_it_can():
    """Two kernels have run the same cell; each one's runs print into its own."""
    room = Room(greeter())
    room.load(greeter(), link="there")
    asked = msgspec.structs.replace(room.invocation(), link="here")
    room.decide(asked)
    assert room.inv(asked.invocation_id).link == "here"
    elsewhere = msgspec.structs.replace(room.invocation(), link="a browser")
    room.decide(elsewhere)
    assert room.inv(elsewhere.invocation_id).link == "there"
    room.close_link("here")
    assert room.inv(asked.invocation_id).link == "there"


def test_a_link_may_run_some_keys_only():
    """A papermill call has the kernel of one run."""
    room = Room()
    room.load(payment(), link="one", keys=("a",))
    room.load(payment(), link="two", keys=("b",))
    a, b, c = (room.invoke(run_of(key)) for key in "abc")
    assert [room.status(i) for i in (a, b, c)] == ["running", "running", "ready"]
    assert [room.inv(i).link for i in (a, b)] == ["one", "two"]
    room.close_link("one")
    assert room.status(a) == "ready"
    room.load(payment(digest="v2"), link="three", keys=("c",))
    assert [room.inv(i).revision for i in (a, b, c)] == [1, 1, 2]
    assert room.inv(c).link == "three"


def test_a_slot_that_is_free_is_given_to_a_key_that_can_use_it():
    """The first in line may be one whose process is gone."""
    room = Room()
    room.open_link("one", slots=1)
    room.load(payment(), link="one", keys=("b", "c"))
    a, b, c = (room.invoke(run_of(key)) for key in "abc")
    assert [room.status(i) for i in (a, b, c)] == ["ready", "running", "ready"]
    room.append(b, OutputCommand(result=value()), b"1")
    assert [room.status(i) for i in (a, c)] == ["ready", "running"]


def test_closing_another_link_changes_nothing_here():
    room = Room(greeter())
    one = room.invoke()
    room.close_link("elsewhere")
    assert room.status(one) == "running"


def test_an_epoch_ends_every_attempt_and_forgets_every_link():
    room = Room(greeter(), counter())
    one = room.invoke()
    queued = [room.invoke(add()), room.invoke(add())]
    room.append(one, RunCommand(completion_id=1, name="step"))
    room.restart()
    assert room.state.epoch == 2
    assert room.status(one) == "ready"
    room.load(greeter())
    assert (room.status(one), room.inv(one).attempt) == ("running", 2)
    room.load(counter())
    assert [room.status(i) for i in queued] == ["running", "pending"]


def test_finished_invocations_are_left_alone_by_new_code():
    room = Room(greeter())
    one = room.invoke()
    room.append(one, OutputCommand(result=value()), b"1")
    assert room.load(greeter(digest="v2")) == Loaded(revision=2, is_new=True)
    assert room.status(one) == "completed"


def test_code_that_is_loaded_again_is_the_revision_it_was():
    """Two kernels have two versions of a cell, and their owner dies: neither typed anything new."""
    room = Room(greeter())
    room.load(greeter(digest="v2"), link="there")
    one = room.invoke()
    room.restart()
    assert room.load(greeter(), again=True) == Loaded(revision=1, is_new=False, staying=(one,))
    assert room.status(one) == "ready"
    assert room.load(greeter(digest="v2"), link="there", again=True).revision == 2
    assert (room.status(one), room.inv(one).link) == ("running", "there")


def test_code_that_comes_back_by_hand_is_a_new_revision():
    room = Room(greeter())
    room.load(greeter(digest="v2"))
    assert room.load(greeter()).revision == 3
