"""`nbdurable schedule`: with an owner and without one, and once whoever is killed."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from support.command import END_S_MAX, Up, nbdurable, until_served
from support.notebooks import mark, marks, write


def said(*words: str) -> dict:
    return json.loads(nbdurable("schedule", *words, "--json").stdout)


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + END_S_MAX
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_what_is_added_is_listed_paused_and_removed(
    folder: Path, start_up: Callable[..., Up]
) -> None:
    start_up()
    added = said("add", "hello", "Greeter/greet", "0 7 * * 1-5", '"Ada"', "--tz", "Europe/Berlin")
    assert added["target"] == "Greeter/greet"
    assert "pid" in added["kept_by"]
    (listed,) = json.loads(nbdurable("schedule", "ls", "--json").stdout)
    assert listed["next"] == added["next"]
    assert said("pause", "hello")["paused"]
    assert not said("resume", "hello")["paused"]
    planned = nbdurable("schedule", "rm", "hello", "--dry-run")
    assert planned.stdout == "would forget hello (0 7 * * 1-5 Europe/Berlin, Greeter/greet)\n"
    assert nbdurable("schedule", "rm", "hello").exit_code == 2
    assert len(json.loads(nbdurable("schedule", "ls", "--json").stdout)) == 1
    assert nbdurable("schedule", "rm", "hello", "--yes").exit_code == 0
    assert json.loads(nbdurable("schedule", "ls", "--json").stdout) == []


def test_all_that_was_asked_for_is_shown_again(folder: Path, start_up: Callable[..., Up]) -> None:
    """Nobody remembers in spring with which options a schedule was made in autumn."""
    start_up()
    options = ("--jitter", "30s", "--max-staleness", "36h", "--notify", "true")
    policy = ("--catch-up", "all", "--notify-on", "overdue", "--notify-on", "failed")
    said("add", "hello", "Greeter/greet", "@yearly", '"Ada"', *options, *policy)
    lines = nbdurable("schedule", "show", "hello").stdout.splitlines()
    assert lines[1] == 'input    "Ada"'
    assert lines[4:] == [
        "policy   catch up all, overlap skip, max staleness 36 h 0 min, jitter 30.0 s",
        "tells    true of overdue, failed",
    ]


def test_triggered_it_runs_at_once(folder: Path, start_up: Callable[..., Up]) -> None:
    start_up()
    said("add", "hello", "Greeter/greet", "@yearly", '"Ada"')
    run = said("trigger", "hello")["run"]
    until(lambda: said("show", "hello")["ended"] == [{"id": run, "failure": ""}], "it does not end")


def test_a_notebook_runs_with_the_date_of_its_fire(
    folder: Path, start_up: Callable[..., Up]
) -> None:
    write(folder, ("day = 'none'", "parameters"), "open('side', 'w').write(day)")
    start_up()
    parameters = '{"day": "{fire_date}"}'
    added = said("add", "nightly", "report.ipynb", "@yearly", parameters, "--tz", "Europe/Berlin")
    assert (added["target"], added["called"]) == ("Notebook/run", "report.ipynb")
    assert added["input"] == {"day": "{fire_date}"}
    assert "report.ipynb" in nbdurable("schedule", "ls").stdout
    run = said("trigger", "nightly")["run"]
    until(lambda: said("show", "nightly")["ended"], "it does not end")
    assert (folder / "side").read_text() == run.partition("@")[2][:10]
    assert (folder / "report-runs" / f"{run}.ipynb").exists()


def test_a_notebook_that_fails_one_night_runs_the_next(
    folder: Path, start_up: Callable[..., Up]
) -> None:
    """Its run waits to be resumed, is shown as that, and ends well once it is corrected."""
    write(folder, mark("a"), "1 / 0")
    start_up()
    said("add", "nightly", "report.ipynb", "@yearly")
    run = said("trigger", "nightly")["run"]
    until(lambda: said("show", "nightly")["stalled"] == [run], "it is not said to be stalled")
    told = f"it has failed: correct the notebook, then nbdurable runs resume {run}"
    assert told in nbdurable("schedule", "show", "nightly").stdout
    # The name of the schedule is not that of its run, nor does anybody mean what keeps it.
    wrong = nbdurable("cancel", "nightly", "--yes")
    assert (wrong.exit_code, f"did you mean 'Notebook/{run}'?" in wrong.stderr) == (4, True)
    assert "'" not in shlex.quote(run), "it can be typed as it is"
    write(folder, mark("a"), mark("b"))
    assert nbdurable("resume", f"Notebook/{run}").exit_code == 0
    until(lambda: said("show", "nightly")["ended"] == [{"id": run, "failure": ""}], "no end")
    assert marks(folder) == ["a", "b"]


def test_what_is_wrong_is_refused_with_a_sentence(
    folder: Path, start_up: Callable[..., Up]
) -> None:
    start_up()
    wrong = nbdurable("schedule", "add", "x", "Greeter/greet", "61 * * * *", '"Ada"')
    assert (wrong.exit_code, "no schedule" in wrong.stderr) == (2, True)
    assert nbdurable("schedule", "add", "x", "Nobody/greet", "@daily").exit_code == 4
    assert nbdurable("schedule", "show", "x").exit_code == 4
    wrong = nbdurable("schedule", "add", "x", "nowhere.ipynb", "@daily")
    assert (wrong.exit_code, "there is no notebook" in wrong.stderr) == (2, True)
    write(folder, "1")
    wrong = nbdurable("schedule", "add", "x", "report.ipynb", "@daily", "[1]")
    assert (wrong.exit_code, "parameters are a JSON object" in wrong.stderr) == (2, True)
    write(folder, ("day = 'none'", "parameters"))
    wrong = nbdurable("schedule", "add", "x", "report.ipynb", "@daily", '{"dya": "{fire_date}"}')
    assert (wrong.exit_code, "did you mean 'day'?" in wrong.stderr) == (2, True)


def test_a_notebook_is_scheduled_in_a_folder_without_a_journal(folder: Path) -> None:
    write(folder, "1")
    assert nbdurable("schedule", "add", "x", "nowhere.ipynb", "@daily").exit_code == 2
    assert not (folder / ".nbdurable").exists()
    assert said("add", "x", "report.ipynb", "@yearly", "--no-start")["target"] == "Notebook/run"
    assert [one["name"] for one in said("ls")] == ["x"]


def fired() -> list[str]:
    found = nbdurable(
        "sql",
        "select idempotency_key as id from sys_invocation where target_service_name = 'Counter'",
        "--json",
    ).stdout
    return sorted(re.findall(r"tick@([0-9T:+-]+)", found))


@pytest.mark.kill
def test_each_fire_runs_once_across_killed_owners(
    folder: Path, start_up: Callable[..., Up]
) -> None:
    """Kill -9 between fires and within them; the next owner makes up for what was missed."""
    up = start_up()
    said(
        "add", "tick", "Counter/ada/add", "every 1s", "1", "--catch-up", "all", "--overlap", "queue"
    )
    chance = random.Random(20261126)
    for _ in range(3):
        count = len(fired())
        until(lambda count=count: len(fired()) > count, "it does not fire")
        time.sleep(chance.uniform(0, 1))  # So that each is killed at another moment.
        up.process.kill()
        up.process.wait()
        up = start_up()
    until(lambda: len(fired()) >= 5, "it does not fire")
    said("pause", "tick")
    until(lambda: not (view := said("show", "tick"))["running"] and not view["queued"], "no end")
    seconds = [datetime.fromisoformat(at).timestamp() for at in fired()]
    assert seconds == [seconds[0] + n for n in range(len(seconds))], "one lost, or one twice"
    assert nbdurable("state", "get", "Counter/ada", "n").stdout.strip() == str(len(seconds))


def test_where_nobody_has_the_journal_a_process_is_started_that_keeps_it(
    folder: Path, start_up: Callable[..., Up]
) -> None:
    """And it is there after the command has ended."""
    start_up().end(signal.SIGTERM)
    added = said("add", "hello", "Greeter/greet", "@yearly", '"Ada"')
    keeper = until_served(folder / ".nbdurable")
    try:
        assert added["kept_by"] == f"`nbdurable up` (pid {keeper.pid})"
        (listed,) = json.loads(nbdurable("schedule", "ls", "--json").stdout)
        assert f"pid {keeper.pid}" in listed["kept_by"]
    finally:
        os.kill(keeper.pid, signal.SIGTERM)
        os.waitpid(keeper.pid, 0)


def test_with_nobody_to_keep_it_a_schedule_says_so(
    folder: Path, start_up: Callable[..., Up]
) -> None:
    start_up().end(signal.SIGTERM)
    added = said("add", "hello", "Greeter/greet", "@yearly", '"Ada"', "--no-start")
    assert "nothing is running that could; start `nbdurable up`" in added["kept_by"]
    shown = nbdurable("schedule", "show", "hello").stdout
    assert f"next     {added['next']}; nothing is running that could; start" in shown
