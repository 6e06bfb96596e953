"""Errors on their way between handlers of ours and the official SDK: each side's own class."""

from __future__ import annotations

from typing import Any

from nbdurable.errors import SdkInternalBaseException, SuspendedException, TerminalError
from nbdurable.invoker.report import failure_of, find_retryable, find_terminal


def theirs(restate: Any, error: Exception) -> Exception | None:
    """As the official SDK knows it, also if it only was the cause; None if it is any error."""
    terminal = find_terminal(error)
    if terminal is not None:
        failure = failure_of(terminal)
        ended: Exception = restate.TerminalError(failure.message, failure.code, failure.metadata)
        return ended
    retryable = find_retryable(error)
    if retryable is not None:
        again: Exception = restate.exceptions.RetryableError(
            retryable.message, retryable.status_code, retryable.retry_after
        )
        return again
    return None


def ours(restate: Any, error: BaseException) -> BaseException:
    """As user code of nbdurable catches it; `theirs_again` undoes it for what is theirs alone."""
    if isinstance(error, restate.TerminalError):
        return TerminalError(error.message, error.status_code, error.metadata)
    if isinstance(error, restate.SdkInternalBaseException):
        return SuspendedException(str(error))
    return error


def theirs_again(error: SdkInternalBaseException) -> BaseException:
    """What `ours` was raised from: their control flow, on its way out."""
    return error.__cause__ or error
