"""What is found in an error."""

from __future__ import annotations

from nbdurable import RetryableError, TerminalError
from nbdurable.invoker.report import find_retryable, find_terminal


def test_what_an_error_was_raised_from_counts():
    error, terminal = ValueError("wrapped"), TerminalError("no tea")
    error.__cause__ = terminal
    assert find_terminal(error) is terminal
    assert find_retryable(error) is None
    assert find_retryable(RetryableError("busy")) is not None


def test_an_error_may_be_its_own_cause():
    """`raise error from error` is allowed, and nobody must search it for ever."""
    error = ValueError("again")
    error.__cause__ = error
    assert find_terminal(error) is None
