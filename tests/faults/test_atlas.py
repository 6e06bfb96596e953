"""FAULTS.md claims nothing that no test tries."""

from __future__ import annotations

import re

import pytest
from support.named import TESTS, missing_from, named_in

ATLAS = TESTS.parent / "FAULTS.md"
ROW = re.compile(r"^\| (?!Fault|-)(.*) \|$", re.MULTILINE)

# The faults that must be in it, by a word or two of their rows.
FAULTS = [
    "each await",
    "each commit",
    "inside an absorb",
    "log that is torn",
    "flipped bit in a log",
    "flipped bit in a data block",
    "log is missing",
    "stale log",
    "full in a commit, in an absorb",
    "Read-only disk",
    "clock is set back",
    "clock is set forward",
    "Fork in the kernel",
    "opens and closes a file",
    "deleted under a living owner",
    "replaced under a living owner",
    "network file system",
    "flood of requests over HTTP",
    "over a widget's comm",
    "Out-of-memory kill",
    "is cut",
    "is slow",
    "large payload is missing",
]


@pytest.mark.slow
def test_every_test_that_is_named_exists():
    assert missing_from(ATLAS.read_text()) == set()


def test_every_row_says_what_survives_which_test_tries_it_and_what_is_seen():
    rows = ROW.findall(ATLAS.read_text())
    assert len(rows) >= len(FAULTS)
    for row in rows:
        fault, survives, tried, seen = row.split(" | ")
        assert all((fault, survives, seen)), row
        assert named_in(tried), f"no test tries: {fault}"


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_a_row(fault: str):
    rows = [row.split(" | ")[0] for row in ROW.findall(ATLAS.read_text())]
    assert [row for row in rows if fault in row] != []
