"""`sql` and `export`: what the journal knows, at a terminal and as files."""

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


def test_no_column_is_lost_to_another_of_its_name(reached: Path) -> None:
    rows = json.loads(nbdurable("sql", "select 1 as a, 2 as a", "--json").stdout)
    assert rows == [{"a": 1, "a_1": 2}]


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


def test_a_journal_is_written_as_parquet(reached: Path) -> None:
    exported = nbdurable("export", "out", "--json")
    assert exported.exit_code == 0
    told = json.loads(exported.stdout)
    assert told["row_counts"]["sys_invocation"] == 7
    assert sorted(path.stem for path in (reached / "out").iterdir()) == sorted(told["row_counts"])
    again = nbdurable("export", "out")
    assert again.exit_code == 1
    assert "is there already" in again.stderr


def test_one_run_is_written_without_payloads_for_a_bug_report(reached: Path) -> None:
    """What somebody may send to a stranger."""
    exported = nbdurable("export", "report", "--run", "order-1", "--no-payloads", "--json")
    assert json.loads(exported.stdout)["row_counts"]["sys_invocation"] == 1
    written = b"".join(path.read_bytes() for path in (reached / "report").iterdir())
    assert b"order-1" in written
    assert b"hold-1" not in written
    assert nbdurable("export", "other", "--run", "nobody").exit_code == 4
