"""Where in the user's code something happened: file and line, for sentences that name them."""

from __future__ import annotations

import sys
import types
from typing import Any

from nbdurable.invoker.report import is_loop, is_users


def calling_line() -> str | None:
    """File and line of the user's code that called us, if any did."""
    frame: types.FrameType | None = sys._getframe(1)  # noqa: SLF001 - inspect.stack reads all source to tell.
    while frame is not None and not is_loop(frame.f_code.co_filename):
        if is_users(frame.f_code.co_filename):
            return _line(frame)
        frame = frame.f_back
    return None


def innermost_line(coroutine: Any) -> str | None:
    """File and line of the user's innermost frame: where the handler waits."""
    found = None
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            break
        if is_users(frame.f_code.co_filename):
            found = _line(frame)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return found


def thread_line(ident: int | None, entry: types.CodeType) -> str | None:
    """File and line where a thread is in the user's code, which `entry` of ours has called.

    Of the file that the user's code begins in: where a library waits tells nobody anything.
    """
    frame = sys._current_frames().get(ident or 0)  # noqa: SLF001 - there is no other way to ask.
    lines: dict[str, str] = {}
    while frame is not None and frame.f_code is not entry:
        file = frame.f_code.co_filename
        if is_users(file):
            # Inside out: the first of each file is its innermost, the last file is the outermost.
            lines[file] = lines.pop(file, _line(frame))
        frame = frame.f_back
    return next(reversed(lines.values()), None)


def _line(frame: types.FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
