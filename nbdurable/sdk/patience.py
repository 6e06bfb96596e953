"""How an error says that it wants to be left alone for a while, as answers 429 do."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Optional, cast

from nbdurable.errors import RetryableError, TerminalError

# They ask for patience, where an answer of any other status does not.
_BUSY: Final = (429, 503)


def retry_after_of(error: Exception) -> Optional[timedelta]:
    """How long an error asks to be waited for; None if it does not say."""
    if isinstance(error, TerminalError):
        return None
    if isinstance(error, RetryableError):
        return error.retry_after
    answer = getattr(error, "response", None)
    if answer is None:  # Not merely false, as an answer of requests is from status 400 on.
        answer = error
    status = getattr(answer, "status_code", None) or getattr(answer, "code", None)
    said = getattr(error, "retry_after", None)
    if said is None and status in _BUSY:
        read = getattr(getattr(answer, "headers", None), "get", None)
        said = read("Retry-After") if callable(read) else None
    return None if said is None else _duration(said)


def _duration(said: object) -> Optional[timedelta]:
    """Of a timedelta, of seconds, or of a header: seconds or a date."""
    if isinstance(said, timedelta):
        return max(said, timedelta())
    try:
        return timedelta(seconds=max(0.0, float(cast("Any", said))))
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        at = email.utils.parsedate_to_datetime(str(said))
    except (TypeError, ValueError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    # Inside a step, so that what is recorded is the pause and not the date.
    return max(at - datetime.now(UTC), timedelta())
