"""README.md names tests and decisions; what it names is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).with_name("README.md")
TESTS = README.parent.parent
NODE = re.compile(r"`([\w/]+\.py)::(\w+)`")
DECISION = re.compile(r"\b(00\d\d)\b")
POINT = re.compile(r"\(0051, (P\d+)\)")
WRITTEN_POINT = re.compile(r"\n- \*\*(P\d+)\*\*")


def collected(files: set[str]) -> set[tuple[str, str]]:
    """What pytest finds in these files, by path and name, whatever the parameters."""
    listing = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files],
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
    )
    ids = [line.partition("[")[0].split("::") for line in listing.stdout.splitlines()]
    return {(node[0].removeprefix("tests/"), node[-1]) for node in ids if len(node) > 1}


@pytest.mark.slow
def test_every_test_that_is_named_exists():
    """A line that claims a test which was renamed away would claim nothing."""
    named = set(NODE.findall(README.read_text()))
    assert len(named) > 100
    files = {path for path, _ in named}
    assert {path for path in files if not (TESTS / path).exists()} == set()
    assert named - collected(files) == set()


def test_every_decision_that_is_named_exists():
    text = README.read_text().replace("RT00", "")
    decisions = (TESTS.parent / "DECISIONS.md").read_text()
    missing = {number for number in DECISION.findall(text) if f"\n## {number} " not in decisions}
    assert missing == set()


def test_every_point_of_a_decision_that_is_named_exists():
    """0051 has a point for each line that we hold otherwise; none is left unsaid or unused."""
    text, decisions = README.read_text(), (TESTS.parent / "DECISIONS.md").read_text()
    assert set(POINT.findall(text)) == set(WRITTEN_POINT.findall(decisions))
