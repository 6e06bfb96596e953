"""When each run of a notebook was there: `durable.gantt()`, as HTML and as text."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Final

from nbdurable.client.picture import GLYPHS, clock_time, duration, status_of, tone_of
from nbdurable.notebook.widgets.views_html import CELL, COLOURS, FONT, MUTED
from nbdurable.runs.overview import Bar, drawn

_TEXT_COLUMNS: Final = 40
# One that was over at once is to be seen all the same.
_PERCENT_MIN: Final = 0.5


@dataclass(frozen=True, slots=True)
class Gantt:
    """Oldest first. `now_ms`: until when those are drawn that go on."""

    bars: tuple[Bar, ...]
    now_ms: int

    def __repr__(self) -> str:
        if not self.bars:
            return "no notebook runs yet"
        width = max(len(bar.run.key) for bar in self.bars)
        return "\n".join(self._line(bar, width) for bar in self.bars)

    def _line(self, bar: Bar, width: int) -> str:
        line = "".join(drawn(bar, _TEXT_COLUMNS)).ljust(_TEXT_COLUMNS)
        said = f"{GLYPHS[tone_of(bar.run.view)]} {status_of(bar.run.view)}"
        return f"{bar.run.key:<{width}}  {line}  {said}, {self._took(bar)}"

    def _repr_html_(self) -> str:
        if not self.bars:
            return f'<div style="{FONT}">no notebook runs yet</div>'
        rows = "".join(self._row(bar) for bar in self.bars)
        return (
            f'<div style="{FONT}"><table style="border-collapse: collapse; margin: 0; width: 100%">'
            f"<tbody>{rows}</tbody></table></div>"
        )

    def _row(self, bar: Bar) -> str:
        view = bar.run.view
        tone = tone_of(view)
        left = min(100 * bar.begins, 100 - _PERCENT_MIN)
        wide = max(100 * (bar.ends - bar.begins), _PERCENT_MIN)
        queued = 100 * (bar.starts - bar.begins) / max(bar.ends - bar.begins, 1e-9)
        colours = f"{COLOURS['quiet']} {queued:.2f}%, {COLOURS[tone]} {queued:.2f}%"
        said = f"{GLYPHS[tone]} {status_of(view)}, {self._took(bar)}"
        title = f"{bar.run.key}: {said}, began {clock_time(view.created_at_ms)}"
        shown = (
            f'<div title="{escape(title)}" style="margin-left: {left:.2f}%; width: {wide:.2f}%;'
            " height: 0.8em; border-radius: 2px;"
            f' background: linear-gradient(90deg, {colours})"></div>'
        )
        return (
            f'<tr style="background: none"><td style="{CELL}; white-space: nowrap">'
            f'{escape(bar.run.key)}</td><td style="{CELL}; width: 60%">{shown}</td>'
            f'<td style="{CELL}; {MUTED}; white-space: nowrap">{escape(said)}</td></tr>'
        )

    def _took(self, bar: Bar) -> str:
        return duration(bar.run.took_ms(self.now_ms))
