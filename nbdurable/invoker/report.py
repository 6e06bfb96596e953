"""What an exception says to the people who own the code: the user's own frames, nothing of ours."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

from nbdurable.core.values import ErrorReport, Failure
from nbdurable.errors import RetryableError, SerializationError, TerminalError

_OURS = str(Path(__file__).parent.parent)
# Enough for the deepest frame to be seen; a recursion error would otherwise fill the journal.
STACKTRACE_CHARS_MAX = 16_000


def report_of(
    error: BaseException, *, command_index: int | None = None, command_name: str | None = None
) -> ErrorReport:
    retry_after_ms = None
    if isinstance(error, RetryableError) and error.retry_after is not None:
        retry_after_ms = int(error.retry_after.total_seconds() * 1000)
    return ErrorReport(
        code=getattr(error, "status_code", 500),
        message=_said(error),
        type_name=type(error).__qualname__,
        stacktrace=stacktrace_of(error),
        command_index=command_index,
        command_name=command_name,
        heals_by_retry=not isinstance(error, SerializationError),
        retry_after_ms=retry_after_ms,
    )


def failure_of(error: TerminalError) -> Failure:
    return Failure(code=error.status_code, message=error.message, metadata=error.metadata)


def terminal_error_of(failure: Failure) -> TerminalError:
    return TerminalError(failure.message, failure.code, failure.metadata)


def find_terminal(error: BaseException) -> TerminalError | None:
    """The error itself, or the TerminalError it was raised from (`raise … from terminal`)."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, TerminalError):
            return seen
        seen = seen.__cause__
    return None


def stacktrace_of(error: BaseException) -> str:
    """The traceback from the user's first frame on."""
    lines = traceback.format_exception(type(error), error, _first_user_frame(error.__traceback__))
    return "".join(lines)[-STACKTRACE_CHARS_MAX:]


def _first_user_frame(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return trace


def _said(error: BaseException) -> str:
    """Like Restate's SDK: the repr of what was raised; our own errors already are sentences."""
    if isinstance(error, SerializationError | TerminalError | RetryableError):
        return str(error)
    return repr(error)
