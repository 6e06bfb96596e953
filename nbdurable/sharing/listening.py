"""The owner listens, so that other processes of the project find it. On a thread, a moment later.

Opening is not held up by it: what it takes to listen is imported here, and only then.
"""

from __future__ import annotations

import atexit
import logging
import threading
from typing import TYPE_CHECKING

from nbdurable.errors import EngineClosedError, NbdurableError
from nbdurable.wiring import DurableEngine

if TYPE_CHECKING:
    from nbdurable.server.serving import Serving

logger = logging.getLogger("nbdurable")


class Listening:
    """Mutable: what is served, once it is. Use `start` and `close`.

    Args:
        opened: The engine; it must be open, and stay so until this is closed.
        after_s: Not before this has passed, so that what is going on now is not slowed down.
    """

    def __init__(self, opened: DurableEngine, after_s: float = 0.0) -> None:
        self._opened = opened
        self._after_s = after_s
        self._closing = threading.Event()
        self._serving: Serving | None = None
        self._thread = threading.Thread(target=self._live, name="nbdurable-listening", daemon=True)

    def __repr__(self) -> str:
        return f"<Listening {self._serving or 'not yet'}>"

    def start(self) -> None:
        # Before the engine, which ends at exit as well if nobody has closed it.
        atexit.register(self.close)
        self._thread.start()

    def close(self) -> None:
        """Those who have joined look for the next owner at once."""
        atexit.unregister(self.close)
        self._closing.set()
        self._thread.join()
        if self._serving is not None:
            self._serving.close()

    def _live(self) -> None:
        if self._closing.wait(self._after_s):
            return
        try:
            from nbdurable.server.serving import Serving

            serving = Serving(self._opened)
            serving.start()
        except EngineClosedError:
            # It was over before anybody could have joined it.
            return
        except (NbdurableError, OSError) as error:
            # The engine works all the same, for this process.
            logger.warning("other processes cannot join this engine: %s", error)
        else:
            self._serving = serving
