"""How a command gets at the journal: as its owner, by its owner, or not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.command import END_S_MAX, nbdurable, start_apart, until_served

import nbdurable as package
from nbdurable.store.duck import DuckStore
from nbdurable.store.lock import is_held


def test_a_command_lets_go_of_the_journal(lived: Path) -> None:
    assert nbdurable("ls").exit_code == 0
    assert not is_held(lived / ".nbdurable")


def test_an_owner_that_does_not_answer_is_told_of(
    lived: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script that waits for the journal can tell this from every other failure."""
    monkeypatch.setenv("NBDURABLE_OWNER_WAIT", "0s")
    store = DuckStore(lived / ".nbdurable", created_by="a test")
    store.open()
    try:
        refused = nbdurable("ls")
    finally:
        store.close()
    assert refused.exit_code == 75
    assert "journal" in refused.stderr
    assert nbdurable("ls").exit_code == 0


def test_an_owner_that_answers_is_asked(lived: Path) -> None:
    with package.open_sync() as engine:
        served = until_served(lived / ".nbdurable")
        listed = nbdurable("ls")
        assert listed.exit_code == 0
        assert f"open in process {served.pid}" in listed.stderr
        found = json.loads(nbdurable("doctor", "--json").stdout)
        (owner,) = [one for one in found if one["check"] == "owner"]
        assert served.admin in owner["says"]
        owner_engine = engine.opened.owned.engine
        deadline = time.monotonic() + END_S_MAX
        while len(owner_engine.links) > 1:
            assert time.monotonic() < deadline, "something of a command stays behind"


BUSY = """
import nbdurable
from support.flows import SERVICES, run
with nbdurable.open_sync(services=SERVICES) as engine:
    engine.client.workflow_send(run, "order-1", 100)
    print("sent", flush=True)
    while True:
        pass
"""


def test_a_notebook_that_computes_is_asked_all_the_same(folder: Path) -> None:
    """The door for a click that its kernel cannot hear."""
    path = os.pathsep.join(filter(None, sys.path))
    busy = subprocess.Popen(
        [sys.executable, "-c", BUSY],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert busy.stdout is not None
    assert busy.stdout.readline() == "sent\n"
    try:
        until_served(folder / ".nbdurable")
        assert nbdurable("approve", "order-1", "approved").exit_code == 0
        attached = nbdurable("attach", "order-1")
        assert (attached.exit_code, attached.stdout) == (0, '"captured 100"\n')
    finally:
        busy.kill()
        busy.communicate()


def test_a_command_waits_for_another_that_has_the_journal_for_a_moment(lived: Path) -> None:
    """Two approvals at once are two approvals."""
    both = [start_apart("kill", "order-1", "--yes"), start_apart("pause", "Greeter/nap")]
    for process in both:
        _, err = process.communicate(timeout=END_S_MAX)
        assert process.returncode == 0, err


def test_the_journal_may_be_named(lived: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert nbdurable("ls", "--journal", str(lived / ".nbdurable")).exit_code == 0
    monkeypatch.setenv("NBDURABLE_HOME", str(lived / ".nbdurable"))
    assert nbdurable("ls").exit_code == 0


def test_an_owner_that_does_not_take_the_token_is_told_apart_from_one_that_is_silent(
    lived: Path,
) -> None:
    token = lived / ".nbdurable" / "token"
    with package.open_sync():
        until_served(lived / ".nbdurable")
        token.write_text("another")
        refused = nbdurable("ls")
        assert refused.exit_code == 1
        assert str(token) in refused.stderr
        assert "401" in refused.stderr


def test_a_token_that_is_no_text_is_no_traceback(
    lived: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBDURABLE_OWNER_WAIT", "0s")
    with package.open_sync():
        until_served(lived / ".nbdurable")
        (lived / ".nbdurable" / "token").write_bytes(b"\xff")
        refused = nbdurable("ls")
    assert refused.exit_code == 75
    assert "Traceback" not in refused.stderr
