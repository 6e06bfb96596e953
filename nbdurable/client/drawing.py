"""Makes the picture of a run from the client's read models, at once or as its journal grows.

Bounded: the newest rows, and the number of those before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from nbdurable.client.folding import Lines
from nbdurable.client.picture import (
    NOTEBOOK,
    Ask,
    Picture,
    Row,
    Surface,
    ask_of,
    deeds_of,
    facts_of,
    failure_of,
    is_stuck,
    row_of,
    short_id,
    status_of,
    tone_of,
    what_to_do,
)
from nbdurable.client.views import EntryView, InvocationView, ask_id_of
from nbdurable.core.values import Question

# A front end lays out this many rows in a frame; those before them are shown when asked for.
ROWS_MAX: Final = 200


class Drawing:
    """Mutable: one run as it is now. What changes is added, and costs what has changed.

    Args:
        notice: What to say about the submission.
        name_files: Says a cell's number where a text names its file.
    """

    def __init__(
        self,
        view: InvocationView,
        *,
        notice: str = "",
        name_files: Callable[[str], str] = str,
        surface: Surface = NOTEBOOK,
    ) -> None:
        self.view = view
        self.lines = Lines()
        self._notice = notice
        self._name_files = name_files
        self._surface = surface
        self._asked: dict[int, EntryView] = {}

    def change(self, view: InvocationView, entries: Iterable[EntryView]) -> set[int]:
        """Entries that are new or have changed; the numbers of rows that differ or are gone."""
        changed = list(entries)
        for entry in changed:
            self._asked.pop(entry.index, None)
            if entry.status == "waiting" and ask_id_of(entry) is not None:
                self._asked[entry.index] = entry
        touched = self.lines.add(changed)
        if view.is_done and not self.view.is_done:
            # What is still open is not needed any more.
            touched |= set(self.lines.indices)
        self.view = view
        return touched

    def row(self, index: int) -> Row:
        return row_of(self.view, self.lines.line(index, is_over=self.view.is_done))

    def newest(self, count_max: int = ROWS_MAX) -> list[Row]:
        return [self.row(index) for index in self.lines.indices[-count_max:]]

    def asks(self) -> list[Ask]:
        """What waits for somebody, each once, in the order of asking."""
        if self.view.is_done or is_stuck(self.view):
            return []
        by_id = {ask_id_of(entry): entry for _, entry in sorted(self._asked.items())}
        return [
            ask_of(ask_id, entry.name, entry.question or Question())
            for ask_id, entry in by_id.items()
            if ask_id is not None
        ]

    def asked(self, ask_id: str) -> EntryView | None:
        """The entry that asks this."""
        return next((e for e in self._asked.values() if ask_id_of(e) == ask_id), None)

    def picture(self, now_ms: int, *, said: str = "", rows: list[Row] | None = None) -> Picture:
        """`said` answers a click. `rows`: the newest, unless whoever draws has them already."""
        view, indices = self.view, self.lines.indices
        shown = self.newest() if rows is None else rows
        failure = self._name_files(failure_of(view))
        is_whole = len(indices) <= ROWS_MAX
        first_at_ms = view.created_at_ms if is_whole else self.row(indices[-ROWS_MAX])["since_ms"]
        return Picture(
            id=view.id,
            short_id=short_id(view.id),
            target=view.target,
            tone=tone_of(view),
            status=status_of(view),
            facts=facts_of(view),
            notice=self._notice,
            failure="" if self._is_said_below(failure) else failure,
            due_at_ms=view.next_retry_at_ms if view.status == "backing-off" else None,
            count=len(indices),
            earlier=max(len(indices) - ROWS_MAX, 0),
            rows=shown,
            waits=[] if view.is_done or is_stuck(view) else list(view.open_promises),
            asks=self.asks(),
            todo=what_to_do(view, self._surface),
            said=said,
            deeds=deeds_of(view),
            began_ms=first_at_ms,
            ended_ms=view.completed_at_ms,
            now_ms=now_ms,
        )

    def _is_said_below(self, failure: str) -> bool:
        """By a row, which says it where it happened."""
        if not failure:
            return False
        shown = self.lines.indices[-ROWS_MAX:]
        return any(failure in self.row(index)["failure"] for index in shown)


def picture_of(
    view: InvocationView,
    entries: Sequence[EntryView],
    now_ms: int,
    *,
    notice: str = "",
    said: str = "",
    name_files: Callable[[str], str] = str,
    surface: Surface = NOTEBOOK,
) -> Picture:
    """All at once. The arguments are those of `Drawing` and of its picture."""
    drawing = Drawing(view, notice=notice, name_files=name_files, surface=surface)
    drawing.change(view, entries)
    return drawing.picture(now_ms, said=said)
