"""`sql`: one SELECT of the journal, from a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command import nbdurable

TARGETS = "select target, status from sys_invocation order by created_at"


def test_a_select_is_answered_as_a_table_or_as_json(reached: Path) -> None:
    shown = nbdurable("sql", TARGETS)
    assert shown.exit_code == 0
    heading, first, *_ = shown.stdout.splitlines()
    assert (heading.split(), first.split()) == (
        ["target", "status"],
        ["Greeter/greet", "completed"],
    )
    rows = json.loads(nbdurable("sql", TARGETS, "--json").stdout)
    assert rows[-1] == {"target": "Greeter/ask", "status": "ready"}


def test_it_may_come_from_a_file_or_from_standard_input(reached: Path) -> None:
    (reached / "q.sql").write_text(TARGETS)
    assert nbdurable("sql", "@q.sql").stdout == nbdurable("sql", "-", typed=TARGETS).stdout


def test_what_is_cut_is_said(reached: Path) -> None:
    cut = nbdurable("sql", TARGETS, "--rows", "2")
    assert len(cut.stdout.splitlines()) == 3
    assert "cut by --rows 2" in cut.stderr


@pytest.mark.parametrize(
    ("query", "taught"),
    [("delete from state", "DELETE is refused"), ("select 1 from nope", "there are: ")],
)
def test_what_is_refused_is_a_sentence(reached: Path, query: str, taught: str) -> None:
    refused = nbdurable("sql", query)
    assert refused.exit_code == 2
    assert taught in refused.stderr
