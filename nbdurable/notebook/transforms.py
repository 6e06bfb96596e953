"""What happens to a cell before it is run: run cells are awaited, mistyped magics told so.

IPython has read the cell by then: its magics are calls, each at the beginning of a line.
"""

from __future__ import annotations

import re
from typing import Final

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbdurable.notebook.spelling import near

_RUN_CELL: Final = "get_ipython().run_cell_magic('durable_run'"
_CALL: Final = re.compile(r"get_ipython\(\)\.run_(?P<kind>line|cell)_magic\('(?P<name>\w+)'")


class Transform:
    """One of IPython's input transformers. Mutable as the shell is whose magics it knows."""

    def __init__(self, shell: InteractiveShell, names: dict[str, list[str]]) -> None:
        """`names` of ours, for `line` and `cell`."""
        self._shell = shell
        self._names = names

    def __repr__(self) -> str:
        return f"<Transform for {', '.join(self._names['cell'])}>"

    def __call__(self, lines: list[str]) -> list[str]:
        """Raises UsageError for a magic that is nearly one of ours, and nobody's."""
        for line in lines:
            call = _CALL.match(line)
            if call is not None:
                self._check(call["kind"], call["name"])
        if lines and lines[0].startswith(_RUN_CELL) and self._shell.autoawait:
            return [f"await {lines[0]}", *lines[1:]]
        return lines

    def _check(self, kind: str, name: str) -> None:
        manager = self._shell.magics_manager
        if name in manager.magics[kind] or name in manager.lazy_magics:
            return
        found = near(name, self._names[kind])
        if found is not None:
            sign = "%" if kind == "line" else "%%"
            raise UsageError(f"there is no {sign}{name}; did you mean {sign}{found}?")
