"""Where something live is shown: a widget, and below it the picture that is saved in its place.

Two outputs, because a front end that finds a widget in one that was saved shows nothing else of it,
not even that it has no kernel. While the widget is drawn it hides the picture; where there is no
widget any more, in a notebook that is opened again, on GitHub, in nbconvert, the picture is there.
"""

# IPython annotates `display` in part.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

from IPython.display import display, update_display

# JupyterLab says of a widget without a kernel that its model is not found, and the picture below
# says it better.
_STYLE: Final = (
    "<style>.jp-OutputArea-child:has(> .jupyter-widgets):not(:has(.nbdurable))"
    ":has(+ .jp-OutputArea-child .nbd-static) { display: none }</style>"
)
_NOTHING: Final = {"text/plain": ""}

Mime = dict[str, Any]


class Place:
    """Mutable: two outputs of one cell, or one, to be drawn anew from any thread."""

    def __init__(self) -> None:
        self.name = f"nbdurable-{uuid4().hex}"
        self._has_widget = False

    def show(self, picture: Mime, widget: Mime | None = None) -> None:
        """Here, in the cell that runs. Without a widget there is nothing but the picture."""
        if widget is None:
            display(picture, raw=True, display_id=self.name)
            return
        self._has_widget = True
        display({**widget, **_NOTHING}, raw=True, display_id=self.name)
        display(self._below(picture), raw=True, display_id=self._name_below)

    def update(self, picture: Mime) -> None:
        """Of what is live, the picture that would be saved now."""
        if self._has_widget:
            self._update(self._name_below, self._below(picture))
        else:
            self._update(self.name, picture)

    def end(self, picture: Mime) -> None:
        """In place of the widget, for good."""
        self._update(self.name, picture)
        self._update(self._name_below, _NOTHING)

    @property
    def _name_below(self) -> str:
        return f"{self.name}-saved"

    def _below(self, picture: Mime) -> Mime:
        html = f'{_STYLE}<div class="nbd-static {self.name}">{picture["text/html"]}</div>'
        return {**picture, "text/html": html}

    def _update(self, name: str, mime: Mime) -> None:
        # From another thread it belongs to the cell that runs now, not to the one that shows it:
        # front ends find the place by its id, and nbclient hears only the cell that runs.
        update_display(mime, display_id=name, raw=True)
