"""What a run looks like, whoever draws it."""

from __future__ import annotations

from typing import Any

import pytest
from support.views import entry_of, view_of

from nbdurable.client.drawing import ROWS_MAX, picture_of
from nbdurable.client.picture import (
    TERMINAL,
    clock_time,
    duration,
    failure_of,
    status_of,
    tone_of,
    wakes_by,
    what_to_do,
    when,
)
from nbdurable.core.values import Answered


def test_a_picture_is_bounded_and_says_how_much_is_left_out():
    """A front end must not be sent a journal of a million entries."""
    picture = picture_of(view_of(), [entry_of(index) for index in range(500)], 0)
    assert len(picture["rows"]) == ROWS_MAX
    assert picture["earlier"] == 300
    assert picture["rows"][-1]["index"] == 499


def test_what_a_finished_run_no_longer_waits_for_is_not_shown_as_waiting():
    """After a select, the loser's timer would look as if something were still to come."""
    left = entry_of(
        1, kind="Sleep", status="waiting", ended_at_ms=None, value='{"wake_up_at_ms":9}'
    )
    done = view_of(status="completed", succeeded=True, completed_at_ms=5)
    assert picture_of(done, [left], 0)["rows"][0]["status"] == "not needed"
    assert picture_of(view_of(), [left], 0)["rows"][0]["due_at_ms"] == 9


def test_durations_have_two_units_at_most():
    """A person reads them, a machine has the milliseconds."""
    shown = [duration(ms) for ms in (12, 3_400, 125_000, 11_520_000)]
    assert shown == ["12 ms", "3.4 s", "2 min 5 s", "3 h 12 min"]


def test_each_surface_names_its_own_verbs():
    """What is shown can be typed where it is shown."""
    waiting = view_of(open_promises=("approved",))
    assert what_to_do(waiting) == "%durable approve Payment/order-456"
    assert what_to_do(waiting, TERMINAL) == "nbdurable approve Payment/order-456"
    assert "cell" not in what_to_do(view_of(status="paused"), TERMINAL)


def test_what_is_suspended_wants_an_answer_before_its_code():
    """A notebook run that waits has no process; asking for its code would be no help."""
    away = {"is_code_loaded": False, "how_to_load": "run its command again"}
    waiting = view_of(open_promises=("publish",), status="suspended", **away)
    assert status_of(waiting) == "waits for 'publish'"
    assert what_to_do(waiting, TERMINAL) == "nbdurable approve Payment/order-456"
    answered = view_of(status="ready", **away)
    assert status_of(answered) == "its code is not loaded"
    assert what_to_do(answered) == "run its command again"


def test_who_waits_for_an_answer_says_so_and_who_is_stuck_says_that_first():
    """An approval of a service is an awakeable; and an answer does not heal a mismatch."""
    asking = view_of(open_awakeables=("sign_1x",), status="suspended")
    assert status_of(asking) == "waits for an answer"
    assert what_to_do(asking) == "%durable approve Payment/order-456"
    paused = view_of(open_promises=("approved",), status="paused", mismatch="acceptable")
    assert (status_of(paused), tone_of(paused)) == ("paused", "bad")
    assert "%durable accept Payment/order-456" in what_to_do(paused)
    assert "nbdurable resume --accept Payment/order-456" in what_to_do(paused, TERMINAL)


def test_what_is_typed_into_a_shell_is_quoted_for_it():
    """Names of a sweep's runs have parentheses, which are syntax there."""
    waiting = view_of(status="suspended", key="fit(rate=1)", open_promises=("ok",))
    assert what_to_do(waiting, TERMINAL) == "nbdurable approve 'Payment/fit(rate=1)'"
    assert what_to_do(waiting) == "%durable approve Payment/fit(rate=1)"


def test_how_a_run_was_ended_is_no_failure_of_its_own():
    for by in ("killed", "cancelled"):
        ended = view_of(status="completed", succeeded=False, completed_by=by, completed_at_ms=5)
        assert status_of(ended) == by


def test_a_map_is_one_line_with_what_still_matters_below():
    """Ten thousand items would hide all else; what failed or goes on is what a person looks for."""
    entries = [
        entry_of(0, name="map fetch over 4"),
        entry_of(1, name="fetch[a]"),
        entry_of(2, kind="Sleep", name="rate of fetch", value='{"wake_up_at_ms":9}'),
        entry_of(3, name="fetch[b]", status="failed", failure="gone"),
        entry_of(4, name="fetch[c]", status="running", ended_at_ms=None),
        entry_of(5, name="prefetch"),
        # In the cells of a notebook run they are entries of another kind.
        entry_of(6, name="rate of fetch"),
        entry_of(7, name="retry after, said to fetch"),
    ]
    rows = picture_of(view_of(), entries, 0)["rows"]
    assert [(row["name"], row["status"]) for row in rows] == [
        ("map fetch: 1 of 4", "running"),
        ("fetch[b]", "failed"),
        ("fetch[c]", "running"),
        ("prefetch", "done"),
    ]
    over = picture_of(view_of(status="completed", succeeded=False), entries, 0)["rows"]
    assert (over[0]["name"], over[0]["status"]) == ("map fetch: 1 of 4", "done")


def test_a_step_that_was_tried_again_says_how_often():
    row = picture_of(view_of(), [entry_of(1, ended_at_ms=2_100, failure_count=2)], 0)["rows"][0]
    assert when(row) == "2.1 s, 3 tries"


def test_who_has_answered_is_said_beside_the_answer():
    ada = Answered(by="ada (notebook)", comment="it is cheap")
    entry = entry_of(1, kind="GetPromise", name="approved", answered=ada)
    row = picture_of(view_of(), [entry], 0)["rows"][0]
    assert row["by"] == f"by ada (notebook) at {clock_time(12)}: “it is cheap”"
    assert picture_of(view_of(), [entry_of(1)], 0)["rows"][0]["by"] == ""


@pytest.mark.parametrize(
    ("waiting", "wakes"),
    [
        ({"status": "suspended", "open_promises": ("approved",)}, "promise 'approved'"),
        ({"status": "suspended", "open_awakeables": ("sign_1abc",)}, "awakeable"),
        ({"status": "suspended", "open_signals": ("go",)}, "signal 'go'"),
        (
            {"status": "suspended", "open_calls": ("Bank/pay", "Shop/pack"), "open_call_count": 9},
            "call to Bank/pay, call to Shop/pack, 7 calls more",
        ),
        ({"status": "suspended", "wakes_at_ms": 0}, f"timer at {clock_time(0, seconds=True)}"),
        ({"status": "scheduled", "wakes_at_ms": 0}, f"timer at {clock_time(0, seconds=True)}"),
        (
            {"status": "backing-off", "next_retry_at_ms": 0, "open_promises": ("approved",)},
            f"retry at {clock_time(0, seconds=True)}",
        ),
        ({"status": "pending", "service": "Counter", "key": "k"}, "the lock of Counter/k"),
        ({"status": "running"}, ""),
        ({"status": "paused", "open_promises": ("approved",)}, ""),
        ({"status": "completed", "succeeded": True}, ""),
    ],
)
def test_what_wakes_a_run_is_said(waiting: dict[str, Any], wakes: str):
    assert wakes_by(view_of(**waiting)) == wakes


def test_what_a_person_has_paused_is_not_ill():
    """Not even when it had failed before: nothing has to be corrected."""
    held = view_of(status="paused", paused_by="user", failure="boom", open_promises=("approved",))
    assert (status_of(held), tone_of(held), failure_of(held)) == ("paused by hand", "waits", "")
    assert what_to_do(held) == "%durable resume Payment/order-456"
    failed = view_of(status="paused", paused_by="retries", failure="boom")
    assert (status_of(failed), tone_of(failed), failure_of(failed)) == ("paused", "bad", "boom")


def test_a_workflow_is_not_started_again_and_the_rest_is():
    done = {"status": "completed", "succeeded": True, "completed_at_ms": 1}
    assert picture_of(view_of(**done), [], 0)["deeds"] == []
    assert picture_of(view_of(**done, is_run=False), [], 0)["deeds"] == ["restart"]


def test_an_item_that_was_told_to_wait_and_did_it_later_has_not_failed():
    """After a hundred answers 429 the journal of a good run would be red from top to bottom."""
    entries = [
        entry_of(0, name="map fetch over 2"),
        entry_of(1, name="fetch[a]", status="failed", failure="[429] told to try again"),
        entry_of(2, kind="Sleep", name="retry after, said to fetch", status="waiting"),
    ]
    told = picture_of(view_of(), entries, 0)["rows"]
    assert [row["name"] for row in told][1:] == ["fetch[a]", "retry after, said to fetch"]
    entries[2] = entry_of(2, kind="Sleep", name="retry after, said to fetch")
    entries += [entry_of(3, name="fetch[a]"), entry_of(4, name="fetch[b]")]
    done = picture_of(view_of(), entries, 0)["rows"]
    assert [row["name"] for row in done] == ["map fetch: 2 of 2"]


def test_calls_of_a_map_are_folded_like_its_steps():
    """A sweep of a thousand trials is one line; a later call of the same handler is none of it."""
    entries = [
        entry_of(0, name="map fit over 2"),
        entry_of(1, kind="Call", name="Trial/a/b/fit"),
        entry_of(2, kind="Call", name="Trial/c/fit", status="running", ended_at_ms=None),
        entry_of(3, kind="Call", name="Trial/d/fit"),
    ]
    rows = picture_of(view_of(), entries, 0)["rows"]
    assert [row["name"] for row in rows] == ["map fit: 1 of 2", "Trial/c/fit", "Trial/d/fit"]
