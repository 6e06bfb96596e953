"""Requests as they are written, and raw connections: a client that helps nobody."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

# Long for a machine under load; only a test that fails waits for it.
ANSWER_S_MAX = 20.0

JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Reply:
    """`headers` by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])


def ask(
    url: str,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: bytes | str | None = None,
) -> Reply:
    """One request on a connection of its own; the path goes out as it is."""
    split = urlsplit(url)
    connection = http.client.HTTPConnection(split.netloc, timeout=ANSWER_S_MAX)
    try:
        payload = body.encode() if isinstance(body, str) else body
        connection.request(method, path, body=payload, headers=headers or {})
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, named, response.read())
    finally:
        connection.close()


class Raw:
    """A connection and its bytes. Use as a `with`."""

    def __init__(self, url: str) -> None:
        split = urlsplit(url)
        assert split.hostname is not None
        self.host = split.netloc
        self.socket = socket.create_connection((split.hostname, split.port), timeout=ANSWER_S_MAX)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def flood(self, data: bytes, times: int) -> int:
        """Send as much as the other side takes; how many bytes that was."""
        sent = 0
        try:
            for _ in range(times):
                self.socket.sendall(data)
                sent += len(data)
        except OSError:
            pass
        return sent

    def rest(self) -> bytes:
        """All that comes until the other side ends it."""
        parts = []
        try:
            while part := self.socket.recv(65_536):
                parts.append(part)
        except ConnectionError:
            pass
        return b"".join(parts)

    def answer(self) -> bytes:
        """One answer, on a connection that goes on."""
        received = self.head()
        head, _, body = received.partition(b"\r\n\r\n")
        (length,) = (
            int(line[15:])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        while len(body) < length:
            body += self.socket.recv(65_536)
        return head + b"\r\n\r\n" + body

    def head(self) -> bytes:
        """Up to the end of the first answer's head."""
        received = b""
        while b"\r\n\r\n" not in received:
            part = self.socket.recv(65_536)
            if not part:
                break
            received += part
        return received
