"""SECURITY.md claims nothing that no test tries."""

from __future__ import annotations

import re

import pytest
from support.named import TESTS, missing_from, named_in

SECURITY = TESTS.parent / "SECURITY.md"
ROW = re.compile(r"^\| (?!Door|-)(.*) \|$", re.MULTILINE)

# The doors that must be in it, by a word or two of their rows.
DOORS = [
    "ingress and admin",
    "what is sent",
    "what is answered",
    "joined process",
    "Values of handlers",
    "SQL",
    "journal's files",
    "token's file",
    "Checkpoints",
    "kernel's comm",
    "Jupyter server",
    "shown in a notebook",
    "forked",
]


@pytest.mark.slow
def test_every_test_that_stands_at_a_door_exists():
    assert missing_from(SECURITY.read_text()) == set()


def test_every_door_says_who_may_come_in_and_which_test_stands_at_it():
    for row in ROW.findall(SECURITY.read_text()):
        door, who, never, tried = row.split(" | ")
        assert all((door, who, never)), row
        assert named_in(tried), f"no test stands at: {door}"


@pytest.mark.parametrize("door", DOORS)
def test_every_door_has_a_row(door: str):
    rows = [row.split(" | ")[0] for row in ROW.findall(SECURITY.read_text())]
    assert [row for row in rows if door in row] != []
