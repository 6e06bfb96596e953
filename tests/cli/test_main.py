"""The command line as a whole."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
from support.command import nbdurable

from nbdurable import __version__
from nbdurable.cli.main import COMMANDS, main

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


# These run a notebook in this process, and say what papermill says.
RUN_HERE = {"run", "runs restart"}
DESTRUCTIVE = {"cancel", "kill", "purge", "gc", "state set", "state clear", "schedule rm"}


def commands(of: click.Command = main, *path: str) -> Iterator[tuple[str, set[str]]]:
    """Each with its options, those of groups too."""
    if not isinstance(of, click.Group):
        yield " ".join(path), {word for param in of.params for word in param.opts}
        return
    ctx = click.Context(of)
    for name in of.list_commands(ctx):
        command = of.get_command(ctx, name)
        assert command is not None
        yield from commands(command, *path, name)


def test_every_command_answers_programs() -> None:
    assert {name for name, options in commands() if "--json" not in options} == RUN_HERE


def test_what_cannot_be_undone_can_be_tried_first() -> None:
    asks = {name for name, options in commands() if {"--dry-run", "--yes"} <= options}
    assert asks >= DESTRUCTIVE


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command: str) -> None:
    helped = nbdurable(command, "--help")
    assert helped.exit_code == 0
    assert len(helped.stdout.splitlines()) > 4


def test_help_lists_every_command_and_the_exit_codes() -> None:
    helped = nbdurable("-h").stdout
    assert all(f"  {command} " in helped for command in COMMANDS)
    assert "75 the journal has an owner" in " ".join(helped.split())
    assert "\\" not in helped


def test_a_command_that_is_mistyped_is_told_the_nearest() -> None:
    """Commands are loaded when they are asked for, so click alone would know of none."""
    wrong = nbdurable("aprove", "order-1")
    assert wrong.exit_code == 2
    assert "Did you mean 'approve'?" in wrong.stderr


def test_the_script_is_the_module() -> None:
    script = tomllib.loads(PYPROJECT.read_text())["project"]["scripts"]["nbdurable"]
    room, _, name = script.partition(":")
    assert getattr(import_module(room), name) is main
    shown = subprocess.run(
        [sys.executable, "-m", "nbdurable", "--version"], check=True, capture_output=True, text=True
    )
    assert shown.stdout == f"nbdurable {__version__}\n"


def test_asking_for_help_loads_no_database() -> None:
    """Completion in a shell asks at every key."""
    code = "import sys, nbdurable.cli.main; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"duckdb", "pydantic", "rich", "asyncio"} & set(shown.stdout.split())


def test_what_is_no_command_is_refused() -> None:
    refused = nbdurable("lsd")
    assert refused.exit_code == 2
    assert "lsd" in refused.stderr
