"""Serving apart from the engine and the caller: an address, and a thread with a loop of its own."""

from __future__ import annotations

import abc
import asyncio
import logging
import socket
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from nbdurable.errors import NbdurableError

# Calls that arrive in one burst, before the loop comes to accept them.
_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address; port 0 is a free one.

    Raises:
        NbdurableError: The address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Not reuse_port: two owners of one address would share its calls.
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise NbdurableError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Choose another port, or 0"
            " for a free one"
        ) from error
    # What is accepted inherits it. asyncio would set it, but not on sockets that were made without
    # naming their protocol; and a body written after its head waits 40 ms for the other end's ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


class ServedApart(abc.ABC):
    """Mutable while it starts and ends: the thread that runs `serve_until_stopped`.

    Used as a `with`; whoever is one says in `start` and `close` what happens around the thread.
    """

    def __init__(self, thread_name: str, logger: logging.Logger) -> None:
        self._thread_name = thread_name
        self._logger = logger
        self._thread: threading.Thread | None = None

    @abc.abstractmethod
    def start(self) -> None: ...

    @abc.abstractmethod
    def close(self) -> None: ...

    @abc.abstractmethod
    async def serve_until_stopped(self, ready: Future[None]) -> None:
        """Answer `ready` once it serves, and return once `_stopping` is set."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self) -> None:
        """Return once it serves; if it cannot, close and raise why."""
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._live, args=(ready,), name=self._thread_name, daemon=True
        )
        self._thread.start()
        try:
            ready.result()
        except BaseException:
            self.close()
            raise

    def _end(self) -> bool:
        """Stop and join the thread; False if there was none."""
        thread, self._thread = self._thread, None
        if thread is None:
            return False
        if thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            thread.join()
        return True

    def _live(self, ready: Future[None]) -> None:
        try:
            asyncio.run(self._main(ready))
        except Exception as error:  # border: nobody else would hear of it.
            if ready.done():
                self._logger.exception("%s stopped", self._thread_name)
            else:
                ready.set_exception(error)

    async def _main(self, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        await self.serve_until_stopped(ready)
