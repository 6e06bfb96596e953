"""README.md names tests and decisions; what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.named import TESTS, missing_from, named_in

README = Path(__file__).with_name("README.md")
DECISION = re.compile(r"\b(00\d\d)\b")
POINT = re.compile(r"\(0051, (P\d+)\)")
WRITTEN_POINT = re.compile(r"\n- \*\*(P\d+)\*\*")


@pytest.mark.slow
def test_every_test_that_is_named_exists():
    """A line that claims a test which was renamed away would claim nothing."""
    text = README.read_text()
    assert len(named_in(text)) > 100
    assert missing_from(text) == set()


def test_every_decision_that_is_named_exists():
    text = README.read_text().replace("RT00", "")
    decisions = (TESTS.parent / "DECISIONS.md").read_text()
    missing = {number for number in DECISION.findall(text) if f"\n## {number} " not in decisions}
    assert missing == set()


def test_every_point_of_a_decision_that_is_named_exists():
    """0051 has a point for each line that we hold otherwise; none is left unsaid or unused."""
    text, decisions = README.read_text(), (TESTS.parent / "DECISIONS.md").read_text()
    assert set(POINT.findall(text)) == set(WRITTEN_POINT.findall(decisions))
