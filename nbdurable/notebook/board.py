"""All runs of the journal, live in the output of one cell: `%durable ls` and `durable.board()`.

Those that wait for a person come first, then the newest. Its rows are what `InvocationTable` shows
as well, which is what stays in the saved notebook. One run at a time is opened below: its journal,
with its buttons.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypedDict

from nbdurable.client.picture import (
    Tone,
    clock_time,
    handy_name,
    short_id,
    status_of,
    tone_of,
    wakes_by,
    what_to_do,
)
from nbdurable.client.questions import Listed
from nbdurable.client.views import InvocationView
from nbdurable.errors import NbdurableError
from nbdurable.notebook.front_end import draws_widgets
from nbdurable.notebook.places import Place
from nbdurable.notebook.session import Session
from nbdurable.notebook.shown import Shown
from nbdurable.notebook.widgets.views_html import InvocationTable
from nbdurable.store.disk import disk_use, shown_bytes

if TYPE_CHECKING:
    from nbdurable.notebook.widgets.board import BoardWidget

# A front end filters these without asking; a longer list is for SQL.
ROWS_MAX: Final = 200
# However old they are: somebody is waited for.
ASKING_MAX: Final = 50
# Boards that are kept up to date: the last ones somebody asked for.
LIVE_MAX: Final = 3
STOPPED: Final = "this list is not kept up to date any more: run its cell again"

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
    wakes: str
    todo: str
    is_done: bool
    asks: bool


class BoardPicture(TypedDict):
    """`found_count` is how many runs there are; `rows` are those that ask, and the newest.

    `said`: why one could not be opened.
    """

    rows: list[BoardRow]
    found_count: int
    disk: str
    said: str


class Board:
    """Mutable: made on the cell's thread, from then on changed by the screen thread only.

    Args:
        count_max: How many of the newest runs the static table shows.
    """

    def __init__(self, session: Session, count_max: int | None = None) -> None:
        self._session = session
        client = session.client
        newest = client.wait(client.newest_invocations(count_max))
        asking = client.wait(client.newest_invocations(ASKING_MAX, asks=True))
        # As it was when it was asked for: what is saved, and what a terminal shows.
        views = _ordered(asking.views, newest.views)
        self._table = InvocationTable(tuple(views), newest.found_count - len(views))
        self._lock = threading.Lock()
        # What the engine has told last. Guarded by the lock.
        self._asking, self._newest = asking, newest
        self._said = ""
        self._shown: Shown | None = None
        self._widget: BoardWidget | None = None
        self._unwatch: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return repr(self._table)

    def _repr_html_(self) -> str:
        return self._table._repr_html_()

    def _ipython_display_(self) -> None:
        table = self._table
        mime = {"text/html": table._repr_html_(), "text/plain": repr(table)}
        place = Place()
        if not draws_widgets(self._session.shell) or not table.views:
            place.show(mime)
            return
        from nbdurable.notebook.widgets.board import BoardWidget

        self._widget = BoardWidget(
            self._session.path.absolute(), self._hear, place=place.name, board=self._picture()
        )
        place.show(mime, self._widget.view_mime())
        watch = self._session.client.watch_newest
        self._unwatch = [
            watch(self._newest_changed, ROWS_MAX),
            watch(self._asking_changed, ASKING_MAX, asks=True),
        ]
        _live.append(self)
        while len(_live) > LIVE_MAX:
            _live.popleft().stop()

    def stop(self) -> None:
        """It stays as it is from now on, and says so."""
        for unwatch in self._unwatch:
            unwatch()
        self._session.screen.draw(object(), self._end)

    # -- on threads of the engine's or of the comm's: these only hand over ----------------------

    def _newest_changed(self, listed: Listed) -> None:
        with self._lock:
            self._newest = listed
        self._session.screen.draw(self, self._draw)

    def _asking_changed(self, listed: Listed) -> None:
        with self._lock:
            self._asking = listed
        self._session.screen.draw(self, self._draw)

    def _hear(self, message: object) -> None:
        match message:
            case {"type": "show", "run": str(run)}:
                self._session.screen.draw(object(), lambda: self._show(run))
            case {"type": "hide"}:
                self._session.screen.draw(object(), self._hide)
            case {"type": str(), "shown": str(run)} if isinstance(message, dict):
                self._session.screen.draw(object(), lambda: self._tell(run, message))
            case _:
                pass

    # -- on the screen thread -------------------------------------------------------------------

    def _draw(self) -> None:
        if self._widget is not None:
            self._widget.board = dict(self._picture())

    def _end(self) -> None:
        self._say(STOPPED)
        if self._shown is not None:
            self._shown.end()
        self._widget = None

    def _tell(self, run: str, message: dict[str, Any]) -> None:
        """Of two pages with this board one may be clicked while the other opens another journal."""
        if self._shown is not None and self._shown.view.id == run:
            self._shown.do(message)
        elif self._widget is not None and message["type"] in {"answer", "reject", "deed"}:
            self._widget.send({"re": message.get("re"), "is_done": True})
            self._say(f"not done: the journal of {short_id(run)} was closed just before")

    def _say(self, said: str) -> None:
        if said != self._said:
            self._said = said
            self._draw()

    def _show(self, run: str) -> None:
        if self._widget is None:
            return
        self._say("")
        self._hide()
        client = self._session.client
        try:
            view = client.wait(client.invocation(run))
            entries = client.wait(client.journal(run))
        except NbdurableError as error:
            self._say(str(error))
            return
        self._shown = Shown(self._session, view, entries)
        self._set(self._shown.traits())
        self._shown.begin(self._widget)

    def _hide(self) -> None:
        if self._widget is None:
            return
        if self._shown is not None:
            self._shown.leave()
            self._shown = None
        self._set({"picture": {}, "rows": {}, "tail": {}, "children": {}})

    def _set(self, traits: dict[str, Any]) -> None:
        assert self._widget is not None, "who has left it says nothing"
        with self._widget.hold_sync():
            for name, value in traits.items():
                setattr(self._widget, name, value)

    def _picture(self) -> BoardPicture:
        with self._lock:
            asking, newest = self._asking, self._newest
        return BoardPicture(
            rows=[row_of(view) for view in _ordered(asking.views, newest.views)],
            found_count=newest.found_count,
            disk=shown_bytes(disk_use(self._session.path).total_bytes),
            said=self._said,
        )


def _ordered(asking: list[InvocationView], newest: list[InvocationView]) -> list[InvocationView]:
    """Those that wait for a person first, the longest waiting before all."""
    first = {view.id: view for view in reversed(asking) if _asks(view)}
    return [*first.values(), *(view for view in newest if view.id not in first)]


def row_of(view: InvocationView) -> BoardRow:
    return BoardRow(
        id=view.id,
        short_id=short_id(view.id),
        name=handy_name(view),
        target=view.target,
        service=view.service,
        tone=tone_of(view),
        status=status_of(view),
        began=clock_time(view.created_at_ms),
        wakes=wakes_by(view),
        todo=what_to_do(view),
        is_done=view.is_done,
        asks=_asks(view),
    )


def _asks(view: InvocationView) -> bool:
    """Of somebody. Who waits for a signal waits for a program."""
    return bool(view.open_promises or view.open_awakeables) and not view.is_done
