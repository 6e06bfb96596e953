"""Static pictures, as HTML and as text.

The HTML has inline styles only, which is what survives a saved notebook, GitHub and nbconvert.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from html import escape
from typing import Any, Final

from nbdurable.client.picture import (
    GLYPHS,
    Picture,
    Row,
    Tone,
    bar,
    clock_time,
    short_id,
    shortened,
    status_of,
    tone_of,
    wakes_by,
    what_to_do,
    when,
)
from nbdurable.client.query import Found
from nbdurable.client.views import EntryView, InvocationView

# Middle tones that can be read on white and on black, where no theme says otherwise.
COLOURS: Final[dict[Tone, str]] = {
    "ok": "var(--jp-success-color0, var(--vscode-charts-green, #2e8540))",
    "bad": "var(--jp-error-color1, var(--vscode-errorForeground, #d32f2f))",
    "busy": "var(--jp-brand-color1, var(--vscode-textLink-foreground, #1976d2))",
    "waits": "var(--jp-warn-color0, var(--vscode-charts-orange, #b26a00))",
    "quiet": "var(--jp-ui-font-color2, var(--vscode-descriptionForeground, #757575))",
}
FONT: Final = (
    "font-family: var(--jp-ui-font-family, var(--vscode-font-family, system-ui, sans-serif));"
    " font-size: var(--jp-ui-font-size1, 13px);"
    " color: var(--jp-ui-font-color1, var(--vscode-foreground, inherit))"
)
_MONO: Final = "font-family: var(--jp-code-font-family, monospace); background: none; padding: 0"
# Front ends stripe tables; a journal is no table of numbers.
_ROW: Final = "background: none"
MUTED: Final = f"color: {COLOURS['quiet']}"
CELL: Final = "text-align: left; padding: 1px 10px 1px 0; vertical-align: top; border: 0"
# As high as the live one: what follows in the notebook is to be found.
_SCROLLS: Final = "max-height: 24em; overflow: auto"
# As pandas does: a page and no more.
_ROWS_SHOWN: Final = 60
_ENTRY_FIELDS: Final = [field.name for field in fields(EntryView)]
_COLUMNS: Final = (
    *("kind", "name", "status", "started_at", "ended_at", "took"),
    *("arguments", "value", "failure", "failure_count", "output"),
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """What a verb has done."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f'<div style="{FONT}; white-space: pre-wrap">{escape(self.text)}</div>'


@dataclass(frozen=True, slots=True)
class Columns:
    """Lines whose words stand below each other."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f'<pre style="{_MONO}; margin: 0">{escape(self.text)}</pre>'


@dataclass(frozen=True, slots=True)
class StaticJournal:
    """One run as it was when this was made: to look at, and as a DataFrame."""

    picture: Picture
    entries: tuple[EntryView, ...] = ()

    def __repr__(self) -> str:
        return picture_text(self.picture)

    def df(self) -> Any:  # noqa: ANN401 - pandas need not be there.
        """One row per entry, all of them.

        Shape: index the entry's number; kind, name, status, arguments, value (JSON), failure and
        output are text; started_at and ended_at are UTC; took is a timedelta; failure_count.
        Needs pandas.
        """
        import pandas as pd

        frame = pd.DataFrame([asdict(entry) for entry in self.entries], columns=_ENTRY_FIELDS)
        started = pd.to_datetime(frame["started_at_ms"], unit="ms", utc=True)
        ended = pd.to_datetime(frame["ended_at_ms"], unit="ms", utc=True)
        timed = frame.assign(started_at=started, ended_at=ended, took=ended - started)
        return timed.set_index("index")[list(_COLUMNS)]

    def _repr_html_(self) -> str:
        return picture_html(self.picture)


@dataclass(frozen=True, slots=True)
class InvocationTable:
    """What `%durable ls` shows. `hidden` counts those left out."""

    views: tuple[InvocationView, ...]
    hidden: int = 0

    def __repr__(self) -> str:
        if not self.views:
            return "no runs yet"
        titles, rows = self._said()
        lines = _columns([tuple(title.upper() for title in titles), *rows])
        return "\n".join([*lines, *self._more()])

    def _repr_html_(self) -> str:
        if not self.views:
            return f'<div style="{FONT}">no runs yet</div>'
        titles, rows = self._said()
        head = "".join(f'<th style="{CELL}; {MUTED}">{title}</th>' for title in titles)
        body = "".join(
            _tr(_table_cells(view, row)) for view, row in zip(self.views, rows, strict=True)
        )
        more = "".join(f'<div style="{MUTED}">{escape(line)}</div>' for line in self._more())
        return (
            f'<div style="{FONT}"><table style="border-collapse: collapse; margin: 0">'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}</div>"
        )

    def _said(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """Titles and cells. A column that says nothing is left out."""
        titles = ("id", "target", "status", "began", "wakes by", "next")
        rows = [
            (
                short_id(view.id),
                view.target,
                f"{GLYPHS[tone_of(view)]} {status_of(view)}",
                clock_time(view.created_at_ms),
                wakes_by(view),
                what_to_do(view),
            )
            for view in self.views
        ]
        kept = [n for n in range(len(titles)) if any(row[n] for row in rows)]
        return [titles[n] for n in kept], [tuple(row[n] for n in kept) for row in rows]

    def _more(self) -> list[str]:
        return [f"… and {self.hidden} older: %durable ls --all"] if self.hidden else []


@dataclass(frozen=True, slots=True)
class FoundTable:
    """What a query has found, where there is no pandas to show it."""

    found: Found

    def __repr__(self) -> str:
        return "\n".join([*_columns([self.found.columns, *self._rows()]), *self._more()])

    def _repr_html_(self) -> str:
        head = "".join(f'<th style="{CELL}; {MUTED}">{escape(c)}</th>' for c in self.found.columns)
        body = "".join(_tr([escape(cell) for cell in row]) for row in self._rows())
        more = "".join(f'<div style="{MUTED}">{escape(line)}</div>' for line in self._more())
        return (
            f'<div style="{FONT}"><table style="border-collapse: collapse; margin: 0">'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}</div>"
        )

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            tuple("" if cell is None else shortened(str(cell)) for cell in row)
            for row in self.found.rows[:_ROWS_SHOWN]
        ]

    def _more(self) -> list[str]:
        hidden = len(self.found.rows) - _ROWS_SHOWN
        return [f"… and {hidden} more: pip install pandas to have them all"] if hidden > 0 else []


def picture_html(picture: Picture) -> str:
    head = f"<strong>{escape(picture['target'])}</strong> &nbsp;"
    short = f'<code style="{_MONO}">{picture["short_id"]}</code>'
    lines = [
        f'<div style="margin: 2px 0">{head}{_chip(picture["tone"], picture["status"])}</div>',
        f'<div style="{MUTED}; font-size: 90%">{short} · {escape(picture["facts"])}</div>',
    ]
    lines += [_line(picture["notice"])] if picture["notice"] else []
    if picture["failure"]:
        lines.append(_line(picture["failure"], f"color: {COLOURS['bad']}; white-space: pre-wrap"))
    earlier = f"… {picture['earlier']} earlier entries"
    lines += [_line(earlier, MUTED)] if picture["earlier"] else []
    rows = "".join(_html_row(row, picture) for row in picture["rows"])
    table = (
        f'<div style="{_SCROLLS}"><table style="border-collapse: collapse; margin: 4px 0">'
        f"<tbody>{rows}</tbody></table></div>"
    )
    todo = _line(f"to do: {picture['todo']}", MUTED) if picture["todo"] else ""
    return f'<div style="{FONT}">{"".join(lines)}{table}{todo}</div>'


def picture_text(picture: Picture) -> str:
    lines = [
        f"{picture['target']}  {GLYPHS[picture['tone']]} {picture['status']}",
        f"{picture['short_id']} · {picture['facts']}",
    ]
    lines += [picture["notice"]] if picture["notice"] else []
    lines += [picture["failure"]] if picture["failure"] else []
    lines += [f"… {picture['earlier']} earlier entries"] if picture["earlier"] else []
    rows = picture["rows"]
    cells = [
        (
            f"{row['index']:>4}  {GLYPHS[row['tone']]} {row['kind']}",
            row["name"],
            when(row),
            " ".join(filter(None, (shortened(row["failure"] or row["value"]), row["by"]))),
        )
        for row in rows
    ]
    for line, row in zip(_columns(cells), rows, strict=True):
        lines += [line, *(f"      | {said}" for said in row["output"].splitlines())]
    lines += [f"to do: {picture['todo']}"] if picture["todo"] else []
    return "\n".join(lines)


def _table_cells(view: InvocationView, said: Sequence[str]) -> list[str]:
    """What is said of it, with its id and its status as they look everywhere."""
    id_, target, _, *rest = said
    chip = _chip(tone_of(view), status_of(view))
    return [f'<code style="{_MONO}">{id_}</code>', escape(target), chip, *map(escape, rest)]


def _tr(cells: Sequence[str]) -> str:
    inner = "".join(f'<td style="{CELL}">{cell}</td>' for cell in cells)
    return f'<tr style="{_ROW}">{inner}</tr>'


def _html_row(row: Row, picture: Picture) -> str:
    colour = COLOURS[row["tone"]]
    failed = f'<span style="color: {COLOURS["bad"]}">{escape(row["failure"])}</span>'
    cells = [
        f'<span style="color: {colour}">{GLYPHS[row["tone"]]}</span>',
        f'<span style="{MUTED}">{escape(row["kind"])}</span>',
        escape(row["name"]),
        f'<span style="{MUTED}">{escape(when(row))}</span>',
        _html_bar(row, picture),
        (failed if row["failure"] else f'<code style="{_MONO}">{escape(row["value"])}</code>')
        + (f'<div style="{MUTED}">{escape(row["by"])}</div>' if row["by"] else ""),
    ]
    *short, value = cells
    # A number and its unit stay together, however long the value is.
    inner = "".join(f'<td style="{CELL}; white-space: nowrap">{cell}</td>' for cell in short)
    line = f'<tr style="{_ROW}">{inner}<td style="{CELL}">{value}</td></tr>'
    return line + _html_output(row["output"])


def _html_bar(row: Row, picture: Picture) -> str:
    """When it was, on the whole run's time: a picture of what the column before it says."""
    left, width = bar(row, picture)
    inner = (
        f"background: {COLOURS[row['tone']]}; height: 6px; min-width: 2px; opacity: 0.7;"
        f" margin-left: {left:.1%}; width: {width:.1%}"
    )
    return f'<div style="width: 120px; margin-top: 6px"><div style="{inner}"></div></div>'


def _html_output(text: str) -> str:
    """What was printed, below the row it belongs to."""
    if not text:
        return ""
    pre = f'<pre style="{_MONO}; margin: 0 0 2px; white-space: pre-wrap">{escape(text)}</pre>'
    return f'<tr style="{_ROW}"><td></td><td colspan="5" style="{CELL}">{pre}</td></tr>'


def _chip(tone: Tone, text: str) -> str:
    return (
        f'<span style="color: {COLOURS[tone]}; white-space: nowrap">'
        f"{GLYPHS[tone]} {escape(text)}</span>"
    )


def _line(text: str, style: str = "") -> str:
    return f'<div style="{style}">{escape(text)}</div>'


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
