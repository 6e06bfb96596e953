"""One connection, with bounds: what a stranger sends before they have shown a token costs little.

uvicorn reads HTTP and leaves three things open: how many connections there may be, how long one may
take to say what it wants, and how much it may say. A process has some thousand files, and the
journal needs some of them, so a connection that asks for nothing gives way to one that does.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import struct
from email.utils import formatdate
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from nbdurable.server.answers import Answer, ingress_error

# A head of 64 KiB holds a token, cookies of other tools, and a long key in the path.
HEAD_BYTES_MAX: Final = 64 * 1024
# From the first byte of a request to the end of its head; also from connecting to the first byte.
HEAD_S_MAX: Final = 10.0
# A body may be long, but may not stand still.
BODY_STALL_S_MAX: Final = 30.0
IDLE_S_MAX: Final = 60
# Of the files that the process may have open, this many are left to everything else.
FILES_KEPT: Final = 256
CONNECTIONS_MAX: Final = 2_048
CONNECTIONS_MIN: Final = 64

_LOOK_EVERY_S: Final = 1.0

# What a client begins with that takes HTTP/2 for granted, and what it is answered in its own words:
# no settings, and GOAWAY for HTTP_1_1_REQUIRED.
# Source: RFC 9113, sections 3.4, 6.5, 6.8 and 7.
_HTTP_2: Final = b"PRI * HTTP/2.0\r\n"
_WHY_GO: Final = b"HTTP/1.1 is spoken here, and no HTTP/2; ask again with that"
_SETTINGS: Final = struct.pack(">HBBBI", 0, 0, 4, 0, 0)
_GO_AWAY: Final = struct.pack(">HBBBIII", 0, 8 + len(_WHY_GO), 7, 0, 0, 0, 0xD) + _WHY_GO

# What uvicorn warns of is the doing of whoever connects, token or not, and they are told. Whoever
# wants to read it too sets the level of this logger.
_logger = logging.getLogger("nbdurable.server.uvicorn")
_logger.setLevel(logging.ERROR)

# uvicorn knows statuses up to 599; handlers may fail with any code, and Restate sends it.
for _code in range(600, 1_000):
    STATUS_LINE.setdefault(_code, b"HTTP/1.1 %d \r\n" % _code)


class Connections(ServerState):
    """Mutable: all connections of both addresses, and since when each has kept us waiting."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connections_max: int | None = None) -> None:
        super().__init__()
        self._loop = loop
        self._max = connections_max or _affordable()
        # In the order they came, so that the oldest idle one goes first.
        self.open: dict[Connection, None] = {}
        self._look: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Connections {len(self.open)} open, at most {self._max}>"

    @property
    def are_used(self) -> bool:
        """Whether anybody is connected, be it for a request or by a link."""
        return bool(self.connections)

    def came(self, connection: Connection) -> bool:
        """Whether there is room, once one that asks for nothing has made some."""
        if len(self.open) >= self._max:
            idle = next((other for other in self.open if other.is_idle), None)
            if idle is None:
                return False
            idle.drop()
            self.went(idle)
        self.open[connection] = None
        if self._look is None:
            self._look_after()
        return True

    def went(self, connection: Connection) -> None:
        self.open.pop(connection, None)

    def _look_after(self) -> None:
        """Once a second while there are connections: drop those that keep us waiting."""
        now = self._loop.time()
        self.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        for connection in list(self.open):
            if connection.is_late(now):
                connection.drop()
        self._look = self._loop.call_later(_LOOK_EVERY_S, self._look_after) if self.open else None

    def descriptors(self) -> list[int]:
        """Of all sockets, be they for requests or for links."""
        # Annotated as if it were there before the connection is made, which it is not.
        transports: list[asyncio.Transport | None] = [p.transport for p in list(self.connections)]
        sockets = [each.get_extra_info("socket") for each in transports if each is not None]
        return [known.fileno() for known in sockets if known is not None]

    def close(self) -> None:
        if self._look is not None:
            self._look.cancel()
        for connection in list(self.open):
            connection.drop()
        # Links have said goodbye, and do not wait for an answer to that.
        for protocol in list(self.connections):
            transport: asyncio.Transport | None = protocol.transport
            if transport is not None:
                transport.abort()


class Connection(HttpToolsProtocol):
    """uvicorn's, and a watch on what its other end takes its time with."""

    server_state: Connections

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Requests of the user's own are nothing to log into their notebook.
        self.access_log = False
        self.logger = _logger
        # While a head is awaited: since when, and how much of it there is.
        self._head_since: float | None = None
        self._head_bytes = 0
        self._data_at = 0.0
        # Tasks that wait for something on behalf of this connection alone; put there by them.
        self._waiters: set[asyncio.Task[Any]] = set()
        self.app_state = {"waiters": self._waiters}

    @property
    def is_idle(self) -> bool:
        """Nothing is done for it."""
        cycle = self._last_cycle()
        return cycle is None or cycle.response_complete

    def is_late(self, now: float) -> bool:
        if self._head_since is not None:
            return now - self._head_since > HEAD_S_MAX
        cycle = self._last_cycle()
        awaits_body = cycle is not None and cycle.more_body and not cycle.response_complete
        return awaits_body and now - self._data_at > BODY_STALL_S_MAX

    def _last_cycle(self) -> RequestResponseCycle | None:
        """Of the first request on, whatever uvicorn's annotation says."""
        cycle: Any = self.cycle
        return cycle  # type: ignore[no-any-return] # As said.

    def drop(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # As uvicorn.
        super().connection_made(transport)
        self._head_since = self.loop.time()
        if not self.server_state.came(self):
            self._refuse(
                ingress_error(503, "too many connections are open; close some, or wait for one")
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.went(self)
        super().connection_lost(exc)
        # No waiting is for nobody. What they wait for goes on.
        for task in self._waiters:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        self._data_at = self.loop.time()
        if self._last_cycle() is None and data.startswith(_HTTP_2):
            self.transport.write(_SETTINGS + _GO_AWAY)
            self.transport.close()
            return
        super().data_received(data)
        if self._head_since is not None:
            # Only what was read and still is no whole head; a body may be longer.
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(
                    ingress_error(431, f"the head of a request may have {HEAD_BYTES_MAX} bytes")
                )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_since, self._head_bytes = self._data_at, 0

    def on_headers_complete(self) -> None:
        self._head_since = None
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        # From here on the connection is another protocol's, which watches it by pings.
        self.server_state.went(self)
        super().handle_websocket_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """A client that offers HTTP/2 or a WebSocket is answered as if it had not."""

    def send_400_response(self, msg: str) -> None:
        self._refuse(ingress_error(400, msg))

    def _refuse(self, answer: Answer) -> None:
        """Said without an application: there is no request yet that one could be asked with."""
        if self.transport.is_closing():
            return
        lines = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
        head = b"".join(b"%s: %s\r\n" % line for line in lines)
        self.transport.write(
            b"%s%sconnection: close\r\n\r\n%s" % (STATUS_LINE[answer.status], head, answer.body)
        )
        self.transport.close()


def _affordable() -> int:
    """Half of the files that are not set aside: the other address and other tools want some too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(CONNECTIONS_MIN, min(CONNECTIONS_MAX, soft - FILES_KEPT))
