"""How a command that serves is told to end."""

from __future__ import annotations

import asyncio
import signal


def signalled() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT. A second one ends the process wherever it is."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)

    def stop() -> None:
        stopping.set()
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, stop)
    return stopping
