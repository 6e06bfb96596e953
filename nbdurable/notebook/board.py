"""All runs of the journal, live in the output of one cell: `%durable ls` and `durable.board()`.

Its rows are what `InvocationTable` shows as well, which is what stays in the saved notebook.
"""

# IPython annotates `display` in part.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypedDict

from IPython.display import display

from nbdurable.client.picture import (
    Tone,
    clock_time,
    handy_name,
    short_id,
    status_of,
    tone_of,
    what_to_do,
)
from nbdurable.client.questions import Listed
from nbdurable.client.views import InvocationView
from nbdurable.notebook.session import Session
from nbdurable.notebook.widgets.views_html import InvocationTable
from nbdurable.store.disk import disk_use, shown_bytes

if TYPE_CHECKING:
    from nbdurable.notebook.widgets.board import BoardWidget

# A front end filters these without asking; a longer list is for SQL.
ROWS_MAX: Final = 200
# Boards that are kept up to date: the last ones somebody asked for.
LIVE_MAX: Final = 3

_live: Final[deque[Board]] = deque()


class BoardRow(TypedDict):
    id: str
    short_id: str
    name: str
    target: str
    service: str
    tone: Tone
    status: str
    began: str
    todo: str
    is_done: bool


class BoardPicture(TypedDict):
    """`found_count` is how many runs there are; `rows` are the newest of them."""

    rows: list[BoardRow]
    found_count: int
    disk: str


class Board:
    """Mutable: made on the cell's thread, from then on changed by the screen thread only.

    Args:
        count_max: How many of the newest runs the static table shows.
    """

    def __init__(self, session: Session, count_max: int | None = None) -> None:
        self._session = session
        client = session.client
        listed = client.wait(client.newest_invocations(count_max))
        # As it was when it was asked for: what is saved, and what a terminal shows.
        self._table = InvocationTable(tuple(listed.views), listed.found_count - len(listed.views))
        self._widget: BoardWidget | None = None
        self._unwatch: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return repr(self._table)

    def _repr_html_(self) -> str:
        return self._table._repr_html_()

    def _ipython_display_(self) -> None:
        table = self._table
        mime = {"text/html": table._repr_html_(), "text/plain": repr(table)}
        if getattr(self._session.shell, "kernel", None) is None or not table.views:
            display(mime, raw=True)
            return
        from nbdurable.notebook.widgets.board import BoardWidget

        listed = Listed(list(table.views), len(table.views) + table.hidden)
        self._widget = BoardWidget(self._picture(listed))
        display({**self._widget.view_mime(), **mime}, raw=True)
        self._unwatch = self._session.client.watch_newest(self._changed, ROWS_MAX)
        _live.append(self)
        while len(_live) > LIVE_MAX:
            _live.popleft().stop()

    def stop(self) -> None:
        """It stays as it is from now on."""
        self._unwatch()
        self._widget = None

    def _changed(self, listed: Listed) -> None:
        """On the engine's or the link's thread: only hands over."""
        self._session.screen.draw(self, lambda: self._draw(listed))

    def _draw(self, listed: Listed) -> None:
        if self._widget is not None:
            self._widget.board = dict(self._picture(listed))

    def _picture(self, listed: Listed) -> BoardPicture:
        return BoardPicture(
            rows=[_row(view) for view in listed.views],
            found_count=listed.found_count,
            disk=shown_bytes(disk_use(self._session.path).total_bytes),
        )


def _row(view: InvocationView) -> BoardRow:
    return BoardRow(
        id=view.id,
        short_id=short_id(view.id),
        name=handy_name(view),
        target=view.target,
        service=view.service,
        tone=tone_of(view),
        status=status_of(view),
        began=clock_time(view.created_at_ms),
        todo=what_to_do(view),
        is_done=view.is_done,
    )
