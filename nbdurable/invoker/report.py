"""What an exception says to the people who own the code: the user's own frames, nothing of ours."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import traceback
from pathlib import Path
from typing import TypeVar

from nbdurable.core.attempt import MismatchError
from nbdurable.core.values import MISMATCH_CODE, ErrorReport, Failure
from nbdurable.errors import (
    ArgumentError,
    ContextMisuseError,
    DefinitionError,
    RetryableError,
    SerializationError,
    TerminalError,
)
from nbdurable.invoker.payloads import ms_of

E = TypeVar("E", bound=BaseException)

# Mistakes in the code, which the next attempt would make again.
_MISTAKES = (ArgumentError, ContextMisuseError, DefinitionError, SerializationError)

# Ours, and what stands between us and the user's code: nobody looks for their mistake there.
_MACHINERY = tuple(
    str(folder) + os.sep
    for folder in (
        Path(__file__).parent.parent,
        Path(asyncio.__file__).parent,
        Path(concurrent.futures.__file__).parent,
    )
)
# Enough for the deepest frame to be seen; a recursion error would otherwise fill the journal.
STACKTRACE_CHARS_MAX = 16_000
# Enough of two values to see how they differ; the journal has the rest.
VALUE_CHARS_MAX = 200


def report_of(
    error: BaseException,
    *,
    command_index: int | None = None,
    command_name: str | None = None,
    completion_id: int | None = None,
) -> ErrorReport:
    """`command_name` and `completion_id` are of the step that raised, if one did."""
    retry_after_ms = None
    retryable = find_retryable(error)
    if retryable is not None and retryable.retry_after is not None:
        retry_after_ms = ms_of(retryable.retry_after)
    return ErrorReport(
        code=_code(getattr(error, "status_code", 500)),
        message=_said(error),
        type_name=type(error).__qualname__,
        stacktrace=stacktrace_of(error),
        command_index=command_index,
        command_name=command_name,
        completion_id=completion_id,
        heals_by_retry=not isinstance(error, _MISTAKES),
        retry_after_ms=retry_after_ms,
    )


def mismatch_report(error: MismatchError, line: str | None) -> ErrorReport:
    accept = ""
    if error.mismatch.can_accept:
        accept = ", or accept what is recorded in its place"
    ways_out = (
        "Ways out: resume it on the revision that wrote this journal; end it and restart it as new"
        f" from an entry before this one{accept}."
    )
    where = f"\n  at {line}" if line else ""
    attempted = error.mismatch.attempted
    was, now = error.mismatch.recorded_payload, error.mismatch.attempted_payload
    values = f"\n  value: recorded {_shown(was)}, attempted {_shown(now)}" if was != now else ""
    return ErrorReport(
        code=MISMATCH_CODE,
        message=f"{error}{values}{where}\n{ways_out}",
        type_name="JournalMismatchError",
        command_index=error.mismatch.command_index,
        command_name=None if attempted is None else attempted.name,
        heals_by_retry=False,
        can_accept=error.mismatch.can_accept,
    )


def two_awaits_report(line: str | None) -> ErrorReport:
    """Their order would be the clock's, not the journal's, so that replay could not repeat it."""
    where = f"\n  at {line}" if line else ""
    return ErrorReport(
        code=572,
        message="two tasks of one handler await futures of its ctx at the same time; wait for"
        f" several with nbdurable's gather(), select() or as_completed() instead{where}",
        type_name="ConcurrentAwaitError",
        heals_by_retry=False,
    )


def failure_of(error: TerminalError) -> Failure:
    """What the handler said, as the journal can hold it: people raise numbers and exceptions."""
    metadata = error.metadata and {_text(k): _text(v) for k, v in error.metadata.items()}
    return Failure(
        code=_code(error.status_code), message=_text(error.message), metadata=metadata or None
    )


def terminal_error_of(failure: Failure) -> TerminalError:
    return TerminalError(failure.message, failure.code, failure.metadata)


def find_terminal(error: BaseException) -> TerminalError | None:
    """The error itself, or the TerminalError it was raised from (`raise … from terminal`)."""
    return _find(error, TerminalError)


def find_retryable(error: BaseException) -> RetryableError | None:
    """The same, of a RetryableError."""
    return _find(error, RetryableError)


def stacktrace_of(error: BaseException) -> str:
    """The traceback, and those of its causes, with the frames of users' code only."""
    told = traceback.TracebackException.from_exception(error)
    _leave_users_frames(told)
    return _text("".join(told.format()))[-STACKTRACE_CHARS_MAX:]


def is_users(filename: str) -> bool:
    return not filename.startswith(_MACHINERY)


def is_loop(filename: str) -> bool:
    """Below this frame is whoever runs the loop, never whom we serve."""
    return filename.startswith(_MACHINERY[1])


def _leave_users_frames(told: traceback.TracebackException) -> None:
    told.stack = traceback.StackSummary.from_list(
        [frame for frame in told.stack if is_users(frame.filename)]
    )
    # What was raised and caught within our code is not the user's affair.
    if told.__cause__ is not None and _began_with_us(told.__cause__):
        told.__cause__, told.__suppress_context__ = None, True
    if told.__context__ is not None and _began_with_us(told.__context__):
        told.__context__ = None
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            _leave_users_frames(other)


def _began_with_us(told: traceback.TracebackException) -> bool:
    return bool(told.stack) and not is_users(told.stack[0].filename)


def _said(error: BaseException) -> str:
    """Like Restate's SDK: the repr of what was raised; our own errors already are sentences."""
    if isinstance(error, (*_MISTAKES, TerminalError, RetryableError)):
        return _text(error)
    try:
        return _text(repr(error))
    except Exception:  # noqa: BLE001 - border: the repr is the user's code too.
        return f"{type(error).__qualname__}, whose repr cannot be made"


def _find(error: BaseException, kind: type[E]) -> E | None:
    cause: BaseException | None = error
    seen: list[BaseException] = []
    # `raise error from error` makes it its own cause, which Python allows.
    while cause is not None and cause not in seen:
        if isinstance(cause, kind):
            return cause
        seen.append(cause)
        cause = cause.__cause__
    return None


def _code(status_code: object) -> int:
    return int(status_code) if isinstance(status_code, int) else 500


def _text(said: object) -> str:
    """As text that UTF-8 can hold: half a character would make the journal unreadable."""
    try:
        text = str(said)
    except Exception:  # noqa: BLE001 - border: the str is the user's code too.
        text = f"{type(said).__qualname__}, whose text cannot be made"
    return text.encode(errors="backslashreplace").decode()


def _shown(payload: bytes) -> str:
    text = payload.decode(errors="replace")
    return f"{text[:VALUE_CHARS_MAX]}…" if len(text) > VALUE_CHARS_MAX else text or "nothing"
