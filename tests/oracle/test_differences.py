"""Where the embedded engine and the official SDK differ, and are meant to: all of it, by hand.

The generated comparisons leave these out. Each test shows both sides, so that it fails when either
changes its mind.
"""

from __future__ import annotations

from typing import Any

from oracle.journals import Asked, Came, Entry, Failed, Label, comparable, settle
from oracle.programs import Op, Program
from oracle.test_mismatches import MISMATCH, verdicts
from oracle.world import Pair, sides

CALL = Op(0, "call")
SLEEP = Op(0, "sleep")


async def told(program: Program, *answers: tuple[Label, bytes | Failed]) -> Pair:
    """Both journals after these answers, each of which begins another attempt."""
    journals = Pair([], [])
    for side, journal in zip(sides(program), journals, strict=True):
        for answer in answers:
            journal.extend((await settle(side, journal)).entries)
            journal.append(side.came(journal, *answer))
        journal.extend((await settle(side, journal)).entries)
    return journals


async def lived(pair: Pair, *answers: tuple[Label, bytes | Failed]) -> Pair:
    """Both journals of one attempt that was alive when the answers came."""
    journals = []
    for side in pair:
        life = side.live()
        await life.idle()
        for answer in answers:
            life.tell(*answer)
            await life.idle()
        await life.close()
        journals.append(life.journal)
    return Pair(*journals)


def output(journal: list[Entry]) -> Any:
    (said,) = [entry.seen for entry in journal if getattr(entry.seen, "kind", None) == "Output"]
    return said.value


def cancellations(journal: list[Entry]) -> list[Label | None]:
    return [e.seen.whom for e in journal if isinstance(e.seen, Asked) and e.seen.signal == 1]


async def test_creating_an_awakeable_is_a_command_here():
    """DECISIONS 0012: an open awakeable is a row one can see; over there it leaves no trace."""
    journals = await told((Op(0, "awakeable"),))
    kinds = [[e.seen.kind for e in journal if isinstance(e.seen, Asked)] for journal in journals]
    assert kinds == [["Awakeable", "Output"], ["Output"]]


async def test_waiting_for_a_signal_is_a_command_here():
    """DECISIONS 0035: so that a wait can be seen, and its place among the waits be compared."""
    journals = await told((Op(0, "signal"),))
    kinds = [[e.seen.kind for e in journal if isinstance(e.seen, Asked)] for journal in journals]
    assert kinds == [["Signal", "Output"], ["Output"]]


async def test_values_of_a_name_belong_to_its_waits_in_the_order_they_were_made_here():
    """DECISIONS 0035; over there to whichever is awaited first, whatever was meant."""
    program = (Op(0, "signal"), Op(1, "signal"), Op(2, "await", (1,)), Op(3, "await", (0,)))
    ours, theirs = await told(program, ("signal a 0", b'"one"'), ("signal a 1", b'"two"'))
    assert output(ours) == [[2, "two"], [3, "one"]]
    assert output(theirs) == [[2, "one"], [3, "two"]]


async def test_an_awakeable_more_or_less_is_a_mismatch_here():
    """It follows from being a command: replay notices it, where the official SDK cannot."""
    recorded = [journal[:1] for journal in await told((SLEEP,))]
    ours, theirs = await verdicts((Op(1, "awakeable"), SLEEP), Pair(*recorded))
    assert ours == MISMATCH
    assert theirs != MISMATCH


async def test_the_id_of_a_callee_is_a_notification_there():
    """DECISIONS 0011: it is a row less here, and takes no completion id."""
    ours, theirs = await told((CALL,))
    assert ours[0].native[0].completion_id == 1
    assert theirs[0].native[1]["invocation_id_completion_id"] == 1
    assert theirs[0].native[1]["completion_id"] == 2


async def test_a_callee_that_has_answered_is_not_cancelled_here():
    """Over there it is sent a signal that nobody hears, which is an entry and changes nothing."""
    program = (CALL, Op(1, "sleep"), Op(2, "await", (1,)))
    ours, theirs = await told(program, (0, b"5"), ("cancel", b""))
    assert cancellations(ours) == []
    assert cancellations(theirs) == ["callee 0"]


async def test_every_cancellation_reaches_the_open_callees_here():
    """Over there only the first one does, so that a callee that went on cannot be asked again."""
    program = (CALL, Op(1, "gather", (0,)), Op(2, "gather", (0,)))
    ours, theirs = await told(program, ("cancel", b""), ("cancel", b""))
    assert cancellations(ours) == ["callee 0", "callee 0"]
    assert cancellations(theirs) == ["callee 0"]


async def test_a_future_whose_wait_was_cancelled_can_be_awaited_again_here():
    """Over there that future is lost to the cancellation, if it was awaited by itself.

    In a `gather` or `select` the wait is cancelled, not the future, on both sides.
    """
    program = (SLEEP, Op(1, "await again", (0,)))
    ours, theirs = await told(program, ("cancel", b""), (0, b""))
    assert output(ours) == [[1, None]]
    assert output(theirs) == [[1, 409, "cancelled"]]


async def test_a_cancelled_step_is_stopped_and_leaves_a_record_here():
    """DECISIONS 0026 and design 6.5: over there its result is lost, and a next attempt runs it."""
    pair = sides((Op(0, "run that hangs"), Op(1, "await", (0,))))
    ours, theirs = await lived(pair, ("cancel", b""))
    abandoned = Came(label=0, result=Failed(409, "abandoned: it was cancelled"))
    assert abandoned in [entry.seen for entry in ours]
    assert [entry.seen for entry in theirs if isinstance(entry.seen, Came)] == [
        Came(label="cancel", result=b"")
    ]


async def test_a_step_is_retried_within_its_attempt_here():
    """DECISIONS 0013: over there the attempt fails, and the next one replays the whole handler."""
    pair = sides((Op(0, "run that retries"), Op(1, "await", (0,))))
    ours, theirs = pair.ours.live(), pair.theirs.live()
    for life in (ours, theirs):
        await life.idle()
        await life.close()
    assert ours.host.tried_again == [1]
    assert ours.ending is None
    assert theirs.ending is not None
    assert theirs.ending.failure == Failed(500, "ValueError('no')")


async def test_state_keys_leave_out_what_was_cleared_here():
    """Over there a cleared key is still listed in the attempt that cleared it, an error there.

    Source: restate-http-observed.md, "SDK quirks".
    """
    journals = await told((Op(0, "clear"), Op(1, "get", name="z"), Op(2, "state_keys")))
    assert [output(journal)[-1] for journal in journals] == [[2, ["z"]], [2, ["a", "z"]]]


async def test_json_is_written_without_a_choice_here():
    """DECISIONS 0005: replay compares bytes, so equal values must give equal bytes."""
    ours, theirs = await told((Op(0, "set", value={"b": 1, "a": [2]}),))
    assert ours[0].native[1] == b'{"a":[2],"b":1}'
    assert theirs[0].native[1]["value"]["content"] == b'{"b": 1, "a": [2]}'


async def test_the_label_of_a_state_entry_may_change_here():
    """It names a row for people and changes nothing that the program reads or writes."""
    was, now = Op(0, "get", value="labelled"), Op(0, "get", value=None)
    recorded = [journal[:1] for journal in await told((was,))]
    ours, theirs = await verdicts((now,), Pair(*recorded))
    assert ours != MISMATCH
    assert theirs == MISMATCH
    assert comparable(recorded[0]) == comparable(recorded[1])
    assert not isinstance(recorded[0][0].seen, Came)
