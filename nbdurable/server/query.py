"""`POST /query`: one SELECT over the journal, answered as JSON or as a stream of Arrow.

As with Restate, who accepts JSON by name gets `{"rows": […]}`, and everybody else Arrow: its CLI
asks in both ways. What was left out for want of room is said in a header, which JSON of that shape
has no place for.

Source: restate-http-observed.md, "SQL"; restate-cli-calls.md, "SQL".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from nbdurable.client.engine import EngineClient
from nbdurable.client.found_arrow import stream_of
from nbdurable.client.found_json import FOUND_TYPE, found_json, rows_json
from nbdurable.client.query import Found
from nbdurable.engine.ports import AnswerLimits
from nbdurable.server.answers import Answer
from nbdurable.server.bodies import body_of, refused
from nbdurable.server.cli_queries import translated
from nbdurable.server.waiting import Waiting

# One answer is in memory twice, as rows and as bytes; four may be under way at once.
LIMITS: Final = AnswerLimits(bytes_max=64 * 1024 * 1024)

_JSON_TYPE: Final = "application/json"
_ARROW_TYPE: Final = "application/vnd.apache.arrow.stream"
_WRITERS: Final[dict[str, Callable[[Found], bytes]]] = {
    FOUND_TYPE: found_json,
    _JSON_TYPE: rows_json,
    _ARROW_TYPE: stream_of,
}
_CUT_BY: Final = b"x-nbdurable-cut-by"


class Asked(msgspec.Struct):
    """`parameters` are ours: values for `?` or `$name`."""

    query: str
    parameters: list[Any] | dict[str, Any] | None = None


def query_routes(client: EngineClient) -> list[BaseRoute]:
    async def query(request: Request) -> Answer:
        asked = await body_of(request, Asked)
        content_type = _wanted(",".join(request.headers.getlist("accept")))
        with Waiting(request.scope):
            found = await client.query(translated(asked.query), asked.parameters, LIMITS)
        try:
            body = await asyncio.to_thread(_WRITERS[content_type], found)
        except ImportError:
            raise refused(
                501,
                "answers are given as Arrow unless you accept application/json, and Arrow needs"
                " pyarrow where the engine is; write: pip install 'nbdurable[arrow]'",
            ) from None
        cut = () if found.cut_by is None else ((_CUT_BY, found.cut_by.encode()),)
        return Answer(200, ((b"content-type", content_type.encode()), *cut), body)

    return [Route("/query", query, methods=["POST"])]


def _wanted(accept: str) -> str:
    return next((kind for kind in (FOUND_TYPE, _JSON_TYPE) if kind in accept), _ARROW_TYPE)
