"""What a handler takes: read within bounds, and refused before it is recorded if it cannot be it.

A body that is not JSON would be recorded, run, and fail in the handler with a 500 that Restate
sends; it is the client's mistake, so it is a 400 here.

Source: restate-http-observed.md, "Input validation"; design, section 6.8.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Final

import msgspec

from nbdurable.core.manifest import HandlerManifest
from nbdurable.server.answers import CLOSE, Answer, Problem, Receive, problem

# What is left of a refused body is read and dropped up to here, so that its connection can be used
# again; beyond it, closing is cheaper than listening.
_DRAINED_BYTES_MAX: Final = 64 * 1024

# Checks the syntax and builds nothing: 32 MiB take 60 ms.
_syntax = msgspec.json.Decoder(msgspec.Raw)
_DIGITS_ALIKE: Final = bytes.maketrans(b"123456789", b"0" * 9)


async def read_body(headers: Mapping[str, str], receive: Receive, bytes_max: int) -> bytes:
    """The whole body.

    Raises:
        Problem: 413 as soon as it is known to be too long; 499 when its client has gone.
    """
    if not has_body(headers):
        return b""
    announced = _announced(headers)
    if announced is not None and announced > bytes_max:
        raise _too_long()
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise problem(499, "the client went away before it had sent its request")
        part: bytes = message.get("body", b"")
        length += len(part)
        if length > bytes_max:
            raise _too_long()
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def has_body(headers: Mapping[str, str]) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def closing_if_unread(answer: Answer, headers: Mapping[str, str]) -> Answer:
    """For an answer that is given before its request's body was read."""
    if not has_body(headers):
        return answer
    announced = _announced(headers)
    if announced is not None and announced <= _DRAINED_BYTES_MAX:
        return answer
    return answer._replace(headers=(*answer.headers, CLOSE))


def validate_input(
    handler: HandlerManifest, content_type: str | None, body: bytes, *, is_encoded: bool
) -> None:
    """Raise a 400 for what the handler does not take.

    `is_encoded`: values go through a codec, so nobody but the handler can tell what they are.
    """
    content_type = content_type or None
    if not handler.has_input:
        if body or content_type is not None:
            shown = "None" if content_type is None else f'Some("{content_type}")'
            raise _invalid(
                "Expected body and content-type to be empty, but wasn't with content-type"
                f" '{shown}'"
            )
        return
    if content_type is None:
        if body:
            raise _invalid("Empty content-type")
        return
    if not _matches(handler.accept, content_type):
        raise _invalid(f"Content-type '{content_type}' does not match '{handler.accept}'")
    if not body:
        raise _invalid("Empty body not allowed")
    if handler.reads_json and not is_encoded:
        _validate_json(body)


def _validate_json(body: bytes) -> None:
    try:
        if not body.isascii():
            body.decode()
        _syntax.decode(body)
    except (ValueError, RecursionError):
        _validate_as_python_does(body)
    else:
        if _may_be_too_long_an_integer(body):
            _validate_as_python_does(body)


def _may_be_too_long_an_integer(body: bytes) -> bool:
    """It is JSON, but `int()` refuses more digits than these. A fraction or a text may have them.

    Two passes in C, whatever the body is: 32 MiB take 50 ms.
    """
    digits_max = sys.get_int_max_str_digits()
    if digits_max == 0 or len(body) <= digits_max:
        return False
    return b"0" * (digits_max + 1) in body.translate(_DIGITS_ALIKE)


def _validate_as_python_does(body: bytes) -> None:
    """Handlers read what `json` reads: NaN and half a surrogate, but no endless integer."""
    try:
        json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"the body is not JSON that can be read: {error}") from None


def _matches(accept: str, content_type: str) -> bool:
    """Case counts, as in Restate; what comes after `;` does not."""
    given = content_type.partition(";")[0].strip()
    if accept in (given, "*/*"):
        return True
    return accept.endswith("/*") and given.startswith(accept[:-1])


def _announced(headers: Mapping[str, str]) -> int | None:
    length = headers.get("content-length")
    return int(length) if length is not None and length.isascii() and length.isdigit() else None


def _invalid(message: str) -> Problem:
    return problem(400, f"input validation error: {message}")


def _too_long() -> Problem:
    return Problem(Answer(413, ((b"content-type", b"text/plain"), CLOSE), b"length limit exceeded"))
