"""How long what has ended is kept, and what starting it anew takes over."""

from __future__ import annotations

import msgspec
import pytest
from room import GREET, Room, add, counter, error, greeter, payment, run_of, value

from nbdurable.core.attempt import ref_of
from nbdurable.core.commands import (
    AwakeableCommand,
    CallCommand,
    ClearAllStateCommand,
    OutputCommand,
    RunCommand,
    SetStateCommand,
    SleepCommand,
)
from nbdurable.core.facts import InvocationCreated, StateEdited
from nbdurable.core.ids import InvocationId, random_invocation_id
from nbdurable.core.manifest import HandlerManifest
from nbdurable.core.proposals import (
    AcceptMismatch,
    CancelInvocation,
    Cleaned,
    CleanUp,
    CompleteRun,
    Done,
    FailAttempt,
    Invoked,
    KillInvocation,
    PurgeJournal,
    Refused,
    RestartInvocation,
    ResumeInvocation,
)
from nbdurable.core.restart import prefix_of
from nbdurable.core.settings import RETENTION_MS, Settings
from nbdurable.core.values import MISMATCH_CODE

DAY_MS = 24 * 3_600_000


@pytest.fixture
def room() -> Room:
    return Room(greeter(), counter(), payment())


def finish(room: Room, one: InvocationId) -> None:
    room.append(one, OutputCommand(result=value()), b"1")


def code_of(answer: object) -> int:
    return answer.code if isinstance(answer, Refused) else 200


# -- retention ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "idempotency_key", "completion_ms", "journal_ms"),
    [
        ("workflow", None, 3, 1),
        ("exclusive", "k", 2, 1),
        ("exclusive", None, 1, 1),
    ],
)
def test_which_retention_counts(
    type_: str, idempotency_key: str | None, completion_ms: int, journal_ms: int
):
    settings = Settings(journal_retention_ms=1, idempotency_retention_ms=2, workflow_retention_ms=3)
    handler = HandlerManifest(name="h", type=type_)  # type: ignore[arg-type]
    kept = settings.retention_ms(handler, idempotency_key)
    assert (kept.completion_ms, kept.journal_ms) == (completion_ms, journal_ms)


def test_a_journal_is_not_kept_longer_than_its_invocation():
    handler = HandlerManifest(name="h", journal_retention_ms=9, idempotency_retention_ms=5)
    assert Settings().retention_ms(handler, "k").journal_ms == 5


def test_the_cleaner_purges_what_has_been_kept_for_long_enough(room: Room):
    one, two = room.invoke(), room.invoke(run_of())
    finish(room, one)
    room.now_ms += RETENTION_MS - 1
    assert room.decide(CleanUp()) == Cleaned(purged_count=0, is_done=True)
    room.now_ms += 1
    assert room.decide(CleanUp()) == Cleaned(purged_count=1, is_done=True)
    assert room.state.find(one) is None
    assert room.status(two) == "running"


def test_the_cleaner_stops_before_it_stalls_everybody(room: Room):
    for _ in range(3):
        finish(room, room.invoke())
    room.now_ms += RETENTION_MS
    assert room.decide(CleanUp(purges_max=2)) == Cleaned(purged_count=2, is_done=False)
    assert room.decide(CleanUp(purges_max=2)) == Cleaned(purged_count=1, is_done=True)


def test_a_journal_may_go_before_its_result():
    handler = HandlerManifest(name="greet", journal_retention_ms=DAY_MS)
    service = msgspec.structs.replace(greeter(), handlers=(handler,))
    room = Room(service)
    one = room.invoke(idempotency_key="k")
    finish(room, one)
    room.now_ms += DAY_MS
    assert room.decide(CleanUp()) == Cleaned(purged_count=1, is_done=True)
    assert room.inv(one).journal_purged
    assert room.decide(CleanUp()) == Cleaned(purged_count=0, is_done=True)
    assert room.invoke(idempotency_key="k") == one


def test_what_is_kept_for_no_time_goes_as_soon_as_its_callers_know():
    handler = HandlerManifest(name="greet", journal_retention_ms=0)
    room = Room(msgspec.structs.replace(greeter(), handlers=(handler,)))
    one = room.invoke()
    finish(room, one)
    assert room.status(one) == "completed"
    room.fire(one)
    assert room.state.find(one) is None


def kept_for_no_time() -> Room:
    handler = HandlerManifest(name="run", type="workflow", workflow_retention_ms=0)
    flow = msgspec.structs.replace(payment(), handlers=(handler,))
    return Room(flow, greeter())


def test_a_key_that_is_kept_for_no_time_runs_again_at_once():
    """Whether the timer that takes the last run away has fired by then is nobody's affair."""
    room = kept_for_no_time()
    for _ in range(3):
        one = room.invoke(run_of())
        assert room.answer == Invoked(invocation_id=one)
        finish(room, one)
        assert room.status(one) == "completed"


def test_a_request_that_is_decided_twice_does_not_run_twice_for_being_kept_for_no_time():
    room = kept_for_no_time()
    asked = room.invocation(run_of())
    room.decide(asked)
    finish(room, asked.invocation_id)
    assert room.decide(asked) == Invoked(invocation_id=asked.invocation_id)
    assert room.status(asked.invocation_id) == "completed"


def test_a_handler_that_calls_such_a_key_again_runs_it_again():
    room = kept_for_no_time()
    caller, flow = room.invoke(), room.invoke(run_of())
    finish(room, flow)
    command = CallCommand(
        completion_id=1, invocation_id=flow, target=run_of(), argument=ref_of(b"in")
    )
    room.append(caller, command, b"in")
    assert room.status(flow) == "running"


@pytest.mark.parametrize(("status", "code"), [("running", 409), ("completed", 200), ("gone", 404)])
def test_purging_a_journal_is_for_what_is_completed(room: Room, status: str, code: int):
    one = room.invoke()
    if status == "completed":
        finish(room, one)
    of = InvocationId("inv_1gone") if status == "gone" else one
    assert code_of(room.decide(PurgeJournal(invocation_id=of))) == code


# -- restart as new -------------------------------------------------------------------------------


def restart(room: Room, one: InvocationId, from_entry: int = 1, **options):
    """As the shell does it: the prefix is read from the log."""
    records = [r for r in room.records if getattr(r.fact, "invocation_id", None) == one]
    created = records[0].fact
    assert isinstance(created, InvocationCreated)
    old = room.state.find(one)
    proposal = RestartInvocation(
        invocation_id=one,
        seed=0 if old is None else old.seed,
        new_invocation_id=random_invocation_id(777),
        new_seed=777,
        argument=created.argument,
        headers=created.headers,
        from_entry=from_entry,
        prefix=prefix_of(records, from_entry),
        **options,
    )
    answer = room.decide(proposal)
    return answer, proposal.new_invocation_id


def begun(room: Room) -> InvocationId:
    """Entries: 1 a finished step, 2 a set, 3 an open step."""
    one = room.invoke(add())
    room.append(one, RunCommand(completion_id=1, name="a"))
    room.steps(one, CompleteRun(completion_id=1, result=value(b"x"), payload=b"x"))
    room.append(one, SetStateCommand(key="n", value=ref_of(b"1")), b"1")
    room.append(one, RunCommand(completion_id=2, name="b"))
    return one


def test_a_restart_from_the_beginning_takes_the_input_only(room: Room):
    one = begun(room)
    finish(room, one)
    answer, new = restart(room, one)
    assert answer == Invoked(invocation_id=new)
    inv = room.inv(new)
    assert (inv.status, inv.entry_count, inv.restarted_from) == ("running", 1, one)
    assert room.status(one) == "completed"


def test_a_restart_from_an_entry_keeps_what_came_before_with_its_results(room: Room):
    one = begun(room)
    finish(room, one)
    _, new = restart(room, one, from_entry=4)
    inv = room.inv(new)
    # The step, its result and the set; the entry that is not taken over is the open step.
    assert (inv.entry_count, inv.completion_count, inv.open) == (4, 1, {})


def test_what_was_written_then_is_not_written_again(room: Room):
    """The object may have changed since; a copy of the journal is no second write."""
    one = begun(room)
    finish(room, one)
    other = room.invoke(add())
    room.append(other, SetStateCommand(key="n", value=ref_of(b"2")), b"2")
    finish(room, other)
    before = dict(room.state.objects[add().object].state)
    restart(room, one, room.inv(one).entry_count)
    assert room.state.objects[add().object].state == before


def test_a_restart_takes_up_timers_and_results_of_those_it_called(room: Room):
    one = room.invoke()
    callee = InvocationId("inv_1callee")
    called = CallCommand(
        completion_id=1, invocation_id=callee, target=add("bob"), argument=ref_of(b"")
    )
    room.append(one, called, b"")
    room.append(one, SleepCommand(completion_id=2, wake_up_at_ms=9_000))
    room.decide(KillInvocation(invocation_id=one))
    _, new = restart(room, one, room.inv(one).entry_count)
    inv = room.inv(new)
    assert inv.sleeping == {2: 9_000}
    # The callee was killed with its caller, and says so.
    assert inv.open_calls == {}
    assert inv.has_heard(next(iter(inv.heard)))


def test_a_cancellation_and_old_awakeables_stay_with_the_one_they_were_for(room: Room):
    one = room.invoke()
    room.append(one, AwakeableCommand(signal_id=17))
    room.decide(CancelInvocation(invocation_id=one))
    finish(room, one)
    _, new = restart(room, one, room.inv(one).entry_count)
    assert room.inv(new).heard is None
    assert room.inv(new).open_awakeables == [17]


def test_a_restart_queues_like_anybody(room: Room):
    one = begun(room)
    finish(room, one)
    room.invoke(add())
    _, new = restart(room, one)
    assert room.status(new) == "pending"


def test_deciding_a_restart_twice_is_deciding_it_once(room: Room):
    one = begun(room)
    finish(room, one)
    _, new = restart(room, one)
    answer, again = restart(room, one)
    assert (answer, again) == (Invoked(invocation_id=new), new)


@pytest.mark.parametrize(
    ("from_entry", "code"), [(-5, 400), (0, 400), (1, 200), (4, 200), (99, 400)]
)
def test_it_is_restarted_from_an_entry_that_it_has(room: Room, from_entry: int, code: int):
    one = begun(room)
    finish(room, one)
    if from_entry == 99:
        from_entry = room.inv(one).entry_count + 1
    assert code_of(restart(room, one, from_entry)[0]) == code


# -- state ----------------------------------------------------------------------------------------

ADA = add().object


def counted() -> Room:
    """A key whose state was written a moment ago, and is kept for a day."""
    room = Room(counter(state_retention_ms=DAY_MS))
    one = room.invoke(add())
    room.append(one, SetStateCommand(key="count", value=ref_of(b"1")), b"1")
    finish(room, one)
    return room


def test_state_that_nobody_writes_to_is_cleared_when_its_time_is_over():
    room = counted()
    room.now_ms += DAY_MS - 1
    assert room.decide(CleanUp()) == Cleaned(purged_count=0, is_done=True)
    room.now_ms += 1
    assert room.decide(CleanUp()) == Cleaned(purged_count=1, is_done=True)
    assert room.facts == [StateEdited(object=ADA, command=ClearAllStateCommand())]
    assert ADA not in room.state.objects


def test_a_write_gives_state_its_whole_time_again():
    room = counted()
    room.now_ms += DAY_MS - 1
    two = room.invoke(add())
    room.append(two, SetStateCommand(key="other", value=ref_of(b"2")), b"2")
    finish(room, two)
    room.now_ms += DAY_MS - 1
    room.decide(CleanUp())
    assert set(room.state.objects[ADA].state) == {"count", "other"}


def test_state_of_a_key_in_use_stays_for_as_long_as_it_is():
    room = counted()
    holder = room.invoke(add())
    room.now_ms += 2 * DAY_MS
    room.decide(CleanUp())
    assert set(room.state.objects[ADA].state) == {"count"}
    finish(room, holder)
    room.decide(CleanUp())
    assert ADA not in room.state.objects


def test_clearing_state_stops_before_it_stalls_everybody_as_well():
    room = counted()
    for key in ("bob", "cleo"):
        one = room.invoke(add(key))
        room.append(one, SetStateCommand(key="count", value=ref_of(b"1")), b"1")
        finish(room, one)
    room.now_ms += DAY_MS
    assert room.decide(CleanUp(purges_max=2)) == Cleaned(purged_count=2, is_done=False)
    assert room.decide(CleanUp(purges_max=2)) == Cleaned(purged_count=1, is_done=True)


def test_how_long_state_is_kept_is_an_option_so_changing_it_is_a_revision():
    room = counted()
    room.load(counter(state_retention_ms=2 * DAY_MS))
    assert room.state.services["Counter"].latest == 2
    room.now_ms += DAY_MS
    assert room.decide(CleanUp()) == Cleaned(purged_count=0, is_done=True)


@pytest.mark.parametrize(
    ("which", "code"), [("running", 409), ("workflow", 422), ("journal gone", 410), ("gone", 404)]
)
def test_what_cannot_be_restarted(room: Room, which: str, code: int):
    one = room.invoke(run_of() if which == "workflow" else GREET)
    if which != "running":
        finish(room, one)
    if which == "journal gone":
        room.decide(PurgeJournal(invocation_id=one))
    if which == "gone":
        room.now_ms += RETENTION_MS
        room.decide(CleanUp())
    answer, new = restart(room, one)
    assert code_of(answer) == code
    assert room.state.find(new) is None


# -- revisions and mismatches ---------------------------------------------------------------------


def test_resuming_on_another_revision():
    room = Room(greeter())
    one = room.invoke()
    room.steps(one, FailAttempt(error=error(heals_by_retry=False)))
    room.load(greeter(digest="v2"), pin=True)
    assert code_of(room.decide(ResumeInvocation(invocation_id=one, revision=7))) == 404
    room.decide(ResumeInvocation(invocation_id=one, revision="latest"))
    assert (room.status(one), room.inv(one).revision) == ("running", 2)
    room.steps(one, FailAttempt(error=error(heals_by_retry=False)))
    room.decide(ResumeInvocation(invocation_id=one, revision=1))
    assert (room.status(one), room.inv(one).revision) == ("running", 1)


def test_accepting_a_mismatch_lets_the_recorded_entry_stand(room: Room):
    one = room.invoke()
    mismatch = error(heals_by_retry=False, code=MISMATCH_CODE, command_index=3, can_accept=True)
    room.steps(one, FailAttempt(error=mismatch))
    assert room.decide(AcceptMismatch(invocation_id=one)) == Done()
    assert (room.status(one), room.inv(one).accepted) == ("running", (3,))


@pytest.mark.parametrize("which", ["not paused", "another failure", "another kind of entry"])
def test_what_cannot_be_accepted(room: Room, which: str):
    one = room.invoke()
    if which != "not paused":
        code = 500 if which == "another failure" else MISMATCH_CODE
        room.steps(one, FailAttempt(error=error(heals_by_retry=False, code=code, command_index=1)))
    assert code_of(room.decide(AcceptMismatch(invocation_id=one))) == 409
