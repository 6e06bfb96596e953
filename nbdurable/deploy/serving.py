"""Serve an app to a Restate cluster: an address for `restate deployments register`.

The cluster holds one stream per attempt and speaks in both directions on it, so the endpoint speaks
HTTP/2, which a cluster tries first. hypercorn does that; it is imported when something is served,
and comes with `pip install 'nbdurable[restate]'`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from concurrent.futures import Future
from typing import Any, Final

from nbdurable.apart import ServedApart, listen
from nbdurable.deploy.endpoint import App
from nbdurable.errors import NbdurableError

logger = logging.getLogger("nbdurable.deploy")

# The cluster bounds what runs at once; what this would refuse, it would only try again.
_STREAMS_MAX: Final = 2**31 - 1
_DISCONNECTED: Final = {"type": "http.disconnect"}
# Attempts that are cut are tried again elsewhere, or here after the restart.
_GOODBYE_S_MAX: Final = 2.0


class Endpoint(ServedApart):
    """Mutable while it starts and ends. Use it as a `with`, or `start` and `close`.

    ```python
    with Endpoint(nbdurable.app([greeter]), "127.0.0.1", 9080) as endpoint:
        print(endpoint.greeting)
    ```

    Handlers run on a thread and a loop of its own.

    Args:
        app: What is served. It is the cluster that journals what its handlers do.
        host: An address to listen on; the cluster has to reach it.
        port: 0 takes a free one; Restate's is 9080.
    """

    def __init__(self, app: App, host: str = "127.0.0.1", port: int = 9080) -> None:
        super().__init__("nbdurable-endpoint", logger)
        self.app = app
        self._address = (host, port)

    def __repr__(self) -> str:
        where = "closed" if self._thread is None else self.url
        return f"<Endpoint {where} {', '.join(self.app.services)}>"

    @property
    def url(self) -> str:
        """Where the cluster finds it; what listens on every address is named by loopback."""
        host, port = self._address
        if self._thread is None:
            raise NbdurableError("nothing is served; use it inside `with`, or call start()")
        if ipaddress.ip_address(host).is_unspecified:
            host = "::1" if ":" in host else "127.0.0.1"
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def greeting(self) -> str:
        """What a person needs to run these handlers on a cluster."""
        lines = [
            f"serving  {', '.join(self.app.services)}",
            f"at       {self.url}",
            f"next     restate deployments register {self.url}",
        ]
        is_loopback = ipaddress.ip_address(self._address[0]).is_loopback
        if not self.app.identity_keys and not is_loopback:
            lines.append(
                "no identity keys: whoever reaches this address can run these handlers; name the"
                " cluster's in app(identity_keys=[…])"
            )
        return "\n".join(lines)

    def start(self) -> None:
        """Listen. Returns once a cluster can register it.

        Does nothing if it listens already.

        Raises:
            ImportError: restate-sdk or hypercorn is not installed.
            DefinitionError: A handler uses what a cluster has not.
            NbdurableError: The address cannot be listened on.
        """
        if self._thread is not None:
            return
        self.app.official()
        _check_installed()
        self._socket = listen(*self._address)
        self._address = self._socket.getsockname()[:2]
        self._begin()

    def close(self) -> None:
        """Stop listening, and cut the attempts that run here: the cluster tries them again."""
        self._end()

    # -- inside -------------------------------------------------------------------------------

    async def serve_until_stopped(self, ready: Future[None]) -> None:
        from hypercorn.asyncio import serve
        from hypercorn.config import Config

        self._loop.set_exception_handler(self._complain)
        served = _Cuttable(self.app)
        config = Config()
        # Taken over, and closed in the end.
        config.bind = [f"fd://{self._socket.detach()}"]
        # Below that it says of every start that the official SDK has no lifespan.
        config.loglevel = "ERROR"
        config.h2_max_concurrent_streams = _STREAMS_MAX
        config.keep_alive_max_requests = _STREAMS_MAX
        config.graceful_timeout = _GOODBYE_S_MAX

        async def stopped() -> None:
            await self._stopping.wait()
            served.cut()

        # It listens already: who connects before hypercorn accepts is kept in the backlog.
        ready.set_result(None)
        # What will not end in time is cancelled by hypercorn, and its waiting with it.
        with contextlib.suppress(asyncio.CancelledError):
            await serve(served, config, shutdown_trigger=stopped)

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Who connects just when this ends is cancelled, which asyncio takes for a failure."""
        is_cancelled = isinstance(context.get("exception"), asyncio.CancelledError)
        if not (self._stopping.is_set() and is_cancelled):
            loop.default_exception_handler(context)


class _Cuttable:
    """Mutable: an application whose clients can be said to be gone.

    An attempt waits for its cluster until one of them hangs up; when this endpoint ends, it is us.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._is_cut = False
        self._receiving: set[asyncio.Task[Any]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def receive_or_cut() -> Any:
            if self._is_cut:
                return _DISCONNECTED
            task = asyncio.current_task()
            assert task is not None
            self._receiving.add(task)
            try:
                return await receive()
            except asyncio.CancelledError:
                if not self._is_cut:
                    raise
                task.uncancel()
                return _DISCONNECTED
            finally:
                self._receiving.discard(task)

        await self._app(scope, receive_or_cut, send)

    def cut(self) -> None:
        self._is_cut = True
        for task in self._receiving:
            task.cancel()


def _check_installed() -> None:
    try:
        import hypercorn  # noqa: F401 - whether it is there is the question.
    except ModuleNotFoundError as error:
        if error.name != "hypercorn":
            raise
        raise ImportError(
            "serving an app to a Restate cluster needs hypercorn; write: pip install"
            " 'nbdurable[restate]'"
        ) from error
