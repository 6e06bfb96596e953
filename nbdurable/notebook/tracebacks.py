"""What an error looks like below a cell: the user's frame or one sentence, and no frame of ours.

IPython asks an exception for `_render_traceback_` before it draws the frames itself. It is set on
the one exception that was raised, so its type stays what users catch.

Source: IPython.core.interactiveshell, `showtraceback`.
"""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from IPython.core.interactiveshell import InteractiveShell

_OURS: Final = str(Path(__file__).parent.parent)
_FRAME: Final = re.compile(r'^  File "(?P<file>[^"]*)", line (?P<line>\d+), in (?P<name>.*)$')
# What IPython and ipykernel call the file of a cell.
_CELL_FILE: Final = re.compile(r"<ipython-input-\d+-[0-9a-f]+>|[^\s\"]*/ipykernel_\d+/\d+\.py")
_RED, _GREEN, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[0m"

E = TypeVar("E", bound=BaseException)


class CellSyntaxError(Exception):
    """A cell that Python cannot read, drawn as IPython draws one.

    Not a SyntaxError: for those IPython draws the frames of whoever called it as well.
    """

    def __init__(self, shell: InteractiveShell, error: SyntaxError) -> None:
        super().__init__(str(error))
        # A plain list: the traceback is part of a message, and nothing of the shell may be.
        self._lines: list[str] = shell.SyntaxTB.structured_traceback(type(error), error, [])

    def _render_traceback_(self) -> list[str]:
        return self._lines


def said(error: E, *more: str) -> E:
    """Show the error as `Type: text` and the lines given, without any frames."""
    text = str(error)
    first = f"{_RED}{type(error).__name__}{_PLAIN}" + (f": {text}" if text else "")
    return rendered(error, [first, *more])


def rendered(error: E, lines: list[str]) -> E:
    """Show exactly these lines for the error."""
    changed: Any = error
    changed._render_traceback_ = lambda: lines
    return error


def cut(shell: InteractiveShell, error: E, filename: str) -> E:
    """Show the frames from the first one of this file on; what called it was us."""
    frame = _first_frame(error.__traceback__, filename)
    if frame is None:
        return error
    lines: list[str] = shell.InteractiveTB.structured_traceback(
        type(error), error, frame, tb_offset=0
    )
    return rendered(error, lines)


def user_stack(error: BaseException) -> str:
    """The frames of an exception that are the user's, as Python prints them."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_OURS)
    ]
    return "".join(traceback.format_list(frames))


def stack_lines(shell: InteractiveShell, stack: str) -> list[str]:
    """The frames of a recorded stack, as IPython shows frames."""
    lines: list[str] = []
    for line in stack.splitlines():
        frame = _FRAME.match(line)
        if frame is not None:
            place = f"{cell_names(shell, frame['file'])}, line {frame['line']}, in {frame['name']}"
            lines.append(f"  {_GREEN}{place}{_PLAIN}")
        elif line.startswith("    "):
            lines.append(line)
    return lines


def cell_names(shell: InteractiveShell, text: str) -> str:
    """The text with cells named as people know them; those of an earlier kernel have no number."""

    def named(file: re.Match[str]) -> str:
        known = shell.compile.format_code_name(file[0])
        return " ".join(known) if known else "a cell of an earlier kernel"

    return _CELL_FILE.sub(named, text)


def _first_frame(trace: TracebackType | None, filename: str) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename != filename:
        trace = trace.tb_next
    return trace
