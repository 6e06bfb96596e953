"""How a command gets at the journal: as its owner, by its owner, or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command import nbdurable

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


def test_the_journal_may_be_named(lived: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert nbdurable("ls", "--journal", str(lived / ".nbdurable")).exit_code == 0
    monkeypatch.setenv("NBDURABLE_HOME", str(lived / ".nbdurable"))
    assert nbdurable("ls").exit_code == 0
