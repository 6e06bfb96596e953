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
        # It takes a list of frames where IPython's annotations say a traceback.
        frames: Any = []
        self._lines: list[str] = shell.SyntaxTB.structured_traceback(type(error), error, frames)

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
    """The user's frames of an exception that passed through us, as Python prints them."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return "".join(traceback.format_tb(trace))


def stack_lines(shell: InteractiveShell, stack: str) -> list[str]:
    """The frames of a recorded stack, as IPython shows frames; not those below a call into us."""
    lines: list[str] = []
    for line in stack.splitlines():
        frame = _FRAME.match(line)
        if frame is not None:
            if _is_ours(frame["file"]):
                break
            place = f"{cell_names(shell, frame['file'])}, line {frame['line']}, in {frame['name']}"
            lines.append(f"  {_GREEN}{place}{_PLAIN}")
        elif line.startswith("    "):
            lines.append(line)
    return lines


def _is_ours(filename: str) -> bool:
    return filename.startswith(_OURS)


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
