"""Many runs of one notebook, sent at once: `sweep` over values, `backfill` over past days."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from nbdurable.cli.exits import FAILED
from nbdurable.cli.iris import leave_out_iris
from nbdurable.cli.owner import Reached, ask
from nbdurable.cli.words import common, write_json
from nbdurable.runs.overview import Run, runs_of
from nbdurable.runs.request import request_of
from nbdurable.runs.sending import offer_notebooks
from nbdurable.runs.sweeps import of_days, of_values, send_all
from nbdurable.schedules.times import zone
from nbdurable.sharing.starting import start_owner

_LOOK_S: Final = 0.5
# Nothing goes on by itself from here.
_STANDS: Final = ("succeeded", "failed", "paused", "suspended")

_notebook = click.argument("notebook", type=click.Path(dir_okay=False, path_type=Path))
_given = click.option(
    "-p", "--parameter", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="Of every run."
)
_max_parallel = click.option(
    "--max-parallel", type=click.IntRange(min=1), help="So many at a time; else all there may be."
)
_wait = click.option(
    "--wait", is_flag=True, help="Until each has ended, or waits; 1 if one failed."
)
_name = click.option("--name", help="Of these runs together; else that of the notebook.")
Runs = Callable[[str], Mapping[str, Mapping[str, Any]]]


@click.command
@_notebook
@click.option(
    "-v",
    "--values",
    "grid",
    nargs=2,
    multiple=True,
    required=True,
    metavar="NAME VALUES",
    help="A parameter, and what it is in each run: '1,2,3', or a JSON list.",
)
@_given
@_name
@_max_parallel
@_wait
@common
def sweep(
    notebook: Path,
    grid: tuple[tuple[str, str], ...],
    given: tuple[tuple[str, str], ...],
    name: str | None,
    max_parallel: int | None,
    wait: bool,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Run NOTEBOOK once for every combination of values; what was sent before is not sent again.

    Whoever has the journal runs them, whatever becomes of this command; if nobody has it,
    `nbdurable up` is started.
    """
    values = {named: _values(text) for named, text in grid}
    _send(
        notebook,
        given,
        name,
        max_parallel,
        lambda sweep: of_values(sweep, values),
        journal,
        waits=wait,
        as_json=as_json,
    )


@click.command
@_notebook
@click.option("--days", type=click.IntRange(min=1), required=True, help="The last is yesterday.")
@click.option("--day", "parameter", default="day", show_default=True, help="Which parameter it is.")
@click.option("--tz", default="UTC", show_default=True, help="Whose days, e.g. Europe/Berlin.")
@_given
@_name
@_max_parallel
@_wait
@common
def backfill(
    notebook: Path,
    days: int,
    parameter: str,
    tz: str,
    given: tuple[tuple[str, str], ...],
    name: str | None,
    max_parallel: int | None,
    wait: bool,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Run NOTEBOOK once for each of the past days; those that have run do not run again.

    Each run has its day, as 2026-11-22, in a parameter, and NOTEBOOK@DAY as its name.
    """
    today = datetime.now(zone(tz)).date()
    _send(
        notebook,
        given,
        name,
        max_parallel,
        lambda sweep: of_days(sweep, parameter, days, today),
        journal,
        waits=wait,
        as_json=as_json,
    )


def _send(
    notebook: Path,
    given: tuple[tuple[str, str], ...],
    name: str | None,
    max_parallel: int | None,
    runs: Runs,
    journal: Path | None,
    *,
    waits: bool,
    as_json: bool,
) -> None:
    leave_out_iris()
    from nbdurable.batch.command import check_many

    sweep, path = name or notebook.stem, notebook.absolute()
    of_all = {named: _value(text) for named, text in given}
    of_each = runs(sweep)
    check_many(notebook, [of_all | dict(own) for own in of_each.values()])

    async def work(at_hand: Reached) -> tuple[list[str], str, bool]:
        request = request_of(path, at_hand.path.parent, msgspec.json.encode(of_all))
        await offer_notebooks(at_hand.client)
        sent = await send_all(at_hand.client, request, of_each, sweep, max_parallel)
        return [key for key, _ in sent.runs], sent.notice, at_hand.owner is None

    keys, notice, is_alone = ask(journal, work, begins=True)
    if notice:
        click.echo(f"{notice} (--name).", err=True)
    if is_alone:
        start_owner(journal)
    if not waits:
        if as_json:
            write_json(keys)
        else:
            click.echo("\n".join(keys))
        return
    found = _waited(journal, set(keys))
    failed = [run for run in found if run.status in ("failed", "paused")]
    if as_json:
        write_json({run.key: run.status for run in found})
    else:
        for run in found:
            click.echo(f"{run.status:<10} {run.key}")
    if failed:
        raise SystemExit(FAILED)


def _waited(journal: Path | None, keys: set[str]) -> list[Run]:
    """Those of the runs, once none of them goes on by itself. An owner that ends is waited for."""
    while True:
        found = [run for run in ask(journal, _all_runs) if run.key in keys]
        if all(run.status in _STANDS for run in found):
            return found
        time.sleep(_LOOK_S)


async def _all_runs(at_hand: Reached) -> list[Run]:
    return await runs_of(at_hand.client)


def _value(text: str) -> Any:  # noqa: ANN401 - a parameter's.
    """As JSON, if it is; else as text."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _values(text: str) -> list[Any]:
    value = _value(text)
    return value if isinstance(value, list) else [_value(one.strip()) for one in text.split(",")]
