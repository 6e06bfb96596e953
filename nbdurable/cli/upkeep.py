"""What keeps a journal in order, and what is set: `config`."""

from __future__ import annotations

from pathlib import Path

import click

from nbdurable.cli.words import common, write_json, write_table
from nbdurable.settings.model import found_settings, unknown_variables


@click.command
@common
def config(journal: Path | None, as_json: bool) -> None:
    """Show every setting, its value, and who says so."""
    found = found_settings({"home": journal})
    if as_json:
        write_json([setting._asdict() for setting in found])
    else:
        write_table(("SETTING", "VALUE", "FROM", ""), [tuple(setting) for setting in found])
    for name in unknown_variables():
        click.echo(f"{name} is no setting; is it misspelled?", err=True)
