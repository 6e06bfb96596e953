"""A wire that is slow, silent or cut: it stands between a process that joins and the owner."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Self

_CHUNK_BYTES = 65_536


class Relay:
    """Mutable: how slow it is, whether it passes anything on, who is connected. Use as a `with`."""

    def __init__(self, port: int, *, delay_s: float = 0.0) -> None:
        self._to_port = port
        self._delay_s = delay_s
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self.connected_count = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ends.set)
        self._thread.join()

    def hold(self) -> None:
        """Nothing arrives any more, and nobody is told."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def pass_on(self) -> None:
        self._loop.call_soon_threadsafe(self._passes.set)

    def cut(self) -> None:
        """Both ends are told."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _live(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends, self._passes = asyncio.Event(), asyncio.Event()
        self._passes.set()
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port: int = server.sockets[0].getsockname()[1]
        self._ready.set_result(None)
        await self._ends.wait()
        server.close()
        self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected_count += 1
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        both = {writer, there_writer}
        self._writers |= both
        try:
            await asyncio.gather(
                self._carry(reader, there_writer), self._carry(there_reader, writer)
            )
        except OSError:
            pass
        finally:
            self._writers -= both
            for end in both:
                end.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            await asyncio.sleep(self._delay_s)
            await self._passes.wait()
            writer.write(chunk)
            await writer.drain()
        writer.close()
