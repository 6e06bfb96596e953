"""Requests in a row, played to a server, and its answers without what differs from run to run.

A request is a line: `PATCH admin /invocations/{inv_0}/cancel`. Ids are numbered in the order in
which a conversation first meets them, and named by their numbers from then on.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from support.http import Reply, ask

RECORDED = Path(__file__).with_name("recorded")
# Long for a machine under load; only what fails asks for so long.
UNTIL_S_MAX = 30.0
POLL_S = 0.02

_IDS = re.compile(r"\b(inv|dp|sign|prom)_1[0-9A-Za-z_-]{10,}")
_VARYING = {
    "{time}": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"),
    "{url}": re.compile(r"(http|nbdurable)://[^\s\"/]*/?"),
    "{ulid}": re.compile(r"\b01[0-9A-HJKMNP-TV-Z]{24}\b"),
}


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """`source` is the header that says whose error it is."""

    status: int
    content_type: str | None = None
    source: str | None = None
    body: Any = None


class Exchange(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request and its answer.

    Attributes:
        until: Ask again until the answer has this body: what was ordered is on its way.
    """

    line: str
    headers: dict[str, str] = {}
    body: str | None = None
    until: Any = None
    answer: Answer = Answer(0)


Conversations = dict[str, list[Exchange]]
"""By what they are about."""


def read(file: str) -> Conversations:
    return msgspec.json.decode((RECORDED / file).read_bytes(), type=Conversations)


def write(file: str, conversations: Conversations) -> None:
    plain = msgspec.to_builtins(conversations)
    text = json.dumps(plain, indent=1, ensure_ascii=False, sort_keys=False)
    (RECORDED / file).write_text(text + "\n")


class Player:
    """Mutable: the ids of one conversation."""

    def __init__(self, ingress_url: str, admin_url: str) -> None:
        self._urls = {"ingress": ingress_url, "admin": admin_url}
        self._names: dict[str, str] = {}

    def play(self, exchange: Exchange) -> Answer:
        end = time.monotonic() + UNTIL_S_MAX
        while True:
            answer = self._answer(self._ask(exchange))
            if exchange.until is None or answer.body == exchange.until:
                return answer
            assert time.monotonic() < end, f"{exchange.line} still answers {answer}"
            time.sleep(POLL_S)

    def _ask(self, exchange: Exchange) -> Reply:
        method, port, path = self._filled(exchange.line).split(" ", 2)
        body = None if exchange.body is None else self._filled(exchange.body)
        return ask(self._urls[port], method, path, exchange.headers, body)

    def _filled(self, text: str) -> str:
        for found, name in self._names.items():
            # The first of a name is the one that is meant.
            text = text.replace(name, found)
        return text

    def _answer(self, reply: Reply) -> Answer:
        try:
            body = reply.json if reply.body else None
        except ValueError:
            body = reply.body.decode(errors="replace")
        return Answer(
            reply.status,
            reply.headers.get("content-type"),
            reply.headers.get("x-restate-error-source"),
            self._alike(body),
        )

    def _alike(self, part: Any) -> Any:
        match part:
            case str():
                text = _IDS.sub(self._name, part)
                for name, pattern in _VARYING.items():
                    text = pattern.sub(name, text)
                return text
            case dict():
                # A traceback names the folders of the machine it was recorded on.
                return {
                    name: "{traceback}" if name == "stacktrace" else self._alike(value)
                    for name, value in sorted(part.items())
                }
            case list():
                return [self._alike(item) for item in sorted(part, key=_order)]
            case _:
                return part

    def _name(self, found: re.Match[str]) -> str:
        if found[1] == "dp":
            # How many there are is one of the differences; the first is as good as any.
            self._names.setdefault(found[0], "{dp}")
            return "{dp}"
        return self._names.setdefault(found[0], f"{{{found[1]}_{len(self._names)}}}")


def differences(there: Any, here: Any, path: str = "") -> Iterator[str]:
    """Where two answers are not the same: `body.handlers.greet.public`."""
    if isinstance(there, Answer):
        there, here = msgspec.to_builtins(there), msgspec.to_builtins(here)
    match there, here:
        case dict(), dict():
            for name in sorted(there.keys() | here.keys()):
                inner = f"{path}.{name}" if path else name
                yield from differences(there.get(name), here.get(name), inner)
        case list(), list() if len(there) == len(here):
            for one, other in zip(there, here, strict=True):
                name = one["name"] if isinstance(one, dict) and "name" in one else "-"
                yield from differences(one, other, f"{path}.{name}")
        case _ if there != here:
            yield path


def _order(item: Any) -> str:
    """Lists of services and handlers come in any order."""
    return str(item.get("name", "")) if isinstance(item, dict) else str(item)
