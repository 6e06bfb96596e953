"""Which of the runs that wait may begin."""

from __future__ import annotations

from nbdurable.runs.request import RunRequest
from nbdurable.runs.turns import next_of


def run(sweep: str = "", max_parallel: int | None = None) -> RunRequest:
    return RunRequest(notebook="in.ipynb", sweep=sweep, max_parallel=max_parallel)


def test_they_begin_in_order_as_many_as_there_may_be():
    waiting = [(key, run()) for key in "abc"]
    assert next_of(waiting, [], 2) == ["a", "b"]
    assert next_of(waiting, [run()], 2) == ["a"]
    assert next_of(waiting, [run(), run()], 2) == []


def test_a_sweep_that_has_all_that_it_may_holds_up_no_other():
    waiting = [(key, run("s", 1)) for key in "abc"] + [("d", run())]
    assert next_of(waiting, [], 9) == ["a", "d"]
    assert next_of(waiting, [run("s", 1)], 9) == ["d"]


def test_a_sweep_that_says_nothing_has_as_many_as_there_may_be():
    waiting = [(key, run("s")) for key in "abc"]
    assert next_of(waiting, [], 9) == ["a", "b", "c"]
