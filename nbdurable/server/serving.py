"""Serving: ingress and admin of an open engine, on a thread and a loop of their own.

```python
async with nbdurable.open(services=[flow]) as engine, nbdurable.serve(engine) as serving:
    print(serving.ingress_url)
```

It talks to the engine through its client only, starts after it and ends before it. Where it listens
is told in the journal's `owner.json`, for the other processes of the project.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

from starlette.routing import BaseRoute
from uvicorn.config import Config

from nbdurable.apart import ServedApart, listen
from nbdurable.client.local import LocalClient
from nbdurable.errors import NbdurableError
from nbdurable.server.admin import Admin
from nbdurable.server.admin_invocations import invocation_routes
from nbdurable.server.admin_services import service_routes
from nbdurable.server.answers import Asgi
from nbdurable.server.auth import TOKEN_FILE, Guard, kept_token, new_token
from nbdurable.server.connection import IDLE_S_MAX, Connection, Connections
from nbdurable.server.ingress import Ingress
from nbdurable.server.links import Links, websocket_settings
from nbdurable.server.options import ServeOptions
from nbdurable.server.query import query_routes
from nbdurable.store.lock import let_go_in_child, on_fork
from nbdurable.wiring import DurableEngine, OpenableEngine

logger = logging.getLogger("nbdurable.server")

# What still waits when serving ends is told so; one that is not even sent is left to itself.
_GOODBYE_S_MAX = 2.0


class Serving(ServedApart):
    """Mutable while it starts and ends. Use it as `with` or `async with`, or `start` and `close`.

    Args:
        opened: The engine; it must be open, and stay so for as long as this serves.
        options: Where, to whom, how much.
        admin_routes: More of them.
    """

    def __init__(
        self,
        opened: DurableEngine,
        options: ServeOptions | None = None,
        *,
        admin_routes: Sequence[BaseRoute] = (),
    ) -> None:
        super().__init__("nbdurable-server", logger)
        self.options = options or ServeOptions()
        self._opened = opened
        self._admin_routes = admin_routes
        on_fork(self)
        self._sockets: tuple[socket.socket, ...] = ()
        self._take_back: Callable[[], None] = lambda: None
        self.token: str | None = None
        self.token_file: Path | None = None

    def __repr__(self) -> str:
        where = self.ingress_url if self._sockets else "closed"
        return f"<Serving {where}>"

    @property
    def ingress_url(self) -> str:
        return self._url(0)

    @property
    def admin_url(self) -> str:
        return self._url(1)

    @property
    def greeting(self) -> str:
        """What a person needs to call it, once, from a terminal or a cell."""
        lines = [f"ingress  {self.ingress_url}", f"admin    {self.admin_url}"]
        if self.token is None:
            lines.append("no token: everybody on this machine may call it")
        else:
            lines.append(f"send     authorization: Bearer {self.token}")
        return "\n".join(lines)

    def start(self) -> None:
        """Listen. Returns once both addresses answer.

        Raises:
            NbdurableError: An address cannot be listened on.
        """
        options = self.options
        if options.has_token:
            self._take_token()
        self._sockets = _listen(options)
        self._begin()
        self._take_back = self._opened.announce(
            ingress=self.ingress_url,
            admin=self.admin_url,
            token_file=None if self.token_file is None else str(self.token_file),
        )

    def close(self) -> None:
        """Stop listening; tell who still waits. Their invocations go on."""
        if not self._end():
            return
        for listening in self._sockets:
            listening.close()
        self._sockets = ()
        self._take_back()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.close)

    def abandon_in_child(self) -> None:
        """Whoever is connected must notice when this process ends, and not when its child does."""
        self._thread = None
        connections = getattr(self, "connections", None)
        let_go_in_child(
            [
                *(listening.fileno() for listening in self._sockets),
                *(() if connections is None else connections.descriptors()),
            ]
        )

    # -- inside -------------------------------------------------------------------------------

    def _routes(self, client: LocalClient) -> list[BaseRoute]:
        """All of the admin API."""
        return [
            *service_routes(client.operator(), self.ingress_url),
            *invocation_routes(client),
            *query_routes(client),
            *self._admin_routes,
        ]

    def _take_token(self) -> None:
        file, folder = self.options.token_file, self._opened.folder
        if file is None and folder is None:
            # A journal in memory has no folder to keep one in.
            self.token = new_token()
            return
        if file is None:
            assert folder is not None
            file = folder / TOKEN_FILE
        self.token_file = file.absolute()
        self.token = kept_token(self.token_file)

    def _url(self, which: int) -> str:
        if not self._sockets:
            raise NbdurableError("nothing is served; use it inside `with`, or call start()")
        host, port = self._sockets[which].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}"

    async def serve_until_stopped(self, ready: Future[None]) -> None:
        # Whoever sends values over HTTP has applied the codec, if there is one.
        client = self._opened.client.without_codec()
        guard = Guard(self.options, self.token)
        self.connections = connections = Connections(self._loop)
        bytes_max = self.options.body_bytes_max
        ingress = Ingress(client.raw(), guard, bytes_max, has_codec=self._opened.has_codec)
        links = Links(self._opened.engine, guard)
        admin = Admin(guard, bytes_max, self._routes(client), links)
        apps: tuple[Asgi, Asgi] = (ingress, admin)
        protocols = (
            _protocol(apps[0], connections),
            _protocol(apps[1], connections, has_links=True),
        )
        listeners = [
            await self._loop.create_server(protocol, sock=listening)
            for protocol, listening in zip(protocols, self._sockets, strict=True)
        ]
        ready.set_result(None)
        await self._stopping.wait()
        for listener in listeners:
            listener.close()
        ingress.is_closing = True
        await _say_goodbye(connections)
        connections.close()


def serve(
    opened: OpenableEngine,
    options: ServeOptions | None = None,
    *,
    admin_routes: Sequence[BaseRoute] = (),
) -> Serving:
    """Serve an open engine over HTTP: Restate's ingress and admin API.

    ```python
    with nbdurable.open_sync(services=[flow]) as engine, nbdurable.serve(engine.opened) as serving:
        print(serving.greeting)
    ```

    Args:
        opened: What `nbdurable.open()` gives.
        options: Where, to whom, how much; None is loopback, free ports, and a token.
        admin_routes: Routes of Starlette, added to the admin API.
    """
    return Serving(opened.owned, options, admin_routes=admin_routes)


def _listen(options: ServeOptions) -> tuple[socket.socket, ...]:
    """Both addresses, or neither."""
    made: list[socket.socket] = []
    ports = (options.ingress_port, options.admin_port)
    try:
        for host, port in zip(options.hosts, ports, strict=True):
            made.append(listen(host, port))
    except NbdurableError:
        for listening in made:
            listening.close()
        raise
    return tuple(made)


def _protocol(
    app: Asgi, connections: Connections, *, has_links: bool = False
) -> functools.partial[Connection]:
    config = Config(
        app,
        http=Connection,
        lifespan="off",
        interface="asgi3",
        # The process is the user's, and so are its loggers.
        log_config=None,
        # Nobody stands between us and our clients whose word about them counts.
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE_S_MAX,
        **(websocket_settings() if has_links else {"ws": "none"}),
    )
    config.load()
    return functools.partial(Connection, config=config, server_state=connections, app_state={})


async def _say_goodbye(connections: Connections) -> None:
    waiting = list(connections.tasks)
    for task in waiting:
        task.cancel()
    if waiting:
        await asyncio.wait(waiting, timeout=_GOODBYE_S_MAX)
    # What was written has to leave, which is up to the loop's next rounds.
    for connection in list(connections.open):
        connection.shutdown()
    await asyncio.sleep(0)
