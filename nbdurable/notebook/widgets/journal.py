"""The live journal of one run in the output of a cell, with the questions it asks.

The widget holds one picture, a synced trait: a view that is drawn late is right at once, which
custom messages cannot promise. A click comes back as one message, of type `answer`, `reject` or
`deed`.

Importing this module imports anywidget, which takes longer than all the rest of `notebook`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import anywidget
import traitlets

from nbdurable.client.picture import Picture

_STATIC: Final = Path(__file__).parent / "static"
# A front end takes one module, and files that import each other would need a build.
_MODULE: Final = ("rows.js", "door.js", "question.js", "journal.js")

Answer = Callable[[str, Any], None]
Reject = Callable[[str, str], None]
Do = Callable[[str, int], None]


class JournalWidget(anywidget.AnyWidget):
    """Mutable; `picture` is set by the screen thread only."""

    # Text, not paths: a path would make anywidget look for a file watcher.
    _esm = "\n".join((_STATIC / part).read_text(encoding="utf-8") for part in _MODULE)
    _css = (_STATIC / "journal.css").read_text(encoding="utf-8")
    picture = traitlets.Dict().tag(sync=True)
    # Its folder, for the Jupyter server: where the kernel does not hear a click, that one does.
    journal = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        picture: Picture,
        journal: Path,
        on_answer: Answer,
        on_reject: Reject,
        on_deed: Do,
    ) -> None:
        """`on_answer` is called with a question's id and the answer, `on_reject` with a reason.

        `on_deed` with one of the picture's deeds and when it was clicked. `journal` is the folder
        that the run is in.
        """
        super().__init__(picture=picture, journal=str(journal))
        self._on_answer = on_answer
        self._on_reject = on_reject
        self._on_deed = on_deed
        self.on_msg(self._hear)

    def view_mime(self) -> dict[str, Any]:
        """What makes a front end draw this widget; empty where there is none to draw it."""
        return view_mime_of(self)

    def _hear(self, _widget: object, content: object, _buffers: object) -> None:
        match content:
            case {"type": "answer", "id": str(ask_id), "value": value}:
                self._on_answer(ask_id, value)
            case {"type": "reject", "id": str(ask_id), "message": str(message)}:
                self._on_reject(ask_id, message)
            case {"type": "deed", "name": str(name), "at_ms": int(at_ms)}:
                self._on_deed(name, at_ms)
            case _:
                pass


def view_mime_of(widget: anywidget.AnyWidget) -> dict[str, Any]:
    bundle: Any = widget._repr_mimebundle_()
    data: dict[str, Any] = bundle[0] if isinstance(bundle, tuple) else bundle
    return {mime: value for mime, value in (data or {}).items() if mime.startswith("application/")}
