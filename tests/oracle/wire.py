"""Restate's service protocol, as much of it as an attempt of the official SDK speaks.

A frame is a header of eight bytes (type, flags, length) and a protobuf message. The Python package
ships no schema, and its native module exposes no codec, so the fields are named in a table here;
a field that is not named is kept under its number. Messages are dicts.

Source: restatedev/service-protocol, dev/restate/service/protocol.proto (MIT), V5 to V7;
restate-semantics.md, section 5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

Message = dict[str, Any]
Field = tuple[str, "str | dict[int, Field]"]

HEADER: Final = struct.Struct(">HHI")
VARINT, DELIMITED = 0, 2

# How a field's value is read: "uint", "text", "bytes", or the table of a nested message. A "*"
# before the name marks a field that repeats.
VALUE: Final[dict[int, Field]] = {1: ("content", "bytes")}
FAILURE: Final[dict[int, Field]] = {
    1: ("code", "uint"),
    2: ("message", "text"),
    3: ("*metadata", {1: ("key", "text"), 2: ("value", "text")}),
}
PAIR: Final[dict[int, Field]] = {1: ("key", "text"), 2: ("value", "text")}
KEYS: Final[dict[int, Field]] = {1: ("*keys", "bytes")}
VOID: Final[dict[int, Field]] = {}
FUTURE: Final[dict[int, Field]] = {
    1: ("completions", "packed"),
    2: ("signals", "packed"),
    3: ("*named_signals", "text"),
    5: ("combinator", "uint"),
}
FUTURE[4] = ("*nested", FUTURE)
_NAME: Final[dict[int, Field]] = {12: ("name", "text")}
_COMPLETED: Final[dict[int, Field]] = {11: ("completion_id", "uint"), 12: ("name", "text")}
_CALL_ENDS: Final[dict[int, Field]] = {10: ("invocation_id_completion_id", "uint"), **_COMPLETED}
_NOTIFIED: Final[dict[int, Field]] = {
    1: ("completion_id", "uint"),
    2: ("signal_id", "uint"),
    3: ("signal_name", "text"),
    4: ("void", VOID),
    5: ("value", VALUE),
    6: ("failure", FAILURE),
    16: ("invocation_id", "text"),
    17: ("state_keys", KEYS),
}

FIELDS: Final[dict[str, dict[int, Field]]] = {
    "Start": {
        1: ("id", "bytes"),
        2: ("debug_id", "text"),
        3: ("known_entries", "uint"),
        4: ("*state_map", {1: ("key", "bytes"), 2: ("value", "bytes")}),
        5: ("partial_state", "uint"),
        6: ("key", "text"),
        9: ("random_seed", "uint"),
    },
    # Fields 1 to 3 until V6, field 4 since V7.
    "Suspension": {**FUTURE, 4: ("awaiting_on", FUTURE)},
    "Error": {
        1: ("code", "uint"),
        2: ("message", "text"),
        3: ("stacktrace", "text"),
        4: ("command_index", "uint"),
        5: ("command_name", "text"),
        8: ("next_retry_delay", "uint"),
        9: ("behavior", "uint"),
    },
    "End": {},
    "ProposeRunCompletion": {
        1: ("completion_id", "uint"),
        14: ("value", "bytes"),
        15: ("failure", FAILURE),
    },
    "ProposeRunCompletionAck": {1: ("completion_id", "uint")},
    "AwaitingOn": {1: ("awaiting_on", FUTURE), 2: ("executing", "uint")},
    "Input": {1: ("*headers", PAIR), 14: ("value", VALUE), **_NAME},
    "Output": {14: ("value", VALUE), 15: ("failure", FAILURE), **_NAME},
    "GetLazyState": {1: ("key", "text"), **_COMPLETED},
    "SetState": {1: ("key", "text"), 3: ("value", VALUE), **_NAME},
    "ClearState": {1: ("key", "text"), **_NAME},
    "ClearAllState": _NAME,
    "GetLazyStateKeys": _COMPLETED,
    "GetEagerState": {1: ("key", "text"), 13: ("void", VOID), 14: ("value", VALUE), **_NAME},
    "GetEagerStateKeys": {14: ("state_keys", KEYS), **_NAME},
    "GetPromise": {1: ("key", "text"), **_COMPLETED},
    "PeekPromise": {1: ("key", "text"), **_COMPLETED},
    "CompletePromise": {
        1: ("key", "text"),
        2: ("value", VALUE),
        3: ("failure", FAILURE),
        **_COMPLETED,
    },
    "Sleep": {1: ("wake_up_time", "uint"), **_COMPLETED},
    "Call": {
        1: ("service", "text"),
        2: ("handler", "text"),
        3: ("argument", "bytes"),
        4: ("*headers", PAIR),
        5: ("key", "text"),
        6: ("idempotency_key", "text"),
        7: ("scope", "text"),
        8: ("limit_key", "text"),
        **_CALL_ENDS,
    },
    "OneWayCall": {
        1: ("service", "text"),
        2: ("handler", "text"),
        3: ("argument", "bytes"),
        4: ("invoke_time", "uint"),
        5: ("*headers", PAIR),
        6: ("key", "text"),
        7: ("idempotency_key", "text"),
        8: ("scope", "text"),
        9: ("limit_key", "text"),
        **_CALL_ENDS,
    },
    "SendSignal": {
        1: ("invocation_id", "text"),
        2: ("signal_id", "uint"),
        3: ("signal_name", "text"),
        4: ("void", VOID),
        5: ("value", VALUE),
        6: ("failure", FAILURE),
        12: ("name", "text"),
    },
    "Run": _COMPLETED,
    "AttachInvocation": {1: ("invocation_id", "text"), **_COMPLETED},
    "CompleteAwakeable": {
        1: ("awakeable_id", "text"),
        2: ("value", VALUE),
        3: ("failure", FAILURE),
        **_NAME,
    },
}
_COMMANDS = [
    "Input",
    "Output",
    "GetLazyState",
    "SetState",
    "ClearState",
    "ClearAllState",
    "GetLazyStateKeys",
    "GetEagerState",
    "GetEagerStateKeys",
    "GetPromise",
    "PeekPromise",
    "CompletePromise",
    "Sleep",
    "Call",
    "OneWayCall",
    "-",
    "SendSignal",
    "Run",
    "AttachInvocation",
    "GetInvocationOutput",
    "CompleteAwakeable",
]
# A command and the notification of its completion have one number, in two ranges.
TYPES: Final[dict[int, str]] = {
    **dict(enumerate(("Start", "Suspension", "Error", "End"))),
    0x0005: "ProposeRunCompletion",
    0x0006: "AwaitingOn",
    0x0007: "ProposeRunCompletionAck",
    **{0x0400 + number: kind for number, kind in enumerate(_COMMANDS)},
    **{0x8000 + number: f"{kind}Notification" for number, kind in enumerate(_COMMANDS)},
    0x800E: "CallInvocationIdNotification",
    0xFBFF: "SignalNotification",
}
NUMBERS: Final[dict[str, int]] = {kind: number for number, kind in TYPES.items()}


class Frame(NamedTuple):
    kind: str
    message: Message


def encode(kind: str, message: Message) -> bytes:
    body = _encode(message, _fields(kind))
    return HEADER.pack(NUMBERS[kind], 0, len(body)) + body


def decode(stream: bytes) -> Iterator[Frame]:
    at = 0
    while at < len(stream):
        number, _, length = HEADER.unpack_from(stream, at)
        at += HEADER.size
        kind = TYPES[number]
        yield Frame(kind, _decode(stream[at : at + length], _fields(kind)))
        at += length


def _fields(kind: str) -> dict[int, Field]:
    return _NOTIFIED if kind.endswith("Notification") else FIELDS[kind]


def _encode(message: Message, fields: dict[int, Field]) -> bytes:
    numbers = {name.lstrip("*"): (number, how) for number, (name, how) in fields.items()}
    out = b""
    for name, value in message.items():
        number, how = numbers[name]
        for one in value if isinstance(value, list) else [value]:
            if how == "uint":
                out += _varint(number << 3 | VARINT) + _varint(one)
            else:
                content = one.encode() if how == "text" else one
                if isinstance(how, dict):
                    content = _encode(one, how)
                out += _varint(number << 3 | DELIMITED) + _varint(len(content)) + content
    return out


def _decode(body: bytes, fields: dict[int, Field]) -> Message:
    message: Message = {}
    at = 0
    while at < len(body):
        tag, at = _read_varint(body, at)
        number, wire_type = tag >> 3, tag & 7
        value, at = _read_varint(body, at)
        name, how = fields.get(number, (f"field {number}", "bytes"))
        read: Any = value
        if wire_type == DELIMITED:
            read, at = _read(body[at : at + value], how), at + value
        if name.startswith("*"):
            message.setdefault(name[1:], []).append(read)
        else:
            message[name] = read
    return message


def _read(content: bytes, how: str | dict[int, Field]) -> Any:
    match how:
        case dict():
            return _decode(content, how)
        case "text":
            return content.decode()
        case "packed":
            at, numbers = 0, []
            while at < len(content):
                number, at = _read_varint(content, at)
                numbers.append(number)
            return numbers
        case _:
            return content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(body: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = body[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at
