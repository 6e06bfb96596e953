"""Bodies of admin requests, read as what they have to be.

Restate answers what it cannot read in text/plain, which its own CLI shows as a protocol error; here
it is JSON like every other error.

Source: restate-http-observed.md, "Admin" (400 and 422); restate-cli-calls.md, "Start-up".
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from starlette.requests import Request

from nbdurable.server.answers import Problem, admin_error

T = TypeVar("T")


async def body_of(request: Request, wanted: type[T]) -> T:
    """Raises Problem: 415 for what is not JSON, 400 for what is broken, 422 for what is not it."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        # Also a wall: a page's form cannot send this type without asking first.
        raise refused(415, "Expected request with `Content-Type: application/json`")
    try:
        return msgspec.json.decode(await request.body(), type=wanted)
    except msgspec.ValidationError as error:
        raise refused(422, f"the JSON body is not what is expected here: {error}") from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise refused(400, f"the request body is not JSON: {error}") from None


def refused(status: int, message: str, restate_code: str | None = None) -> Problem:
    return Problem(admin_error(status, message, restate_code))
