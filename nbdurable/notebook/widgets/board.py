"""All runs, live in the output of one cell, to be filtered where they are shown.

Importing this module imports anywidget, which takes longer than all the rest of `notebook`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import anywidget
import traitlets

from nbdurable.notebook.widgets.journal import view_mime_of

if TYPE_CHECKING:
    from nbdurable.notebook.board import BoardPicture

_STATIC: Final = Path(__file__).parent / "static"


class BoardWidget(anywidget.AnyWidget):
    """Mutable; `board` is set by the screen thread only."""

    _esm = (_STATIC / "board.js").read_text(encoding="utf-8")
    # Chips and tones are the journal's.
    _css = "".join(
        (_STATIC / name).read_text(encoding="utf-8") for name in ("journal.css", "board.css")
    )
    board = traitlets.Dict().tag(sync=True)

    def __init__(self, board: BoardPicture) -> None:
        super().__init__(board=board)

    def view_mime(self) -> dict[str, object]:
        """What makes a front end draw this widget; empty where there is none to draw it."""
        return view_mime_of(self)
