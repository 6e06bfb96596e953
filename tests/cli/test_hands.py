"""What a person does to runs, with nobody else there: all of it is committed when it is said."""

from __future__ import annotations

import json
import os
import pty
from datetime import timedelta
from pathlib import Path

import pytest
from support.command import END_S_MAX, nbdurable, start_apart, until_served

import nbdurable as package
from nbdurable.store.lock import is_held


def status(run: str) -> str:
    return str(json.loads(nbdurable("show", run, "--json").stdout)["invocation"]["status"])


@pytest.mark.parametrize("verb", ["cancel", "kill", "purge"])
def test_what_cannot_be_undone_is_asked_for(reached: Path, verb: str) -> None:
    run = "Greeter/greet" if verb == "purge" else "order-1"
    before = status(run)
    planned = nbdurable(verb, run, "--dry-run")
    assert (planned.exit_code, planned.stdout.split()[:2]) == (0, ["would", verb])
    nobody = nbdurable(verb, run)
    assert nobody.exit_code == 2
    assert "say --yes" in nobody.stderr
    assert status(run) == before
    done = nbdurable(verb, run, "--yes", "--json")
    assert done.exit_code == 0
    assert run in json.loads(done.stdout)[0]["target"]


def test_a_person_at_a_terminal_is_asked_while_nobody_has_the_journal(lived: Path) -> None:
    """Who thinks it over for an hour keeps nobody from the journal."""
    for answer, code in (("n", 1), ("y", 0)):
        person, terminal = pty.openpty()
        killing = start_apart("kill", "order-1", stdin=terminal)
        assert killing.stderr is not None
        assert "kill Payment/order-1/run" in killing.stderr.readline()
        assert not is_held(lived / ".nbdurable")
        assert status("order-1") != "completed"
        os.write(person, f"{answer}\n".encode())
        killing.communicate(timeout=END_S_MAX)
        os.close(person)
        os.close(terminal)
        assert killing.returncode == code
    assert status("order-1") == "completed"


def test_a_killed_run_is_over(reached: Path) -> None:
    assert nbdurable("kill", "order-1", "Greeter/nap", "--yes").exit_code == 0
    assert (status("order-1"), status("Greeter/nap")) == ("completed", "completed")
    again = nbdurable("cancel", "order-1", "--yes")
    assert "Traceback" not in again.stderr


def test_nothing_is_done_when_one_of_several_is_not_found(reached: Path) -> None:
    """A typing error must not leave half of it done."""
    assert nbdurable("kill", "order-1", "order-2", "--yes").exit_code == 4
    assert status("order-1") != "completed"


def test_what_is_refused_is_said_and_the_rest_is_done(reached: Path) -> None:
    refused = nbdurable("restart", "order-1", "Greeter/greet", "--json")
    assert refused.exit_code == 1
    first, second = json.loads(refused.stdout)
    assert "not yet completed" in first["refused"]
    assert status(second["id"]) != "completed"
    assert "restart Payment/order-1/run: " in refused.stderr


def test_a_paused_run_is_resumed(reached: Path) -> None:
    assert nbdurable("pause", "Greeter/nap").exit_code == 0
    assert status("Greeter/nap") == "paused"
    assert nbdurable("resume", "Greeter/nap").exit_code == 0
    assert status("Greeter/nap") != "paused"
    refused = nbdurable("resume", "Greeter/nap", "--revision", "nine")
    assert refused.exit_code == 2


def test_a_finished_run_is_started_anew_as_another(reached: Path) -> None:
    done = nbdurable("restart", "Greeter/greet", "--json")
    (new,) = json.loads(done.stdout)
    assert new["target"] == "Greeter/greet"
    assert status(new["id"]) != "completed"
    refused = nbdurable("restart", "Payment/order-1")
    assert refused.exit_code == 1
    assert "HTTP" not in refused.stderr


def test_a_purged_run_is_forgotten(reached: Path) -> None:
    assert nbdurable("purge", "Greeter/greet", "--yes").exit_code == 0
    assert nbdurable("show", "Greeter/greet").exit_code == 4


def test_a_mismatch_is_accepted_so_that_what_is_recorded_stands(folder: Path) -> None:
    """One of the three ways out that a paused run names, where its code cannot be put back."""
    report = package.Workflow("Report", inactivity_timeout=timedelta(0))
    name = "draw"

    @report.main()
    async def run(ctx: package.WorkflowContext) -> str:
        made = await ctx.run_typed(name, lambda: "made")
        await ctx.promise("approved").value()
        return f"{made} and approved"

    with package.open_sync(services=[report]) as engine:
        until_served(folder / ".nbdurable")
        sent = engine.client.workflow_send(run, "monday", None)
        watched = start_apart("watch", "monday", "--json")
        assert watched.stdout is not None
        while '"suspended"' not in watched.stdout.readline():
            pass
        name = "paint"
        nbdurable("approve", "monday")
        out, told = watched.communicate(timeout=END_S_MAX)
        assert '"paused"' in out
        assert watched.returncode == 3
        assert "nbdurable resume --accept Report/monday" in told
        assert "recorded" in nbdurable("show", "monday").stdout
        assert nbdurable("resume", "monday", "--accept").exit_code == 0
        assert engine.client.attach(sent.invocation_id) == "made and approved"


@pytest.mark.parametrize(
    ("words", "would"),
    [
        (("kill", "order-1"), "kill Payment/order-1/run ("),
        (("pause", "order-1"), "pause Payment/order-1/run ("),
        (("state", "clear", "Counter/ada"), "clear n of Counter/ada, which is 3"),
        (("gc", "--older-than", "0s"), "forget "),
        (("gc",), None),
    ],
)
def test_what_would_be_done_is_json_for_programs(
    lived: Path, words: tuple[str, ...], would: str | None
) -> None:
    planned = nbdurable(*words, "--dry-run", "--json")
    deeds = json.loads(planned.stdout)["would"]
    assert planned.exit_code == 0
    assert all(deed.startswith(str(would)) for deed in deeds)
    assert bool(deeds) == (would is not None)
