"""The live journal of one run in the output of a cell, with the questions it asks.

All it shows is in synced traits: a view that is drawn late is right at once, which custom messages
cannot promise. A click comes back as one message, and what somebody wants to see more of is
answered by one; see `shown.py` for what they say.

Importing this module imports anywidget, which takes longer than all the rest of `notebook`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import anywidget
import traitlets

STATIC: Final = Path(__file__).parent / "static"
# A front end takes one module, and files that import each other would need a build.
_JOURNAL: Final = ("rows.js", "door.js", "question.js", "deeds.js", "journal.js")

Hear = Callable[[object], None]


def module_of(last: str) -> str:
    """The parts of a journal, and the one that draws a widget with it."""
    return "\n".join((STATIC / part).read_text(encoding="utf-8") for part in (*_JOURNAL, last))


class JournalWidget(anywidget.AnyWidget):
    """Mutable; its traits are set by the screen thread only."""

    # Text, not paths: a path would make anywidget look for a file watcher.
    _esm = module_of("journal_widget.js")
    _css = (STATIC / "journal.css").read_text(encoding="utf-8")
    # Of the run, all but its rows.
    picture = traitlets.Dict().tag(sync=True)
    # The newest rows as they were once, and what is new since; see `patches.py`.
    rows = traitlets.Dict().tag(sync=True)
    tail = traitlets.Dict().tag(sync=True)
    # The pictures of runs that are opened below the rows which called them, by their ids.
    children = traitlets.Dict().tag(sync=True)
    # The class of the picture below, which nobody needs while this is drawn; see `places.py`.
    place = traitlets.Unicode().tag(sync=True)
    # Its folder, for the Jupyter server: where the kernel does not hear a click, that one does.
    journal = traitlets.Unicode().tag(sync=True)

    def __init__(self, journal: Path, hear: Hear, **traits: object) -> None:
        """`journal` is the folder that the run is in; `hear` is called with what a page says."""
        super().__init__(journal=str(journal), **traits)
        self.on_msg(lambda _widget, content, _buffers: hear(content))

    def view_mime(self) -> dict[str, Any]:
        """What makes a front end draw this widget; empty where there is none to draw it."""
        return view_mime_of(self)


def view_mime_of(widget: anywidget.AnyWidget) -> dict[str, Any]:
    bundle: Any = widget._repr_mimebundle_()
    data: dict[str, Any] = bundle[0] if isinstance(bundle, tuple) else bundle
    return {mime: value for mime, value in (data or {}).items() if mime.startswith("application/")}
