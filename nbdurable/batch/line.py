"""The line from a run's kernel to the process that drives it: requests up, one answer each down.

Owns: a socket of this machine that only who was told its key can use, and the threads that read
it. Never decides: each request is handed on, and answered by whoever takes it (`inner.py`).

A request is a JSON object and bytes, so is an answer. Bytes are the user's, and not looked into.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

KEY_BYTES = 32
# What a socket raises when the other side is gone, and when this one is.
GONE = (EOFError, OSError)


class Asked:
    """One request. Answered once, from any thread."""

    def __init__(
        self, line: Line, connection: Connection, ask: dict[str, Any], payload: bytes
    ) -> None:
        self.ask = ask
        self.payload = payload
        self._line = line
        self._connection = connection

    def __repr__(self) -> str:
        return f"<Asked {self.ask.get('ask')} {self.ask.get('name')}>"

    def answer(self, payload: bytes = b"", **said: object) -> None:
        # A kernel that has gone needs no answer.
        with suppress(*GONE):
            self._line.send(self._connection, {"id": self.ask["id"], **said}, payload)
        self._line.answered(self)


class Line:
    """Mutable: who takes requests now, and those without an answer. Used from several threads."""

    def __init__(self, at_once: Callable[[Asked], bool]) -> None:
        """`at_once` answers what can be said without the run, and says whether it did."""
        self._at_once = at_once
        self._key = os.urandom(KEY_BYTES)
        self._listener = Listener(("127.0.0.1", 0), authkey=self._key)
        self._lock = threading.Lock()
        self._open: list[Asked] = []
        self._take: Callable[[Asked], None] | None = None
        self._connections: list[Connection] = []
        self._closed = False
        threading.Thread(target=self._accept, name="nbdurable line", daemon=True).start()

    def __repr__(self) -> str:
        return f"<Line {len(self._connections)} connections, {len(self._open)} open requests>"

    @property
    def told(self) -> dict[str, str]:
        """What a kernel has to know."""
        host, port = self._listener.address
        return {"address": f"{host}:{port}", "key": self._key.hex()}

    def hand_to(self, take: Callable[[Asked], None]) -> None:
        """From here on requests go there; first those that nobody has answered."""
        with self._lock:
            self._take = take
            for asked in self._open:
                take(asked)

    def send(self, connection: Connection, head: dict[str, object], payload: bytes) -> None:
        with self._lock:
            connection.send_bytes(json.dumps(head).encode())
            connection.send_bytes(payload)

    def answered(self, asked: Asked) -> None:
        with self._lock, suppress(ValueError):
            self._open.remove(asked)

    def close(self) -> None:
        self._closed = True
        # What accepts is only woken by somebody who comes.
        with suppress(*GONE), Client(self._listener.address, authkey=self._key):
            pass
        self._listener.close()
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            # A border: whoever knocks without the key is none of ours.
            except Exception:  # noqa: BLE001
                if self._closed:
                    return
                continue
            if self._closed:
                connection.close()
                return
            self._connections.append(connection)
            threading.Thread(
                target=self._read, args=(connection,), name="nbdurable line", daemon=True
            ).start()

    def _read(self, connection: Connection) -> None:
        with suppress(*GONE, TypeError):  # A connection that is closed meanwhile has no handle.
            while True:
                ask = json.loads(connection.recv_bytes())
                asked = Asked(self, connection, ask, connection.recv_bytes())
                if self._at_once(asked):
                    continue
                with self._lock:
                    self._open.append(asked)
                    if self._take is not None:
                        self._take(asked)
