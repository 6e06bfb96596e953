"""All runs, live in the output of one cell: filtered where they are shown, one of them opened.

Importing this module imports anywidget, which takes longer than all the rest of `notebook`.
"""

from __future__ import annotations

import traitlets

from nbdurable.notebook.widgets.journal import STATIC, JournalWidget, module_of


class BoardWidget(JournalWidget):
    """Mutable; its traits are set by the screen thread only. `picture` is empty while none is open.

    Attributes:
        board: The list, of which what is opened is one.
    """

    _esm = module_of("board.js")
    # Chips and tones are the journal's.
    _css = "".join(
        (STATIC / name).read_text(encoding="utf-8") for name in ("journal.css", "board.css")
    )
    board = traitlets.Dict().tag(sync=True)
