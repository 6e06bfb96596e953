"""A small ingress over an engine of this process: enough HTTP for a client to talk to."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from nbdurable.client.local import LocalClient
from nbdurable.errors import ConflictError, HttpError, TerminalError


class Ingress:
    """Mutable: `seen`, the path and headers of every request."""

    def __init__(self, client: LocalClient, url: str) -> None:
        self.client = client
        self.url = url
        self.seen: list[tuple[str, dict[str, str]]] = []

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        self.seen.append((path, headers))
        split = urlsplit(path)
        segments = [unquote(segment) for segment in split.path.strip("/").split("/")]
        named: dict[str, Any] = {
            "idempotency_key": headers.get("idempotency-key"),
            "headers": {name: value for name, value in headers.items() if name == "x-mine"},
        }
        verb = "call"
        if segments[:2] == ["restate", "scope"]:
            _, _, named["scope"], verb, *segments = segments
            named["limit_key"] = headers.get("x-restate-limit-key")
        elif segments[-1] == "send":
            verb = segments.pop()
        service, *keys, handler = segments
        named["key"] = keys[0] if keys else None
        try:
            if verb == "call":
                return 200, self.client.wait(
                    self.client.generic_call(service, handler, body, **named)
                )
            named["send_delay"] = _delay(parse_qs(split.query))
            sent = self.client.wait(self.client.generic_send(service, handler, body, **named))
        except TerminalError as error:
            return error.status_code, json.dumps({"message": error.message}).encode()
        except ConflictError as error:
            return 409, str(error).encode()
        except HttpError as error:
            return error.status_code, error.message.encode()
        status = "PreviouslyAccepted" if sent.existing else "Accepted"
        return 202, json.dumps({"invocationId": sent.invocation_id, "status": status}).encode()


@contextmanager
def serving(client: LocalClient) -> Iterator[Ingress]:
    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, answer = ingress.answer(self.path, headers, body)
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    ingress = Ingress(client, f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield ingress
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _delay(query: dict[str, list[str]]) -> timedelta | None:
    """As Restate reads it: a number with a unit, and no bare one."""
    if "delay" not in query:
        return None
    match = re.fullmatch(r"(\d+)ms", query["delay"][0])
    if match is None:
        raise HttpError(400, f"bad delay {query['delay'][0]!r}")
    return timedelta(milliseconds=int(match[1]))
