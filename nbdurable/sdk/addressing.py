"""What a call may say besides its argument: a key, an idempotency key, headers, names.

All are texts that a journal holds as JSON. What is none would be found out by the commit, in words
of its own; a number for a key is the most common of these mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional


def problem_with_text(what: str, value: object) -> Optional[str]:
    """Say why this cannot be a text of a journal, or None if it can."""
    if not isinstance(value, str):
        return f"{what} is a text, not {value!r}; write: {str(value)!r}"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return (
            f"{what} {value!r} has half a character at position {error.start}, which no text"
            " outside of Python can have"
        )
    return None


def problem_with_address(key: object, idempotency_key: object, headers: object) -> Optional[str]:
    """Say what is wrong with the first of them that is, or None if nothing is."""
    for what, text in (("a key", key), ("an idempotency key", idempotency_key)):
        problem = None if text is None else problem_with_text(what, text)
        if problem is not None:
            return problem
    if headers is None:
        return None
    if not isinstance(headers, Mapping):
        return f"headers are a dict of texts, not {headers!r}; write: headers={{'name': 'value'}}"
    for name, value in headers.items():
        problem = problem_with_text("the name of a header", name) or problem_with_text(
            f"the header {name!r}", value
        )
        if problem is not None:
            return problem
    return None
