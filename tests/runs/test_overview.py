"""Many runs as one table and as one picture."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from support.notebook_runs import run

from nbdurable.runs.overview import bars_of, drawn, frame_of, results_of


def output(*results: dict[str, Any]) -> str:
    shown = [{"output_type": "execute_result", "data": data} for data in results]
    cells = [
        {"metadata": {}, "source": "# Fit"},
        {"metadata": {"tags": ["results"]}, "outputs": [{"output_type": "stream"}, *shown]},
    ]
    return json.dumps({"cells": cells})


def test_parameters_and_results_are_columns(tmp_path):
    (tmp_path / "a.ipynb").write_text(output({"text/plain": ["{'score': 0.5,\n", " 'n': 3}"]}))
    found = frame_of(
        [run("a", 0, 1500, rate=0.1), run("b", 500, None, rate=0.2)],
        tmp_path,
        2500,
    )
    assert list(found.index) == ["a", "b"]
    assert list(found.status) == ["succeeded", "running"]
    assert list(found.rate) == [0.1, 0.2]
    assert found.loc["a", ["score", "n"]].tolist() == [0.5, 3]
    assert [took.total_seconds() for took in found.took] == [1.5, 2.0]
    assert frame_of([], tmp_path, 0).empty


def test_a_parameter_hides_nothing_that_is_known_of_every_run(tmp_path):
    """Whose notebook has a parameter `output` wants to know how its runs stand all the same."""
    (tmp_path / "a.ipynb").write_text(output({"text/plain": "{'took': 3, 'rate': 0.1}"}))
    found = frame_of([run("a", 0, 1500, rate=0.1, output="x", key="y")], tmp_path, 2500)
    assert list(found.index) == ["a"]
    row = found.loc["a"]
    assert (row["output"], row["parameter output"], row["parameter key"]) == ("a.ipynb", "x", "y")
    assert (row["took"].total_seconds(), row["result took"], row["rate"]) == (1.5, 3, 0.1)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"application/json": {"score": 1}, "text/plain": "<JSON>"}, {"score": 1}),
        ({"text/plain": "3"}, {"results": 3}),
        ({"text/plain": "{'score': np.float64(1.0)}"}, {"score": 1.0}),
        ({"text/plain": "{'model': <Forest>}"}, {"results": "{'model': <Forest>}"}),
    ],
)
def test_what_is_no_dict_of_literals_is_kept_as_it_is(tmp_path, data, expected):
    (tmp_path / "a.ipynb").write_text(output(data))
    assert results_of(tmp_path / "a.ipynb") == expected


def test_an_output_that_is_not_there_or_not_whole_has_no_results(tmp_path):
    assert results_of(tmp_path / "nowhere.ipynb") == {}
    (tmp_path / "a.ipynb").write_text("{")
    assert results_of(tmp_path / "a.ipynb") == {}


def test_bars_lie_between_the_first_beginning_and_the_last_end():
    bars = bars_of([run("a", 0, 50), run("b", 50, None)], 100, {})
    assert [(bar.begins, bar.ends) for bar in bars] == [(0, 0.5), (0.5, 1)]
    assert bars_of([], 100, {}) == []


def test_a_bar_says_until_when_its_run_was_queued():
    """What waits for its turn does not work; where nobody knows, it is not said."""
    runs = [run("a", 0, 50), run("b", 0, 100)]
    bars = bars_of(runs, 100, {"inv_b": 50})
    assert [bar.starts for bar in bars] == [0, 0.5]
    assert [drawn(bar, 10) for bar in bars] == [("", "", "━" * 5), ("", "─" * 5, "━" * 5)]


def test_a_run_that_is_queued_still_has_no_stroke_of_one_that_ran():
    one = run("a", 0, None)
    queued = replace(one, view=replace(one.view, status="ready"))
    (bar,) = bars_of([queued], 100, {})
    assert drawn(bar, 10) == ("", "─" * 10, "")
