"""Runs as static HTML and as text."""

from __future__ import annotations

from support.views import entry_of, view_of

from nbdurable.client.drawing import picture_of
from nbdurable.notebook.widgets.views_html import InvocationTable, picture_html, picture_text


def test_what_is_left_out_is_counted():
    picture = picture_of(view_of(), [entry_of(index) for index in range(500)], 0)
    assert "… 300 earlier entries" in picture_html(picture)
    assert "… 300 earlier entries" in picture_text(picture)


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
