from nbdurable.client.views import EntryView, InvocationView
from nbdurable.core.ids import InvocationId
from nbdurable.notebook.widgets.picture import ROWS_MAX, duration, picture_of
from nbdurable.notebook.widgets.views_html import InvocationTable, picture_html, picture_text


def view_of(**changes):
    defaults = {
        "id": InvocationId("inv_1abcdefghijklmnop"),
        "service": "Payment",
        "handler": "run",
        "key": "order-456",
        "is_run": True,
        "status": "running",
        "attempt": 1,
        "revision": 1,
        "entry_count": 1,
        "created_at_ms": 0,
        "modified_at_ms": 0,
    }
    return InvocationView(**{**defaults, **changes})


def entry_of(index, **changes):
    defaults = {
        "index": index,
        "kind": "Run",
        "name": "reserve",
        "status": "done",
        "started_at_ms": 0,
        "ended_at_ms": 12,
    }
    return EntryView(**{**defaults, **changes})


def test_a_picture_is_bounded_and_says_how_much_is_left_out():
    """A front end must not be sent a journal of a million entries."""
    picture = picture_of(view_of(), [entry_of(index) for index in range(500)], 0)
    assert len(picture["rows"]) == ROWS_MAX
    assert picture["earlier"] == 300
    assert picture["rows"][-1]["index"] == 499
    assert "… 300 earlier entries" in picture_html(picture)
    assert "… 300 earlier entries" in picture_text(picture)


def test_what_a_finished_run_no_longer_waits_for_is_not_shown_as_waiting():
    """After a select, the loser's timer would look as if something were still to come."""
    left = entry_of(
        1, kind="Sleep", status="waiting", ended_at_ms=None, value='{"wake_up_at_ms":9}'
    )
    done = view_of(status="completed", succeeded=True, completed_at_ms=5)
    assert picture_of(done, [left], 0)["rows"][0]["status"] == "not needed"
    assert picture_of(view_of(), [left], 0)["rows"][0]["due_at_ms"] == 9


def test_values_are_escaped_in_html():
    """A value is data, whoever made it."""
    entry = entry_of(1, name="<i>", value='"<script>alert(1)</script>"', failure="<b>")
    html = picture_html(picture_of(view_of(key="<u>"), [entry], 0))
    for tag in ("<script", "<i>", "<b>", "<u>"):
        assert tag not in html


def test_a_table_of_runs_says_what_to_do_next():
    """`ls` is read by somebody who wants to know what is expected of them."""
    waiting = view_of(open_promises=("approved",))
    lost = view_of(is_code_loaded=False, how_to_load="re-run the cell that defines Payment")
    table = InvocationTable((waiting, lost), hidden=3)
    for shown in (repr(table), table._repr_html_()):
        assert "%durable approve Payment/order-456" in shown
        assert "run the cell that defines Payment" in shown
        assert "3 older" in shown
    assert repr(InvocationTable(())) == "no runs yet"


def test_durations_have_two_units_at_most():
    """A person reads them, a machine has the milliseconds."""
    shown = [duration(ms) for ms in (12, 3_400, 125_000, 11_520_000)]
    assert shown == ["12 ms", "3.4 s", "2 min 5 s", "3 h 12 min"]
