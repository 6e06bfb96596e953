"""Notebook runs: `runs ls | show | gantt | resume | retry | restart`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import click
from rich.text import Text

from nbdurable.cli.exits import WAITING, Refusal
from nbdurable.cli.owner import Reached, ask
from nbdurable.cli.words import common, journal_option, write_json, write_table
from nbdurable.client.folding import folded
from nbdurable.client.picture import clock_time, duration
from nbdurable.client.views import EntryView, first_line
from nbdurable.runs import lock
from nbdurable.runs.overview import Run, bars_of, drawn, run_of, runs_of, starts_of
from nbdurable.runs.process import log_of, run_here
from nbdurable.sharing.starting import start_owner

# How long a process may take to end whose run is over.
_ENDING_S: Final = 10.0
_LOOK_S: Final = 0.1
# As wide as what is left of a terminal beside a key and a status.
_BAR_COLUMNS: Final = 50
_COLOURS: Final = {
    "succeeded": "green",
    "failed": "red",
    "paused": "red",
    "running": "blue",
    "suspended": "yellow",
}

_run = click.argument("run")
_notebook = click.option("--notebook", metavar="PATH", help="Only of this one, in the project.")
_sweep = click.option("--sweep", metavar="NAME", help="Only those that were sent together.")
_from = click.option("--from", "from_cell", metavar="CELL", help="Number, id or tag of a cell.")

_fresh = click.option(
    "--fresh", is_flag=True, help="Do finished steps inside of the cells that run again."
)


@click.group
def runs() -> None:
    """Look at notebook runs, and go on with them."""


@runs.command
@_notebook
@_sweep
@common
def ls(notebook: str | None, sweep: str | None, journal: Path | None, as_json: bool) -> None:
    """List notebook runs, newest first: how each stands, how long it took, its output."""
    found, now_ms = ask(journal, lambda at_hand: _found(at_hand, notebook, sweep))
    if as_json:
        write_json([_view(run, now_ms) for run in reversed(found)])
        return
    rows = [
        (
            run.key,
            run.notebook,
            Text(run.status, style=_COLOURS.get(run.status, "")),
            clock_time(run.view.created_at_ms),
            duration(run.took_ms(now_ms)),
            run.output,
        )
        for run in reversed(found)
    ]
    write_table(("RUN", "NOTEBOOK", "STATUS", "BEGAN", "TOOK", "OUTPUT"), rows)


@runs.command
@_notebook
@_sweep
@common
def gantt(notebook: str | None, sweep: str | None, journal: Path | None, as_json: bool) -> None:
    """Draw when each run was there, oldest first: thin while it was queued."""

    async def look(at_hand: Reached) -> tuple[list[Run], int, dict[str, int]]:
        return *await _found(at_hand, notebook, sweep), await starts_of(at_hand.client)

    found, now_ms, starts_ms = ask(journal, look)
    if as_json:
        write_json([_view(run, now_ms) for run in found])
        return
    rows = []
    for bar in bars_of(found, now_ms, starts_ms):
        before, queued, ran = drawn(bar, _BAR_COLUMNS)
        after = " " * (_BAR_COLUMNS - len(before + queued + ran))
        colour = _COLOURS.get(bar.run.status, "")
        line = Text.assemble(before, (queued, "dim"), (ran, colour), after)
        rows.append((bar.run.key, line, bar.run.status, duration(bar.run.took_ms(now_ms))))
    write_table(("RUN", "WHEN", "STATUS", "TOOK"), rows)


@runs.command
@_run
@common
def show(run: str, journal: Path | None, as_json: bool) -> None:
    """Show a run: what it was asked for, its cells and their steps, and where its log is."""

    async def look(at_hand: Reached) -> tuple[Run, tuple[EntryView, ...], int, Path]:
        found = await run_of(at_hand.client, run)
        entries = await at_hand.client.journal(found.view.id)
        return found, entries, at_hand.client.now_ms(), at_hand.path

    found, entries, now_ms, path = ask(journal, look)
    if as_json:
        write_json({**_view(found, now_ms), "journal": entries})
        return
    click.echo(f"{found.key}  {found.view.headline}")
    click.echo(f"notebook  {found.notebook} -> {found.output}")
    for name, value in ({} if found.request is None else found.request.parameters).items():
        click.echo(f"given     {name} = {value!r}")
    if log_of(path, found.key).exists():
        click.echo(f"log       {log_of(path, found.key)}")
    rows = []
    for entry in folded(entries, is_over=found.view.is_done):
        if entry.kind == "Run":
            ended_at_ms = entry.ended_at_ms
            took = "" if ended_at_ms is None else duration(ended_at_ms - entry.started_at_ms)
            rows.append((entry.name or "", entry.status, took, first_line(entry.failure or "")))
    write_table(("CELL", "STATUS", "TOOK", "WHY"), rows)


@runs.command
@_run
@_from
@_fresh
@common
@click.pass_context
def resume(
    ctx: click.Context,
    run: str,
    from_cell: str | None,
    fresh: bool,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Go on with a run that is paused: after its last finished cell, or again from CELL on.

    Whoever has the journal starts its process. Where nobody has it, where papermill has begun it,
    and with --from or --fresh, it runs here.
    """

    async def go_on(at_hand: Reached) -> tuple[Run, Path, bool]:
        found = await run_of(at_hand.client, run)
        if found.view.is_done:
            raise Refusal(f"{found.key} is over; `nbdurable runs restart` begins it anew")
        is_as_it_is = from_cell is None and not fresh
        is_theirs = at_hand.owner is not None and found.is_sent and is_as_it_is
        if is_theirs and found.view.status == "paused":
            await at_hand.client.resume(found.view.id)
        return found, at_hand.path, is_theirs

    found, path, is_theirs = ask(journal, go_on)
    if is_theirs:
        _said(found.key, "goes on", as_json=as_json)
        return
    ctx.exit(_here(path, found, from_cell, is_sent=True, is_fresh=fresh))


@runs.command
@_notebook
@_sweep
@common
def retry(notebook: str | None, sweep: str | None, journal: Path | None, as_json: bool) -> None:
    """Resume every run that is paused; of a notebook or a sweep, if one is named."""

    async def go_on(at_hand: Reached) -> tuple[list[str], bool]:
        found = await runs_of(at_hand.client, notebook=notebook, sweep=sweep)
        paused = [run for run in found if run.view.status == "paused" and run.is_sent]
        for run in paused:
            await at_hand.client.resume(run.view.id)
        return [run.key for run in paused], at_hand.owner is None

    keys, is_alone = ask(journal, go_on)
    if keys and is_alone:
        start_owner(journal)
    if as_json:
        write_json(keys)
    for key in [] if as_json else keys:
        _said(key, "goes on", as_json=False)


@runs.command
@_run
@_from
@_fresh
@journal_option
@click.pass_context
def restart(
    ctx: click.Context, run: str, from_cell: str | None, fresh: bool, journal: Path | None
) -> None:
    """Begin a run that is over anew, here, as RUN.2; with --from with what it left before CELL."""

    async def look(at_hand: Reached) -> tuple[Run, Path]:
        found = await run_of(at_hand.client, run)
        if not found.view.is_done:
            raise Refusal(
                f"{found.key} is not over; `nbdurable runs resume` goes on with it", WAITING
            )
        return found, at_hand.path

    found, path = ask(journal, look)
    ctx.exit(_here(path, found, from_cell, is_sent=False, is_fresh=fresh))


def _here(path: Path, run: Run, from_cell: str | None, *, is_sent: bool, is_fresh: bool) -> int:
    """Run it in the foreground, with the one lock that there is for it."""
    if run.request is None:
        raise Refusal(f"nobody knows any more what {run.key} was asked for; its journal is purged")
    held, until = lock.take(path, run.key), time.monotonic() + _ENDING_S
    while held is None and time.monotonic() < until:
        # A process goes on for a moment after its run: it has a kernel to end.
        time.sleep(_LOOK_S)
        held = lock.take(path, run.key)
    if held is None:
        raise Refusal(f"a process is at {run.key}; wait for it, or `nbdurable cancel` it", WAITING)
    try:
        code = run_here(
            path,
            run.key,
            run.request,
            is_sent=is_sent,
            from_cell=from_cell,
            is_fresh=is_fresh,
        )
    finally:
        lock.let_go(held)
    return code


async def _found(
    at_hand: Reached, notebook: str | None, sweep: str | None
) -> tuple[list[Run], int]:
    client = at_hand.client
    return await runs_of(client, notebook=notebook, sweep=sweep), client.now_ms()


def _view(run: Run, now_ms: int) -> dict[str, Any]:
    return {
        "run": run.key,
        "id": run.view.id,
        "notebook": run.notebook,
        "status": run.status,
        "failure": run.view.failure,
        "parameters": {} if run.request is None else run.request.parameters,
        "sweep": "" if run.request is None else run.request.sweep,
        "output": run.output,
        "created_at_ms": run.view.created_at_ms,
        "completed_at_ms": run.view.completed_at_ms,
        "took_ms": run.took_ms(now_ms),
    }


def _said(key: str, what: str, *, as_json: bool) -> None:
    if as_json:
        write_json({"run": key})
    else:
        click.echo(f"{key} {what}")
