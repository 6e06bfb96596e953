"""`nbdurable COMMAND`: which commands there are. Each is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click
from click.exceptions import NoSuchCommand

from nbdurable import __version__
from nbdurable.cli.exits import refusal_of
from nbdurable.errors import NbdurableError

# In the order in which help shows them: what one needs first comes first.
COMMANDS: Final = {
    "ls": "looking",
    "show": "looking",
    "watch": "looking",
    "approve": "replies",
    "reject": "replies",
    "run": "run",
    "runs": "runs",
    "sweep": "sweeps",
    "backfill": "sweeps",
    "call": "calls",
    "send": "calls",
    "attach": "calls",
    "cancel": "hands",
    "kill": "hands",
    "pause": "hands",
    "resume": "hands",
    "restart": "hands",
    "purge": "hands",
    "state": "state",
    "schedule": "schedule",
    "services": "registered",
    "deployments": "registered",
    "sql": "history",
    "export": "history",
    "up": "up",
    "serve": "serve",
    "doctor": "doctor",
    "gc": "upkeep",
    "config": "upkeep",
}


class Commands(click.Group):
    """The table above, and the border at which errors become sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        room = import_module(f"nbdurable.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(room, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as error:
            # Click looks for the nearest among those that are loaded.
            raise NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click's.
        try:
            return super().invoke(ctx)
        except NbdurableError as error:
            raise refusal_of(error) from None


@click.group(
    cls=Commands, name="nbdurable", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, message="nbdurable %(version)s")
def main() -> None:
    """Durable execution in notebooks: look at runs, answer them, serve them.

    Exit codes: 0 done, 1 the run failed, 2 usage, 3 the run is paused or waits, 4 not found, 75 the
    journal has an owner who does not answer.
    """
