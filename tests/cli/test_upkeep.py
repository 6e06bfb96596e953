"""`gc` and `config`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command import nbdurable


def run_count() -> int:
    return len(json.loads(nbdurable("ls", "--json", "--all").stdout))


def test_finished_runs_of_an_age_are_forgotten_when_it_is_meant(lived: Path) -> None:
    planned = nbdurable("gc", "--older-than", "0s", "--dry-run")
    assert planned.stdout.count("would forget") == 4
    assert nbdurable("gc", "--older-than", "0s").exit_code == 2
    assert run_count() == 7
    assert "4 runs forgotten" in nbdurable("gc", "--older-than", "0s", "--yes").stdout
    assert run_count() == 3
    assert json.loads(nbdurable("gc", "--json").stdout)["purged_count"] == 0


def test_without_an_age_only_what_has_expired_is_forgotten(lived: Path) -> None:
    assert "would forget only what has been kept" in nbdurable("gc", "--dry-run").stdout
    taken = json.loads(nbdurable("gc", "--json").stdout)
    assert taken["purged_count"] == 0
    assert taken["database_bytes"] > 0
    assert run_count() == 7


def test_settings_are_shown_with_their_source(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBDURABLE_RETRY_MAX_ATTEMPTS", "3")
    monkeypatch.setenv("NBDURABLE_RETRY_MAX_ATEMPTS", "3")
    shown = nbdurable("config", "--journal", "there", "--json")
    found = {one["name"]: (one["value"], one["source"]) for one in json.loads(shown.stdout)}
    assert found["home"] == ("there", "command line")
    assert found["retry_max_attempts"] == ("3", "NBDURABLE_RETRY_MAX_ATTEMPTS")
    assert "NBDURABLE_RETRY_MAX_ATEMPTS is no setting" in shown.stderr
    assert "retry_max_attempts" in nbdurable("config").stdout
