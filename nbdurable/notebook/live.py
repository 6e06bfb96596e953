"""One run, live in the output of one cell: drawn, redrawn, and at the end left as a static picture.

The widget is there only while there is something to wait for. What stays in the saved notebook, on
GitHub and in nbconvert is HTML and text, because those have no kernel to ask.
"""

# IPython annotates `display` in part.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from IPython.display import display, update_display

from nbdurable.client.picture import Ask, Picture
from nbdurable.client.views import EntryView, InvocationView
from nbdurable.notebook.session import Session
from nbdurable.notebook.shown import Shown
from nbdurable.notebook.widgets.views_html import picture_html, picture_text

if TYPE_CHECKING:
    from nbdurable.notebook.widgets.journal import JournalWidget


class LiveJournal:
    """Mutable; made on the cell's thread, from then on changed by the screen thread only."""

    def __init__(self, session: Session, invocation_id: str, notice: str) -> None:
        self._session = session
        client = session.client
        view = client.wait(client.invocation(invocation_id))
        entries = client.wait(client.journal(invocation_id))
        self._shown = Shown(session, view, entries, notice=notice, drawn=self._drawn)
        self._place = f"nbdurable-{uuid4().hex}"
        self._widget: JournalWidget | None = None
        self._asks: list[Ask] = []
        self._settled = view.headline

    def show(self) -> None:
        """Draw it here, and keep it up to date until the run is finished."""
        picture = self._shown.picture()
        if self._shown.view.is_done or not _has_front_end(self._session):
            display(static_mime(picture), raw=True, display_id=self._place)
            return
        from nbdurable.notebook.widgets.journal import JournalWidget

        self._widget = JournalWidget(
            self._session.path.absolute(), self._shown.hear, **self._shown.traits()
        )
        self._asks = picture["asks"]
        display(self._mime(picture), raw=True, display_id=self._place)
        self._shown.begin(self._widget)
        self._session.live.append(self)

    def settle(self) -> bool:
        """At the end of a cell: have what the notebook is saved with be true; whether it is over.

        Front ends find the place of an update whenever it comes. Whoever executes a notebook hears
        only the cell that runs, and may have missed one that came between two.
        """
        client, place = self._session.client, (self, "settled")
        if self._widget is None:
            self._session.screen.draw(place, self._show_last)
            return True
        view = client.wait(client.invocation(self._shown.view.id))
        if view.headline != self._settled:
            self._settled = view.headline
            entries = client.wait(client.journal(view.id))
            self._session.screen.draw(place, lambda: self._show_now(view, entries))
        return view.is_done

    def _show_now(self, view: InvocationView, entries: tuple[EntryView, ...]) -> None:
        self._shown.catch_up(view, entries)
        self._update(self._mime(self._shown.picture()))

    def _show_last(self) -> None:
        self._update(static_mime(self._shown.picture()))

    def _drawn(self) -> None:
        if self._widget is None:
            return
        if self._shown.view.is_done:
            # Kept open: in a page that was reloaded meanwhile the widget alone is there to draw it.
            self._shown.end()
            self._widget = None
            self._show_last()
            return
        asks = self._shown.asks()
        if asks != self._asks:
            # A notebook that is saved while it waits shows what it waits for.
            self._asks = asks
            self._update(self._mime(self._shown.picture()))

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
