"""The one thread that sends to the front end.

The engine's thread must not be held up by drawing, and comms are not made for several senders. Of
what is to be drawn in one place only the newest is: an older picture is of no use to anybody.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable

logger = logging.getLogger("nbdurable")


class Screen:
    """Mutable; its queue is guarded by a condition, the thread is its own."""

    def __init__(self) -> None:
        self._jobs: dict[object, Callable[[], None]] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def draw(self, place: object, job: Callable[[], None]) -> None:
        """Do this soon, instead of what is still to be done in the same place."""
        with self._changed:
            if self._closing:
                return
            self._jobs[place] = job
            if self._thread is None:
                # In a context of its own: what is drawn is no output of the cell that began it.
                self._thread = threading.Thread(
                    target=contextvars.Context().run,
                    args=(self._live,),
                    name="nbdurable-screen",
                    daemon=True,
                )
                self._thread.start()
            self._changed.notify()

    def drain(self, timeout_s: float) -> None:
        """Wait until all that is to be drawn by now is, but no longer than so long."""
        drained = threading.Event()
        self.draw(object(), drained.set)
        if not self._closing:
            drained.wait(timeout_s)

    def close(self) -> None:
        """Draw what is still to be drawn, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=2)

    def _live(self) -> None:
        while True:
            with self._changed:
                while not self._jobs:
                    if self._closing:
                        return
                    self._changed.wait()
                place = next(iter(self._jobs))
                job = self._jobs.pop(place)
            try:
                job()
            except Exception:  # border: a picture that cannot be drawn is not the run's fault.
                logger.exception("a picture could not be drawn")
