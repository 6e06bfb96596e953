"""`nbdurable run`: a notebook as a durable workflow, with papermill's flags."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from nbdurable.cli.iris import leave_out_iris

# papermill's own code for it, so that scripts that call papermill need no change.
KERNEL_DIED = 138
# EX_TEMPFAIL of sysexits.h: nothing failed, and the same command goes on another time.
SUSPENDED = 75


class _WithPapermillFlags(click.Command):
    """Takes papermill's options when it is parsed, and not when commands are only listed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        leave_out_iris()
        from nbdurable.batch.command import papermill_options

        ours = super().get_params(ctx)
        named = {param.name for param in ours}
        return [*ours, *(each for each in papermill_options() if each.name not in named)]


@click.command(cls=_WithPapermillFlags)
@click.argument("notebook")
@click.argument("output", required=False)
@click.option("--run-id", metavar="NAME", help="Name of the run; made from its input otherwise.")
@click.option(
    "--from", "from_cell", metavar="CELL", help="Run again from this cell on: number, id or tag."
)
@click.option("--until", "until_cell", metavar="CELL", help="Run nothing after this cell.")
@click.option("--only", "only_cell", metavar="CELL", help="Run this cell again, and no other.")
@click.option("--fresh", is_flag=True, help="Do finished steps inside of these cells again.")
@click.option("--no-check", is_flag=True, help="Start it whatever its cells and parameters are.")
@click.option("--given", is_flag=True, hidden=True, help="Parameters come as JSON, on stdin.")
@click.option("--sent", is_flag=True, hidden=True, help="It was sent, and is no run after another.")
@click.pass_context
def run(
    ctx: click.Context,
    /,
    notebook: str,
    output: str | None,
    run_id: str | None,
    from_cell: str | None,
    until_cell: str | None,
    only_cell: str | None,
    fresh: bool,
    no_check: bool,
    given: bool,
    sent: bool,
    **flags: object,
) -> None:
    """Run NOTEBOOK durably, into OUTPUT (NOTEBOOK-out.ipynb); the same command goes on with it.

    All cells are parsed and the parameters compared with those of the notebook before a kernel
    starts. The other options are papermill's. Exit code 75 says that it waits for long, and that
    the same command goes on when that is over.
    """
    from nbdurable.batch import command

    if "-" in (notebook, output):
        raise click.UsageError("a run has to be found again: give files, not pipes")
    flags = {**flags, "is_sent": sent}
    if given:
        # As they were sent: what is written for YAML may be read as something else.
        parameters = msgspec.json.decode(sys.stdin.buffer.read(), type=dict[str, Any])
        flags = {**flags, "parameters_raw": tuple(parameters.items())}
    if output is None and "://" in notebook:
        raise click.UsageError(f"{notebook} is not of this machine: say where its output goes")
    output = output or command.default_output(notebook)
    if flags["help_notebook"]:
        ctx.exit(command.show_parameters(ctx, notebook, output, flags))
    try:
        flags = {**flags, "fresh": fresh}
        cells = {"from_cell": from_cell, "until_cell": until_cell, "only_cell": only_cell}
        command.run_notebook(
            notebook, output, flags, run_id=run_id, checks=not no_check, cells=cells
        )
    except command.failed_cell_errors() as error:
        click.echo(str(error), err=True)
        click.echo(f"Error: a cell failed. The same command goes on from it ({output}).", err=True)
        ctx.exit(1)
    except command.suspended_errors() as error:
        click.echo(str(error), err=True)
        ctx.exit(SUSPENDED)
    except command.dead_kernel_errors():
        click.echo(f"Error: the kernel died. The same command goes on ({output}).", err=True)
        ctx.exit(KERNEL_DIED)
