"""What a page has to be told of rows: the least that makes it right, also one that comes late.

Two traits hold the newest rows: `rows`, all of them as they were once, and `tail`, what is new
since. Only the tail is sent, until it is long. Whoever draws late takes both and has everything;
messages would be lost on whoever is not there yet.
"""

from __future__ import annotations

from typing import Any, Final

from nbdurable.client.drawing import Drawing
from nbdurable.client.picture import Row

# At a hundred rows a second, and five patches, the whole is sent twice a second.
TAIL_MAX: Final = 40
# As many as a page shows that comes late; those before them are a click away.
NEWEST_MAX: Final = 100


class Patches:
    """Mutable: what was sent of one drawing. Owned by whoever sends."""

    def __init__(self) -> None:
        self._seq = 0
        self._tail: set[int] = set()

    def whole(self, drawing: Drawing) -> dict[str, Any]:
        """Both traits, of a drawing that nothing was told of."""
        return self._again(drawing, set(), is_new=True)

    def patch(self, drawing: Drawing, touched: set[int]) -> dict[str, Any]:
        """The traits to set, now that these rows differ or are gone."""
        if len(self._tail | touched) > TAIL_MAX:
            return self._again(drawing, touched, is_new=False)
        self._tail |= touched
        return {"tail": self._tail_of(drawing)}

    def _again(self, drawing: Drawing, touched: set[int], *, is_new: bool) -> dict[str, Any]:
        """All rows; those of `touched` that are older than these go with the tail."""
        self._seq += 1
        newest = drawing.newest(NEWEST_MAX)
        first = newest[0]["index"] if newest else 0
        self._tail = {index for index in touched if index < first or not drawing.lines.has(index)}
        rows = {"seq": self._seq, "rows": newest, "is_new": is_new}
        return {"rows": rows, "tail": self._tail_of(drawing)}

    def _tail_of(self, drawing: Drawing) -> dict[str, Any]:
        rows: list[Row] = []
        gone: list[int] = []
        for index in sorted(self._tail):
            if drawing.lines.has(index):
                rows.append(drawing.row(index))
            else:
                gone.append(index)
        return {"seq": self._seq, "rows": rows, "gone": gone}
