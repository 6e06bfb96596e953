"""The runs of a sweep and of a backfill: which there are, and what they are called."""

from __future__ import annotations

from datetime import date

import pytest

from nbdurable.errors import DefinitionError
from nbdurable.runs.sweeps import of_days, of_values


def test_every_combination_has_a_name_that_says_what_it_is():
    assert of_values("fit", {"rate": [0.1, 0.01], "kind": ["a", "b"]}) == {
        "fit(rate=0.1,kind=a)": {"rate": 0.1, "kind": "a"},
        "fit(rate=0.1,kind=b)": {"rate": 0.1, "kind": "b"},
        "fit(rate=0.01,kind=a)": {"rate": 0.01, "kind": "a"},
        "fit(rate=0.01,kind=b)": {"rate": 0.01, "kind": "b"},
    }


def test_a_backfill_is_of_whole_days_the_last_of_them_yesterday():
    assert of_days("report", "day", 3, date(2026, 3, 2)) == {
        "report@2026-02-27": {"day": "2026-02-27"},
        "report@2026-02-28": {"day": "2026-02-28"},
        "report@2026-03-01": {"day": "2026-03-01"},
    }


@pytest.mark.parametrize("grid", [{}, {"rate": []}, {"a": range(101), "b": range(100)}])
def test_what_nobody_means_is_refused(grid):
    with pytest.raises(DefinitionError):
        of_values("fit", grid)
    with pytest.raises(DefinitionError):
        of_days("fit", "day", 0, date(2026, 3, 2))
