"""When runs were there, as a saved notebook shows it and as a terminal does."""

from __future__ import annotations

from support.notebook_runs import run

from nbdurable.notebook.widgets.gantt import Gantt
from nbdurable.notebook.widgets.views_html import COLOURS
from nbdurable.runs.overview import Run, bars_of


def drawn(*runs: Run, **starts_ms: int) -> Gantt:
    return Gantt(tuple(bars_of(runs, 4000, starts_ms)), 4000)


def test_while_it_was_queued_a_bar_is_thin_and_grey():
    gantt = drawn(run("a", 0, 4000), inv_a=1000)
    assert repr(gantt) == "a  " + "─" * 10 + "━" * 30 + "  ✓ succeeded, 4.0 s"
    assert f"{COLOURS['quiet']} 25.00%, {COLOURS['ok']} 25.00%" in gantt._repr_html_()


def test_each_run_has_a_bar_where_it_was():
    first, second = repr(drawn(run("a", 0, 2000), run("long", 2000, None))).splitlines()
    assert first == "a     " + "━" * 20 + " " * 20 + "  ✓ succeeded, 2.0 s"
    assert second == "long  " + " " * 20 + "━" * 20 + "  ● running, 2.0 s"


def test_a_saved_notebook_shows_the_same_and_no_key_is_markup():
    html = drawn(run("<b>", 0, 1000), run("c", 1000, None))._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert "margin-left: 0.00%; width: 25.00%" in html
    assert "margin-left: 25.00%; width: 75.00%" in html


def test_one_that_was_over_at_once_is_seen_all_the_same():
    html = drawn(run("a", 0, 4000), run("b", 4000, 4000))._repr_html_()
    assert "margin-left: 99.50%; width: 0.50%" in html


def test_without_runs_it_says_so(shell):
    assert repr(drawn()) == "no notebook runs yet"
    shell.run("from nbdurable import durable")
    assert "no notebook runs yet" in shell.run("durable.gantt()")._repr_html_()
