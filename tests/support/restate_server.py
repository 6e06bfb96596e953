"""As much of a Restate server as it takes to run one attempt of a handler on an endpoint.

Messages of the service protocol, version 6, request/response: a header of eight bytes (type, flags,
length), then protobuf.

Source: restate-semantics.md, 5 (framing, message types).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

Asgi = Callable[[Any, Any, Any], Awaitable[None]]

START, SUSPENSION, ERROR, END = 0x0000, 0x0001, 0x0002, 0x0003
PROPOSE_RUN = 0x0005
INPUT, OUTPUT, SET_STATE, GET_STATE = 0x0400, 0x0401, 0x0403, 0x0407
SLEEP, CALL, RUN = 0x040C, 0x040D, 0x0411
SLEEP_DONE, CALL_DONE, CALL_ID, RUN_DONE = 0x840C, 0x840D, 0x840E, 0x8411
CONTENT_TYPE = b"application/vnd.restate.invocation.v6"

Fields = list[tuple[int, "int | str | bytes | Fields"]]


class Message(NamedTuple):
    kind: int
    fields: dict[int, Any]


class Failed(NamedTuple):
    code: int
    message: str


async def request(app: Asgi, path: str, body: bytes = b"", accept: bytes = b"") -> bytes:
    """One HTTP request, answered."""
    sent: list[bytes] = []
    received = iter([{"type": "http.request", "body": body, "more_body": False}])
    never = asyncio.Event()

    async def receive() -> Any:
        event = next(received, None)
        if event is None:
            await never.wait()
        return event

    async def send(event: Any) -> None:
        if event["type"] == "http.response.start":
            assert event["status"] == 200, event
        sent.append(event.get("body", b""))

    headers = [(b"content-type", CONTENT_TYPE), (b"accept", accept)]
    scope = {"type": "http", "path": path, "headers": headers, "http_version": "1.1"}
    await app(scope, receive, send)
    return b"".join(sent)


async def attempt(
    app: Asgi, target: str, argument: bytes, journal: tuple[bytes, ...] = (), key: str = ""
) -> list[Message]:
    """What the endpoint answers to an attempt with this journal."""
    start: Fields = [(1, b"id"), (2, "inv_1"), (3, 1 + len(journal)), (6, key), (9, 7)]
    given = [frame(START, start), frame(INPUT, [(14, [(1, argument)])]), *journal]
    return list(messages(await request(app, f"/invoke/{target}", b"".join(given))))


def value(answer: list[Message]) -> bytes | Failed:
    """What the handler's output says."""
    (output,) = (message for message in answer if message.kind == OUTPUT)
    if 14 in output.fields:
        return dict(parse(output.fields[14])).get(1, b"")
    return failure(output.fields[15])


def failure(body: bytes) -> Failed:
    fields = dict(parse(body))
    return Failed(fields.get(1, 0), fields[2].decode())


def run_command(completion_id: int, name: str) -> bytes:
    return frame(RUN, [(11, completion_id), (12, name)])


def run_succeeded(completion_id: int, content: bytes) -> bytes:
    return frame(RUN_DONE, [(1, completion_id), (5, [(1, content)])])


def run_failed(completion_id: int, code: int, text: str) -> bytes:
    return frame(RUN_DONE, [(1, completion_id), (6, [(1, code), (2, text)])])


def frame(kind: int, fields: Fields) -> bytes:
    body = encode(fields)
    return struct.pack(">HHI", kind, 0, len(body)) + body


def messages(data: bytes) -> Iterator[Message]:
    while data:
        kind, _, length = struct.unpack(">HHI", data[:8])
        yield Message(kind, dict(parse(data[8 : 8 + length])))
        data = data[8 + length :]


def encode(fields: Fields) -> bytes:
    out = b""
    for number, content in fields:
        if isinstance(content, int):
            out += varint(number << 3) + varint(content)
            continue
        whole = encode(content) if isinstance(content, list) else content
        data = whole.encode() if isinstance(whole, str) else whole
        out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def parse(data: bytes) -> Iterator[tuple[int, Any]]:
    while data:
        tag, data = _take_varint(data)
        if tag & 7 == 0:
            number, data = _take_varint(data)
            yield tag >> 3, number
        else:
            length, data = _take_varint(data)
            yield tag >> 3, data[:length]
            data = data[length:]


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def _take_varint(data: bytes) -> tuple[int, bytes]:
    number = shift = 0
    for index, byte in enumerate(data):
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, data[index + 1 :]
    raise ValueError("a varint without an end")
