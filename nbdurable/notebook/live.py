"""One run, live in the output of one cell: drawn, redrawn, and at the end left as a static picture.

The widget is there only while there is something to wait for. What stays in the saved notebook, on
GitHub and in nbconvert is HTML and text, because those have no kernel to ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbdurable.client.picture import Picture
from nbdurable.client.views import EntryView, InvocationView
from nbdurable.notebook.front_end import draws_widgets
from nbdurable.notebook.places import Place
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
        self._place = Place()
        self._widget: JournalWidget | None = None
        # Of what nobody draws a widget of there is a picture, which is drawn when a cell ends.
        self._is_picture = not draws_widgets(session.shell)
        self._matters = self._shown.matters()
        self._settled = view.headline

    def show(self) -> None:
        """Draw it here, and keep it up to date until the run is finished."""
        picture = self._shown.picture()
        if self._shown.view.is_done or not _has_kernel(self._session):
            self._place.show(static_mime(picture))
            return
        self._session.live.append(self)
        if self._is_picture:
            self._place.show(static_mime(picture))
            return
        from nbdurable.notebook.widgets.journal import JournalWidget

        folder, traits = self._session.path.absolute(), self._shown.traits()
        self._widget = JournalWidget(folder, self._shown.hear, place=self._place.name, **traits)
        self._place.show(static_mime(picture), self._widget.view_mime())
        self._shown.begin(self._widget)

    def settle(self) -> bool:
        """At the end of a cell: have what the notebook is saved with be true; whether it is over.

        Front ends find the place of an update whenever it comes. Whoever executes a notebook hears
        only the cell that runs, and may have missed one that came between two.
        """
        client, place = self._session.client, (self, "settled")
        if self._widget is None and not self._is_picture:
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
        if self._widget is not None or self._is_picture:
            self._place.update(static_mime(self._shown.picture()))

    def _show_last(self) -> None:
        self._place.end(static_mime(self._shown.picture()))

    def _drawn(self) -> None:
        if self._widget is None:
            return
        if self._shown.view.is_done:
            # Kept open: in a page that was reloaded meanwhile the widget alone is there to draw it.
            self._shown.end()
            self._widget = None
            self._show_last()
            return
        matters = self._shown.matters()
        if matters != self._matters:
            # A notebook that is saved now shows what it waits for, or why it does not go on.
            self._matters = matters
            self._place.update(static_mime(self._shown.picture()))


def static_mime(picture: Picture) -> dict[str, Any]:
    return {"text/html": picture_html(picture), "text/plain": picture_text(picture)}


def _has_kernel(session: Session) -> bool:
    """A terminal draws nothing anew."""
    return getattr(session.shell, "kernel", None) is not None
