"""`nbdurable runs`, `sweep` and `backfill`: many runs, looked at and gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.command import Up, nbdurable
from support.notebooks import mark, marks, write

PARAMETERS = ("day = 'none'\nrate = 0.0", "parameters")


def said(*words: str) -> Any:
    found = nbdurable(*words, "--json")
    assert found.exit_code == 0, found.stderr
    return json.loads(found.stdout)


@pytest.fixture
def up(folder: Path, start_up: Callable[..., Up]) -> Up:
    return start_up()


def test_a_sweep_runs_every_combination_and_is_listed_and_drawn(folder, up):
    mapped = "from nbdurable import durable\nawait durable.map([1, 2], abs)"
    write(folder, PARAMETERS, mark("ran"), mapped, ("{'twice': 2 * rate}", "results"))
    values = ("-v", "rate", "0.5,1.2", "--max-parallel", "1")
    assert said("sweep", "report.ipynb", *values, "--wait") == {
        "report(rate=0.5)": "succeeded",
        "report(rate=1.2)": "succeeded",
    }
    assert said("sweep", "report.ipynb", *values) == ["report(rate=0.5)", "report(rate=1.2)"]
    assert marks(folder) == ["ran", "ran"], "what was sent before is not sent again"
    listed = said("runs", "ls", "--sweep", "report")
    assert [run["parameters"]["rate"] for run in listed] == [1.2, 0.5], "the newest first"
    table = nbdurable("runs", "ls").stdout
    assert "report-runs/report(rate=1.2).ipynb" in table
    shown = nbdurable("runs", "show", "report(rate=0.5)").stdout
    assert "map abs: 2 of 2" in shown
    assert "abs[1]" not in shown
    drawn = nbdurable("runs", "gantt").stdout.splitlines()
    assert len(drawn) == 3
    assert all("━" in line for line in drawn[1:])


def test_a_backfill_gives_each_day_its_run(folder, up):
    write(folder, PARAMETERS, "open('side', 'a').write(day + ' ')")
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    runs = said("backfill", "report.ipynb", "--days", "2", "--max-parallel", "1", "--wait")
    days = [str(yesterday - timedelta(days=1)), str(yesterday)]
    assert list(runs) == [f"report@{day}" for day in days]
    assert marks(folder) == days
    again = ("backfill", "report.ipynb", "--days", "2")
    assert nbdurable(*again).stderr == ""
    otherwise = nbdurable(*again, "-p", "rate", "2")
    assert "2 of them were sent before with other parameters" in otherwise.stderr


def test_one_that_failed_is_said_retried_and_shown(folder, up):
    write(folder, PARAMETERS, mark("a"), "1 / 0")
    failed = nbdurable("sweep", "report.ipynb", "-v", "rate", "1,2", "--wait")
    assert (failed.exit_code, failed.stdout.count("paused")) == (1, 2)
    shown = nbdurable("runs", "show", "report(rate=1)").stdout
    assert "ZeroDivisionError" in shown
    assert "given     rate = 1" in shown
    write(folder, PARAMETERS, mark("a"), mark("b"))
    assert sorted(said("runs", "retry")) == ["report(rate=1)", "report(rate=2)"]
    waited = nbdurable("sweep", "report.ipynb", "-v", "rate", "1,2", "--wait")
    assert waited.exit_code == 0
    assert sorted(marks(folder)) == ["a", "a", "b", "b"]


def test_a_run_goes_on_from_a_cell_and_begins_anew_from_one(folder, up):
    write(folder, PARAMETERS, mark("a"), mark("b"), mark("c"))
    said("sweep", "report.ipynb", "-v", "rate", "1", "--wait")
    done = nbdurable("runs", "resume", "report(rate=1)")
    assert (done.exit_code, "is over" in done.stderr) == (1, True)
    cut = nbdurable("runs", "show", "report")
    assert "there is no notebook run 'report'; did you mean 'report(rate=1)'?" in cut.stderr
    assert nbdurable("runs", "restart", "report(rate=1)", "--from", "4").exit_code == 0
    assert marks(folder) == ["a", "b", "c", "b", "c"]
    assert [run["run"] for run in said("runs", "ls")] == ["report(rate=1).2", "report(rate=1)"]


def test_a_paused_run_is_gone_on_with_its_steps_done_again_if_that_is_asked_for(folder, up):
    """What a step has fetched may be what the cell fails of."""
    step = "from nbdurable import durable\nawait durable.run('fetch', fetch, 1)\n"
    fetch = "def fetch(n): open('side', 'a').write('fetched ')"
    write(folder, PARAMETERS, fetch, step + "1 / 0")
    nbdurable("sweep", "report.ipynb", "-v", "rate", "1", "--wait")
    write(folder, PARAMETERS, fetch, step + "2 / 0")
    assert nbdurable("runs", "resume", "report(rate=1)", "--from", "3").exit_code == 1
    assert marks(folder) == ["fetched"]
    write(folder, PARAMETERS, fetch, step + "2 / 1")
    assert nbdurable("runs", "resume", "report(rate=1)", "--fresh").exit_code == 0
    assert marks(folder) == ["fetched", "fetched"]


def test_what_is_not_there_is_said(folder, up):
    assert nbdurable("runs", "show", "nothing").exit_code == 4
    assert nbdurable("sweep", "nowhere.ipynb", "-v", "rate", "1").exit_code == 2
    write(folder, PARAMETERS)
    assert nbdurable("backfill", "report.ipynb", "--days", "1", "--tz", "Nowhere").exit_code == 2


def test_what_every_run_would_fail_with_is_said_before_one_is_sent(folder, up):
    """A run that is refused is over, and keeps its day: the corrected command would not run it."""
    write(folder, ("night = 'none'\nrate: float = 0.0", "parameters"), mark("ran"))
    wrong = nbdurable("backfill", "report.ipynb", "--days", "2")
    assert wrong.exit_code == 2
    assert "no run of report.ipynb was sent" in wrong.stderr
    assert wrong.stderr.count("no parameter 'day'; it has night, rate") == 1
    wrong = nbdurable("sweep", "report.ipynb", "-v", "rate", "1,fast", "-p", "nigth", "x")
    assert wrong.exit_code == 2
    assert "did you mean 'night'?" in wrong.stderr
    assert "parameter 'rate' is float, and 'fast' is str" in wrong.stderr
    right = said("backfill", "report.ipynb", "--days", "2", "--day", "night", "--wait")
    assert list(right.values()) == ["succeeded"] * 2
    assert len(said("runs", "ls")) == 2


def test_a_sweep_begins_a_journal_where_there_is_none(folder, monkeypatch):
    """As a notebook does: it is what somebody types first in a new folder."""
    started = []
    monkeypatch.setattr("nbdurable.cli.sweeps.start_owner", started.append)
    write(folder, PARAMETERS, mark("ran"))
    wrong = nbdurable("sweep", "report.ipynb", "-v", "rat", "1,2")
    assert (wrong.exit_code, (folder / ".nbdurable").exists()) == (2, False)
    assert said("sweep", "report.ipynb", "-v", "rate", "1") == ["report(rate=1)"]
    assert started == [None]
    assert [run["status"] for run in said("runs", "ls")] == ["queued"]


def test_a_sweep_of_a_new_folder_is_run_to_its_end(folder, monkeypatch):
    """Whoever waits for it looks into the journal, which its new owner must have by then."""
    monkeypatch.setattr("nbdurable.sharing.starting.IDLE_EXIT", "2s")
    write(folder, PARAMETERS, mark("ran"))
    for rate in ("1", "2"):
        assert said("sweep", "report.ipynb", "-v", "rate", rate, "--wait") == {
            f"report(rate={rate})": "succeeded"
        }
    assert marks(folder) == ["ran", "ran"]
