"""The runs that a run has called, opened below the rows that called them, each as it goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from nbdurable.client.drawing import Drawing
from nbdurable.client.questions import JournalPart
from nbdurable.errors import InvocationNotFoundError
from nbdurable.notebook.session import Session
from nbdurable.notebook.tracebacks import cell_names

# Each is drawn anew when it changes; somebody who opens more looks at the last ones.
OPEN_MAX: Final = 12
ROWS_MAX: Final = 50


class Branches:
    """Mutable: which runs are opened. Owned by the screen thread, but for what has come in.

    Args:
        show: Called on the screen thread with their pictures, by their ids.
    """

    def __init__(self, session: Session, show: Callable[[dict[str, Any]], None]) -> None:
        self._session = session
        self._show = show
        self._open: dict[str, _Branch] = {}
        # Why those that were asked for cannot be shown.
        self._gone: dict[str, str] = {}

    def open(self, run: str) -> None:
        if run in self._open:
            return
        while len(self._open) >= OPEN_MAX:
            self.close(next(iter(self._open)))
        self._gone.pop(run, None)
        try:
            self._session.client.wait(self._session.client.invocation(run))
        except InvocationNotFoundError as error:
            # It may have been purged, or not begun yet.
            self._gone[run] = str(error)
            self._draw()
            return
        branch = _Branch(self._session, run, self._draw)
        self._open[run] = branch
        branch.begin()

    def close(self, run: str) -> None:
        self._gone.pop(run, None)
        branch = self._open.pop(run, None)
        if branch is not None:
            branch.unwatch()
            self._draw()

    def end(self) -> None:
        for branch in self._open.values():
            branch.unwatch()
        self._open = {}

    def _draw(self) -> None:
        pictures = {run: branch.picture() for run, branch in self._open.items()}
        shown = {run: picture for run, picture in pictures.items() if picture is not None}
        self._show({**shown, **{run: {"problem": why} for run, why in self._gone.items()}})


class _Branch:
    """Mutable: one of them, and what has been told of it."""

    def __init__(self, session: Session, run: str, changed: Callable[[], None]) -> None:
        self._session = session
        self._run = run
        self._changed = changed
        self._drawing: Drawing | None = None
        self._parts: deque[JournalPart] = deque()
        self.unwatch: Callable[[], None] = lambda: None

    def begin(self) -> None:
        self.unwatch = self._session.client.watch_changes(self._run, self._hear)

    def picture(self) -> dict[str, Any] | None:
        """None until something is known of it."""
        if self._drawing is None:
            return None
        rows = self._drawing.newest(ROWS_MAX)
        now_ms = self._session.client.now_ms()
        earlier = len(self._drawing.lines) - len(rows)
        return {**self._drawing.picture(now_ms, rows=rows), "earlier": earlier}

    def _hear(self, part: JournalPart) -> None:
        """On a thread of the engine's: only hands over."""
        self._parts.append(part)
        self._session.screen.draw(self, self._draw)

    def _draw(self) -> None:
        parts = [self._parts.popleft() for _ in range(len(self._parts))]
        for part in parts:
            if part.is_first:
                named = partial(cell_names, self._session.shell)
                self._drawing = Drawing(part.view, name_files=named)
            assert self._drawing is not None, "the first part comes first"
            self._drawing.change(part.view, part.entries)
        self._changed()
