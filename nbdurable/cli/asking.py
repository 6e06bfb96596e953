"""Before something is done that cannot be undone: what it would be, and whether it is meant."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from nbdurable.cli.words import write_json

dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done; do nothing.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def destructive(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--dry-run` and `--yes`."""
    return dry_run_option(yes_option(command))


def is_meant(deeds: Sequence[str], *, dry_run: bool, as_json: bool) -> bool:
    """Whether to go on: never in a dry run, and else when the person says so.

    Raises:
        Abort: They say no.
        UsageError: There is nobody to ask.
    """
    if dry_run and as_json:
        write_json({"would": deeds})
        return False
    if dry_run:
        for deed in deeds or ["change nothing"]:
            click.echo(f"would {deed}")
        return False
    if not deeds:
        return True
    for deed in deeds:
        click.echo(deed, err=True)
    if not sys.stdin.isatty():
        raise click.UsageError("this cannot be undone, and there is no terminal to ask; say --yes")
    return click.confirm("Go on?", abort=True, err=True)
