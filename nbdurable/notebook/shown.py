"""One run in a widget: drawn as it goes on, and told what is clicked.

A page says, each with a type:

    answer  id, value       a question's answer; a `comment` is kept beside it
    reject  id, message     its rejection, with a reason
    deed    name, at_ms     one of the picture's deeds; to restart, perhaps `from_entry`
    earlier re, before      rows before this one; with `words`, of all rows those with these in them
    value   re, run, index  all that an entry holds
    open, close  run        show a run below the row that called it
    curl    re              the call that began it, for a terminal

What has a `re` is answered by a message with the same, and a click by two: `is_done` is false when
it is taken up, and true when it is done or refused. `shown` is the run in whose journal it was
said. Everything is done on the screen thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from nbdurable.client.curl import curl_of
from nbdurable.client.drawing import Drawing
from nbdurable.client.picture import Ask, Picture, failure_of
from nbdurable.client.questions import JournalPart
from nbdurable.client.views import EntryView, InvocationView
from nbdurable.errors import NbdurableError
from nbdurable.notebook.branches import Branches
from nbdurable.notebook.clicks import Clicks
from nbdurable.notebook.session import Session
from nbdurable.notebook.tracebacks import cell_names
from nbdurable.notebook.widgets.patches import Patches

if TYPE_CHECKING:
    from nbdurable.notebook.widgets.journal import JournalWidget

# A page asks for as many at once as it can lay out without standing still.
PAGE_ROWS_MAX: Final = 200


class Shown:
    """Mutable: made on the cell's thread, from then on changed by the screen thread only.

    Args:
        drawn: Called on the screen thread whenever it was drawn anew.
    """

    def __init__(
        self,
        session: Session,
        view: InvocationView,
        entries: tuple[EntryView, ...],
        *,
        notice: str = "",
        drawn: Callable[[], None] = lambda: None,
    ) -> None:
        self._session = session
        self._id = view.id
        # A click may come when the journal is closed, and must not open it.
        self._now_ms = session.client.now_ms
        self._notice = notice
        self._drawn = drawn
        self._said = ""
        self._drawing = self._new_drawing(view)
        self._drawing.change(view, entries)
        self._patches = Patches()
        self._branches = Branches(session, self._show_branches)
        self._widget: JournalWidget | None = None
        self._is_live = False
        # What the engine has told and nobody has drawn, from its threads to the screen's.
        self._parts: deque[JournalPart] = deque()
        self._unwatch: Callable[[], None] = lambda: None

    @property
    def view(self) -> InvocationView:
        return self._drawing.view

    def matters(self) -> tuple[list[Ask], str]:
        """What a person has to know even of a picture that is not live: questions and failures."""
        return self._drawing.asks(), failure_of(self.view)

    def picture(self) -> Picture:
        """Whole, with its newest rows."""
        return self._drawing.picture(self._session.client.now_ms(), said=self._said)

    def traits(self) -> dict[str, Any]:
        """What a widget of it begins with."""
        return {"picture": self._head(), "children": {}, **self._patches.whole(self._drawing)}

    def begin(self, widget: JournalWidget) -> None:
        """Keep this widget up to date from now on."""
        self._widget = widget
        self._is_live = True
        self._unwatch = self._session.client.watch_changes(self._id, self._changed)

    def end(self) -> None:
        """The widget stays as it is, and what is clicked there is still done and answered."""
        self._unwatch()
        self._branches.end()
        self._is_live = False

    def leave(self) -> None:
        """The same, and the widget is another one's from now on."""
        self.end()
        self._widget = None

    def catch_up(self, view: InvocationView, entries: tuple[EntryView, ...]) -> None:
        """On the screen thread: draw it as it is now, whatever the engine has told so far."""
        self._parts.append(JournalPart(view=view, entries=entries, is_first=True))
        self._draw()

    def hear(self, message: object) -> None:
        """On whichever thread the comm has: only hands over."""
        if isinstance(message, dict) and isinstance(message.get("type"), str):
            self._session.screen.draw(object(), lambda: self.do(message))

    # -- what is drawn ------------------------------------------------------------------------

    def _changed(self, part: JournalPart) -> None:
        """On a thread of the engine's: only hands over."""
        self._parts.append(part)
        self._session.screen.draw(self, self._draw)

    def _draw(self) -> None:
        parts = [self._parts.popleft() for _ in range(len(self._parts))]
        touched: set[int] = set()
        is_new = False
        for part in parts:
            if part.is_first:
                self._drawing, is_new = self._new_drawing(part.view), True
            touched |= self._drawing.change(part.view, part.entries)
        if self._widget is None:
            return
        if not self._is_live:
            # In a page that was loaded anew the widget of what is over is still there.
            self._widget.picture = self._head()
            return
        told = (
            self._patches.whole(self._drawing)
            if is_new
            else self._patches.patch(self._drawing, touched)
        )
        with self._widget.hold_sync():
            self._widget.picture = self._head()
            for name, value in told.items():
                setattr(self._widget, name, value)
        self._drawn()

    def _show_branches(self, pictures: dict[str, Any]) -> None:
        if self._widget is not None:
            self._widget.children = pictures

    def _head(self) -> dict[str, Any]:
        now_ms = self._session.client.now_ms()
        return dict(self._drawing.picture(now_ms, said=self._said, rows=[]))

    def _new_drawing(self, view: InvocationView) -> Drawing:
        named = partial(cell_names, self._session.shell)
        return Drawing(view, notice=self._notice, name_files=named)

    # -- what is clicked ----------------------------------------------------------------------

    def do(self, message: dict[str, Any]) -> None:
        """On the screen thread: what a page has said."""
        match message:
            case {"type": "earlier", "re": re, "before": int(before)}:
                self._reply(re, self._rows_before(before, str(message.get("words") or "")))
            case {"type": "value", "re": re, "run": str(run), "index": int(index)}:
                self._reply(re, self._value(run, index))
            case {"type": "curl", "re": re}:
                self._reply(re, self._curl())
            case {"type": "open", "run": str(run)}:
                self._branches.open(run)
            case {"type": "close", "run": str(run)}:
                self._branches.close(run)
            case _:
                self._click(message)

    def _click(self, message: dict[str, Any]) -> None:
        """It is said at once that it is heard: what takes long must not be asked for elsewhere."""
        clicks = Clicks(self._session.client, self._drawing, self._session.who)
        doing = clicks.doing(message, self._now_ms())
        if doing is None:
            return
        self._reply(message.get("re"), {"is_done": False})
        said = doing if isinstance(doing, str) else self._done(*doing)
        # Before it is drawn: that may be the last of this widget.
        self._reply(message.get("re"), {"is_done": True})
        self._say(said)

    def _rows_before(self, before: int, words: str) -> dict[str, Any]:
        """A page of them, and how many are before it; with words, only those that have them all."""
        lines = self._drawing.lines
        if not words:
            indices = lines.before(before, PAGE_ROWS_MAX)
            rows = [self._drawing.row(index) for index in indices]
            return {"rows": rows, "earlier": lines.indices.index(indices[0]) if indices else 0}
        wanted = words.lower().split()
        found = []
        for index in reversed(lines.before(before, len(lines))):
            row = self._drawing.row(index)
            said = f"{row['kind']} {row['name']} {row['status']} {row['value']} {row['failure']}"
            if all(word in said.lower() for word in wanted):
                found.append(row)
            if len(found) == PAGE_ROWS_MAX:
                break
        return {"rows": found[::-1], "earlier": 0}

    def _value(self, run: str, index: int) -> dict[str, Any]:
        client = self._session.client
        try:
            return {"text": client.wait(client.entry_text(run, index))}
        except NbdurableError as error:
            return {"text": str(error)}

    def _curl(self) -> dict[str, Any]:
        from nbdurable.server.address import served_at

        served = served_at(self._session.path)
        if served is None:
            return {"text": "nobody serves this journal: %durable up"}
        argument = self._value(self._id, 0)["text"]
        return {"text": curl_of(self.view, argument, served.ingress, served.token_file)}

    def _reply(self, re: object, reply: dict[str, Any]) -> None:
        if self._widget is not None and isinstance(re, str):
            self._widget.send({"re": re, **reply})

    def _done(self, doing: Coroutine[Any, Any, Any], done: str) -> str:
        """What to say of it."""
        try:
            self._session.client.wait(doing)
        except NbdurableError as error:
            return str(error)
        return done

    def _say(self, said: str) -> None:
        if said != self._said:
            self._said = said
            self._draw()
