"""Options that several commands take, and how answers are written: as tables, or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from nbdurable.durations import parse_duration

# What is not a terminal has no edge to fold a line at.
_PIPE_COLUMNS: Final = 10_000

journal_option = click.option(
    "--journal",
    type=click.Path(file_okay=False, path_type=Path),
    help="The journal's folder; NBDURABLE_HOME, else ./.nbdurable.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")


class DurationType(click.ParamType[timedelta]):
    """As everywhere people write durations: 500ms, 10m, 1d or PT10S."""

    name = "DURATION"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return timedelta(milliseconds=parse_duration(str(value)))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--journal` and `--json`."""
    return journal_option(json_option(command))


def terminal() -> Console:
    """Standard output: with colours and folded on a terminal, plain and whole in a pipe."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_COLUMNS
    return console


def given(text: str) -> bytes:
    """What an argument stands for: @FILE a file's content, - standard input, else itself."""
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as error:
            raise click.UsageError(f"{text[1:]} cannot be read: {error.strerror}") from None
    return text.encode()


def write_json(value: object) -> None:
    """One JSON value on one line, so that a stream of them can be read as it comes."""
    click.echo(json.dumps(msgspec.to_builtins(value, enc_hook=str), ensure_ascii=False))


def write_table(headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Columns under headings, with nothing between them that would have to be cut away."""
    table = Table(
        *headings, box=None, pad_edge=False, header_style="bold", show_header=any(headings)
    )
    for row in rows:
        table.add_row(*row)
    write(table)


def write(drawn: RenderableType) -> None:
    """On a terminal as it is; in a pipe without the blanks that fill its lines."""
    console = terminal()
    if console.is_terminal:
        console.print(drawn)
        return
    with console.capture() as captured:
        console.print(drawn)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())
