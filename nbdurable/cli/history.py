"""What the journal knows, asked in SQL and taken out of it: `sql`, `export`."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Final

import click

from nbdurable.cli.exits import Refusal
from nbdurable.cli.owner import Reached, ask
from nbdurable.cli.words import DurationType, common, given, write_json, write_table
from nbdurable.client.found_json import found_json
from nbdurable.client.query import Found
from nbdurable.engine.ports import AnswerLimits
from nbdurable.invoker.payloads import ms_of

# As many as a person reads; a program says how many it wants.
ROWS_SHOWN: Final = 1_000
_CELL_CHARS_MAX: Final = 80


@click.command
@click.argument("query", metavar="SELECT")
@click.option("--rows", type=click.IntRange(min=1), default=ROWS_SHOWN, show_default=True)
@click.option("--timeout", type=DurationType(), default="30s", show_default=True)
@common
def sql(query: str, rows: int, timeout: timedelta, journal: Path | None, as_json: bool) -> None:
    """Ask one SELECT of the journal: of sys_invocation, sys_journal, state and the others.

    The tables are Restate's; the dialect is DuckDB's. SELECT may be @FILE, or - for standard input.
    """
    limits = AnswerLimits(time_ms=ms_of(timeout), rows_max=rows)
    text = given(query).decode(errors="replace")

    async def look(at_hand: Reached) -> Found:
        return await at_hand.client.query(text, None, limits)

    found = ask(journal, look)
    # As it is written for other programs: times, bytes and lengths of time as text.
    cells = json.loads(found_json(found))["rows"]
    if as_json:
        write_json([dict(zip(found.columns, row, strict=True)) for row in cells])
    else:
        write_table(found.columns, [[_shown(cell) for cell in row] for row in cells])
    if found.cut_by is not None:
        what = f"--rows {rows}" if found.cut_by == "rows" else "their size"
        click.echo(f"there are more, cut by {what}", err=True)


@click.command
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--run", help="Only what belongs to this run, its key and its service.")
@click.option("--no-payloads", is_flag=True, help="Leave out arguments, results, state, output.")
@common
def export(
    folder: Path, run: str | None, no_payloads: bool, journal: Path | None, as_json: bool
) -> None:
    """Write the journal's tables as Parquet files into a new FOLDER.

    For a bug report: `nbdurable export report --run order-456 --no-payloads`. Names, and messages
    of failures, stay in it: look at them before you send it.
    """

    async def work(at_hand: Reached) -> dict[str, int]:
        client = at_hand.client
        invocation_id = None if run is None else (await client.find(run)).id
        try:
            return await client.export(
                folder, invocation_id=invocation_id, payloads=not no_payloads
            )
        except ImportError as error:
            raise Refusal(str(error)) from None

    row_counts = ask(journal, work)
    if as_json:
        write_json({"folder": str(folder), "row_counts": row_counts})
        return
    write_table(
        ("FILE", "ROWS"),
        [(f"{folder / name}.parquet", str(count)) for name, count in row_counts.items()],
    )


def _shown(cell: object) -> str:
    match cell:
        case None:
            return ""
        case str():
            text = cell
        case _:
            text = json.dumps(cell, ensure_ascii=False)
    first, newline, _ = text.partition("\n")
    if len(first) > _CELL_CHARS_MAX or newline:
        return f"{first[: _CELL_CHARS_MAX - 1]}…"
    return first
