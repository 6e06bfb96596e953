"""What a person has to know who comes back: what waits, what is ill, what has failed meanwhile."""

from pathlib import Path

from support.views import view_of

from nbdurable.notebook.greeting import FAILED_MS_MAX, greeting

NOW_MS = 10 * FAILED_MS_MAX
DONE = {"status": "completed", "succeeded": False, "completed_at_ms": NOW_MS - 1, "is_run": True}


def said(*views):
    return list(greeting(Path("project/.nbdurable"), views, NOW_MS))


def test_what_has_failed_lately_has_a_line_below_what_is_not_over():
    first, *lines = said(
        view_of(key="a", open_promises=("approved",)),
        view_of(key="b", failure="boom\nand more", **DONE),
        view_of(key="c", **(DONE | {"succeeded": True})),
    )
    assert (
        first
        == "nbdurable: 3 runs in project/.nbdurable, 1 not finished, 1 failed in the last day:"
    )
    waits, failed = lines
    assert waits == "  Payment/a waits for 'approved' – %durable approve Payment/a"
    assert failed.startswith("  Payment/b failed at ")
    assert failed.endswith(": boom – %durable show Payment/b")


def test_what_people_have_ended_and_what_is_long_ago_is_no_news():
    old = NOW_MS - FAILED_MS_MAX
    assert said(
        view_of(key="a", completed_by="killed", **DONE),
        view_of(key="b", completed_by="cancelled", **DONE),
        view_of(key="c", **(DONE | {"completed_at_ms": old})),
    ) == ["nbdurable: 3 runs in project/.nbdurable, all finished; %durable ls"]


def test_what_a_person_has_paused_waits_for_that_person():
    (_, line) = said(view_of(status="paused", paused_by="user", open_promises=("approved",)))
    assert line == "  Payment/order-456 is paused by hand – %durable resume Payment/order-456"


def test_a_run_that_has_no_process_yet_is_not_said_to_run():
    (_, line) = said(view_of(status="ready", is_code_loaded=False, how_to_load="wait"))
    assert line == "  Payment/order-456 is about to run – its code is not loaded: wait"
