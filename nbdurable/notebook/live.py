"""One run, live in the output of one cell: drawn, redrawn, and at the end left as a static picture.

The widget is there only while there is something to wait for. What stays in the saved notebook, on
GitHub and in nbconvert is HTML and text, because those have no kernel to ask.
"""

# IPython annotates `display` in part; an answer is any value.
# ruff: noqa: ANN401
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from IPython.display import display, update_display

from nbdurable.client.answers import (
    APPROVED,
    REJECTED_MESSAGE,
    Awaited,
    answer,
    awaited_at,
    reject,
)
from nbdurable.client.picture import Ask, Picture, picture_of
from nbdurable.client.views import EntryView, InvocationView
from nbdurable.errors import NbdurableError
from nbdurable.notebook.session import Session
from nbdurable.notebook.tracebacks import cell_names
from nbdurable.notebook.widgets.views_html import picture_html, picture_text

if TYPE_CHECKING:
    from nbdurable.notebook.widgets.journal import JournalWidget

# A click that is heard later was given to the Jupyter server as well; see door.js.
LATE_MS = 1500
# Cancelling and killing twice is doing it once.
_UNDONE_BY_EACH_OTHER = ("pause", "resume")


class LiveJournal:
    """Mutable; made on the cell's thread, from then on changed by the screen thread only."""

    def __init__(self, session: Session, invocation_id: str, notice: str) -> None:
        self._session = session
        self._id = invocation_id
        self._notice = notice
        self._said = ""
        self._place = f"nbdurable-{uuid4().hex}"
        self._widget: JournalWidget | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self._asks: list[Ask] = []
        self._latest: tuple[InvocationView, tuple[EntryView, ...]] | None = None

    def show(self) -> None:
        """Draw it here, and keep it up to date until the run is finished."""
        client = self._session.client
        view = client.wait(client.invocation(self._id))
        picture = self._picture(view, client.wait(client.journal(self._id)))
        if view.is_done or not _has_front_end(self._session):
            display(static_mime(picture), raw=True, display_id=self._place)
            return
        from nbdurable.notebook.widgets.journal import JournalWidget

        self._widget = JournalWidget(
            picture, self._session.path.absolute(), self._answered, self._rejected, self._deed
        )
        self._asks = picture["asks"]
        display(self._mime(picture), raw=True, display_id=self._place)
        self._unwatch = client.watch(self._id, self._changed)

    def _changed(self, view: InvocationView, entries: tuple[EntryView, ...]) -> None:
        """On the engine's thread: only hands over."""
        self._session.screen.draw(self, lambda: self._draw(view, entries))

    def _draw(self, view: InvocationView, entries: tuple[EntryView, ...]) -> None:
        if self._widget is None:
            return
        self._latest = view, entries
        picture = self._picture(view, entries)
        self._widget.picture = dict(picture)
        if view.is_done:
            self._unwatch()
            # Kept open: in a page that was reloaded meanwhile the widget alone is there to draw it.
            self._widget = None
            self._update(static_mime(picture))
        elif picture["asks"] != self._asks:
            # A notebook that is saved while it waits shows what it waits for.
            self._asks = picture["asks"]
            self._update(self._mime(picture))

    def _answered(self, ask_id: str, value: Any) -> None:
        """A click, on whichever thread the comm has: only hands over."""
        self._session.screen.draw(object(), lambda: self._answer(ask_id, value))

    def _rejected(self, ask_id: str, message: str) -> None:
        self._session.screen.draw(object(), lambda: self._reject(ask_id, message))

    def _answer(self, ask_id: str, value: Any) -> None:
        asked = self._asked(ask_id)
        done = "approved" if value is APPROVED else "answered"
        self._tell(answer(self._session.client, asked, value), done, asked)

    def _reject(self, ask_id: str, message: str) -> None:
        asked = self._asked(ask_id)
        rejecting = reject(self._session.client, asked, message or REJECTED_MESSAGE)
        self._tell(rejecting, "rejected", asked)

    def _deed(self, name: str, at_ms: int) -> None:
        late_ms = self._session.client.now_ms() - at_ms
        self._session.screen.draw(object(), lambda: self._do(name, late_ms))

    def _do(self, name: str, late_ms: int) -> None:
        """As `%durable pause` and so on do it; a name that is none of them is nobody's click.

        By the time a late one is heard the Jupyter server may have done it, and somebody undone it.
        """
        client = self._session.client
        if late_ms > LATE_MS and name in _UNDONE_BY_EACH_OTHER:
            self._show_said(
                f"{name} was clicked {late_ms // 1000} s ago; it is not done now. If it is still"
                " meant, click again"
            )
            return
        deeds: dict[str, tuple[Callable[[str], Coroutine[Any, Any, None]], str]] = {
            "pause": (client.pause, "paused"),
            "resume": (client.resume, "it is tried again"),
            "cancel": (client.cancel, "cancelled: its next await raises TerminalError"),
            "kill": (client.kill, "killed"),
        }
        if name in deeds:
            do, done = deeds[name]
            self._say(do(self._id), done)

    def _asked(self, ask_id: str) -> Awaited:
        assert self._latest is not None, "a button is drawn before it can be clicked"
        view, entries = self._latest
        return awaited_at(view, next(e for e in entries if ask_id in (e.awakeable_id, e.name)))

    def _tell(self, answering: Coroutine[Any, Any, None], done: str, asked: Awaited) -> None:
        self._say(answering, f"{done} '{asked.name}'")

    def _say(self, doing: Coroutine[Any, Any, None], done: str) -> None:
        try:
            self._session.client.wait(doing)
        except NbdurableError as error:
            self._show_said(str(error))
        else:
            self._show_said(done)

    def _show_said(self, said: str) -> None:
        self._said = said
        assert self._latest is not None
        self._draw(*self._latest)

    def _picture(self, view: InvocationView, entries: tuple[EntryView, ...]) -> Picture:
        now_ms = self._session.client.now_ms()
        named = partial(cell_names, self._session.shell)
        return picture_of(
            view, entries, now_ms, notice=self._notice, said=self._said, name_files=named
        )

    def _mime(self, picture: Picture) -> dict[str, Any]:
        widget = {} if self._widget is None else self._widget.view_mime()
        return {**widget, **static_mime(picture)}

    def _update(self, mime: dict[str, Any]) -> None:
        # From this thread it belongs to the cell that runs now, not to the one that shows it: front
        # ends find the place by its id, and nbclient hears only the cell that runs.
        update_display(mime, display_id=self._place, raw=True)


def static_mime(picture: Picture) -> dict[str, Any]:
    return {"text/html": picture_html(picture), "text/plain": picture_text(picture)}


def _has_front_end(session: Session) -> bool:
    """A terminal has nothing to draw a widget with; a kernel may have."""
    return getattr(session.shell, "kernel", None) is not None
