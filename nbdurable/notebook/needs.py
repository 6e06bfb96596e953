"""Names that the code of cells looks up in the notebook, and what becomes of runs without them.

`%reset` and `del` take names away from under code that is running; it fails then, and is tried
again. That is said once, when it happens, with what brings the names back.
"""

# IPython annotates its shell in part.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import ast
import dis
import types
from collections.abc import Iterator
from typing import Final

from IPython.core.interactiveshell import InteractiveShell

from nbdurable.client.engine import EngineClient
from nbdurable.notebook.assigned import assigned

# As many as one line can name.
NAMES_MAX: Final = 5
_GLOBALS: Final = frozenset(("LOAD_GLOBAL", "LOAD_NAME"))


class Needs:
    """Mutable: what each cell that was defined here needs, and had when it was."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._names: dict[str, frozenset[str]] = {}

    def __repr__(self) -> str:
        return f"<Needs of {', '.join(self._names) or 'nothing'}>"

    def remember(self, service: str, source: str, own: frozenset[str]) -> None:
        """Of a cell that has just been run. `own` are a run cell's variables."""
        here = self._shell.user_ns.keys() - own
        self._names[service] = looked_up(self._shell, source) & here

    def lost(self) -> dict[str, frozenset[str]]:
        """By service, what is gone since. Not the same again until its cell is."""
        present = self._shell.user_ns.keys()
        gone = {service: names - present for service, names in self._names.items()}
        lost = {service: names for service, names in gone.items() if names}
        for service in lost:
            del self._names[service]
        return lost


def what_misses(lost: dict[str, frozenset[str]], client: EngineClient) -> Iterator[str]:
    """A line for each service that has runs which are not over."""
    views = client.wait(client.invocations())
    for service, names in lost.items():
        count = sum(view.service == service and not view.is_done for view in views)
        if count:
            runs, go = ("run", "goes") if count == 1 else ("runs", "go")
            shown = ", ".join(sorted(names)[:NAMES_MAX])
            more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
            yield (
                f"nbdurable: {count} {runs} of {service} {go} on, and its code misses"
                f" {shown}{more}; nothing is lost: run its cell again, or %durable restore"
                f" {service}"
            )


def looked_up(shell: InteractiveShell, source: str) -> frozenset[str]:
    """What a cell looks up in the notebook's names, but for what it sets in its own scope."""
    code = compile(shell.transform_cell(source), "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return frozenset(_globals_of(code))


def sets(shell: InteractiveShell, source: str) -> frozenset[str]:
    """The names that it sets itself."""
    return assigned(ast.parse(shell.transform_cell(source)).body)


def _globals_of(code: types.CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in _GLOBALS:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals_of(constant)
