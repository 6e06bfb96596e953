"""Who says what holds: a call, the command line, the environment, the project, or nobody."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from support.command import until_served
from support.http import JSON, ask

import nbdurable
from nbdurable import EngineOptions, InvocationRetryPolicy, ServeOptions
from nbdurable.core.settings import DEFAULT_SETTINGS
from nbdurable.errors import SettingsError
from nbdurable.invoker.options import settings_of
from nbdurable.settings.model import (
    Settings,
    found_settings,
    read_settings,
    shown,
    unknown_variables,
    variable,
)
from nbdurable.settings.said import is_planted, options_here
from nbdurable.wiring import journal_path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, of which nothing is said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBDURABLE_HOME", raising=False)
    return tmp_path


def project(folder: Path, *lines: str) -> None:
    (folder / "pyproject.toml").write_text("\n".join(("[tool.nbdurable]", *lines)))


def test_what_nobody_sets_is_what_an_engine_does_anyway() -> None:
    """Defaults are written down twice, here and in the core, and must not part."""
    assert settings_of(read_settings().engine_options()) == DEFAULT_SETTINGS
    assert options_here(None) == EngineOptions()


def test_a_call_comes_before_the_command_line_the_environment_and_the_project(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "retry_max_interval"
    project(folder, f'{name} = "4s"')
    assert read_settings().retry_max_interval == timedelta(seconds=4)
    monkeypatch.setenv("NBDURABLE_RETRY_MAX_INTERVAL", "3s")
    assert read_settings().retry_max_interval == timedelta(seconds=3)
    said = read_settings({name: "2s"})
    assert said.retry_max_interval == timedelta(seconds=2)
    called = EngineOptions(retry_policy=InvocationRetryPolicy(max_interval=timedelta(seconds=1)))
    policy = said.engine_options(called).retry_policy
    assert policy is not None
    assert policy.max_interval == timedelta(seconds=1)


async def test_an_engine_is_run_as_the_environment_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a notebook's kernel as of a script: neither has a command line."""
    for name, value in {
        "RETRY_INITIAL_INTERVAL": "50ms",
        "RETRY_MAX_INTERVAL": "1s",
        "RETRY_MAX_ATTEMPTS": "3",
        "RETRY_ON_MAX_ATTEMPTS": "kill",
        "JOURNAL_RETENTION": "P1D",
        "WORKFLOW_RETENTION": "2d",
        "IDEMPOTENCY_RETENTION": "3d",
        "INACTIVITY_TIMEOUT": "4s",
        "ABORT_TIMEOUT": "10m",
        "CONCURRENCY": "5",
        "SERVICE_CONCURRENCY": '{"Scraper": 2}',
    }.items():
        monkeypatch.setenv(f"NBDURABLE_{name}", value)
    async with nbdurable.open(options=EngineOptions(concurrency=6)) as engine:
        holds = await engine.client.operator().settings()
    day_ms = 24 * 3_600_000
    assert (holds.retry.initial_interval_ms, holds.retry.max_interval_ms) == (50, 1_000)
    assert (holds.retry.max_attempts, holds.retry.on_max_attempts) == (3, "kill")
    assert holds.journal_retention_ms == day_ms
    assert holds.workflow_retention_ms == 2 * day_ms
    assert holds.idempotency_retention_ms == 3 * day_ms
    assert (holds.inactivity_timeout_ms, holds.abort_timeout_ms) == (4_000, 600_000)
    assert (holds.limits.engine, holds.limits.services) == (6, {"Scraper": 2})


def test_a_notebook_in_a_folder_of_the_project_finds_its_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the journal that it names, which is then one for the whole project."""
    project(folder, 'home = "journal"')
    (folder / "notebooks").mkdir()
    monkeypatch.chdir(folder / "notebooks")
    assert journal_path() == folder / "journal"
    monkeypatch.setenv("NBDURABLE_HOME", str(folder / "other"))
    assert journal_path() == folder / "other"
    assert journal_path("mine") == folder / "notebooks" / "mine"


def test_a_file_that_a_stranger_has_put_in_tmp_is_not_believed(folder: Path) -> None:
    """It could turn the token off for everybody who works below."""
    project(folder, "no_token = true")
    file, stranger = folder / "pyproject.toml", os.getuid() + 1
    assert not is_planted(file, stranger), "a folder of a container belongs to others, too"
    folder.chmod(0o1777)
    os.chown(file, *((12_345, -1) if os.getuid() == 0 else (-1, -1)))
    assert is_planted(file, stranger)
    assert read_settings().no_token is (os.getuid() != 0)


def test_a_file_that_is_not_about_us_is_not_read(folder: Path) -> None:
    """It may be broken for a reason of its own, and a kernel has to start all the same."""
    (folder / "pyproject.toml").write_text("[tool.other\n")
    assert options_here(None) == EngineOptions()


@pytest.mark.parametrize(
    ("name", "value", "taught"),
    [
        ("RETRY_MAX_INTERVAL", "5", "NBDURABLE_RETRY_MAX_INTERVAL is '5'.*write e.g. 10s"),
        ("RETRY_MAX_ATTEMPTS", "0", "NBDURABLE_RETRY_MAX_ATTEMPTS is '0'.*greater than 0"),
        ("RETRY_ON_MAX_ATTEMPTS", "cry", "'pause' or 'kill'"),
        ("INGRESS", "8080", "write HOST:PORT"),
        ("SERVICE_CONCURRENCY", "{", "JSON.*service_concurrency"),
    ],
)
def test_a_variable_that_cannot_be_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, taught: str
) -> None:
    monkeypatch.setenv(f"NBDURABLE_{name}", value)
    with pytest.raises(SettingsError, match=taught):
        read_settings()


@pytest.mark.parametrize(
    ("line", "taught"),
    [
        ("retries = 3", "sets 'retries' .*no such setting.*nbdurable config"),
        ("abort_timeout = 1", "abort_timeout in .*pyproject.toml is 1: 1 has no unit"),
        ("abort_timeout = ", "pyproject.toml cannot be read"),
    ],
)
def test_a_line_of_the_project_that_cannot_be_is_named(
    folder: Path, line: str, taught: str
) -> None:
    project(folder, line)
    with pytest.raises(SettingsError, match=taught):
        read_settings()


def test_each_setting_says_where_it_is_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(folder, 'idle_exit = "10m"', 'ingress = "127.0.0.1:1"')
    monkeypatch.setenv("NBDURABLE_BODY_LIMIT", "1MiB")
    found = {one.name: (one.value, one.source) for one in found_settings({"ingress": "[::1]:0"})}
    assert found["idle_exit"] == ("10m", str(folder / "pyproject.toml"))
    assert found["body_limit"] == ("1.0MiB", "NBDURABLE_BODY_LIMIT")
    assert found["ingress"] == ("[::1]:0", "command line")
    assert found["concurrency"] == ("none", "default")


def test_what_is_shown_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever copies a value of `nbdurable config` into a variable gets the same."""
    holds = read_settings()
    for name in Settings.model_fields:
        if getattr(holds, name) is not None or name in ("abort_timeout", "concurrency"):
            monkeypatch.setenv(variable(name), shown(getattr(holds, name)))
    assert read_settings() == holds


def test_a_misspelled_variable_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBDURABLE_RETRY_MAX_ATEMPTS", "3")
    assert unknown_variables() == ["NBDURABLE_RETRY_MAX_ATEMPTS"]


def test_serving_is_as_is_said_here_where_a_call_leaves_it_open(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBDURABLE_BODY_LIMIT", "10")
    monkeypatch.setenv("NBDURABLE_INGRESS", "127.0.0.1:1")
    monkeypatch.setenv("NBDURABLE_NO_TOKEN", "true")
    project(
        folder, 'token_file = "mine"', 'allowed_hosts = ["a"]', 'allowed_origins = ["http://b"]'
    )
    options = ServeOptions(allowed_hosts=("c",))
    assert options.body_bytes_max == 10
    assert options.token_file == folder / "mine"
    assert options.allowed_origins == ("http://b",)
    assert options.allowed_hosts == ("c",)
    # These are for `up`: two notebooks cannot have one port, and code says that it has no token.
    assert (options.ingress_port, options.has_token) == (0, True)


def test_the_listener_of_an_opened_engine_is_as_is_said_here(folder: Path) -> None:
    project(folder, 'token_file = "mine"', "body_limit = 10")
    with nbdurable.open_sync():
        served = until_served(folder / ".nbdurable")
        assert served.token_file == folder / "mine"
        headers = {**served.headers(), **JSON}
        assert ask(served.admin, "POST", "/query", headers, "12345678901").status == 413
