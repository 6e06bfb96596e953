"""Random numbers that tell invocations apart, and the lives of an id."""

from __future__ import annotations

import os
import threading
from typing import Final

# A seed is stored as a signed number of 64 bits.
SEED_BITS: Final = 63
_SEED_BYTES: Final = 8
# A system call for each is a tenth of a call's cost.
_POOL_BYTES: Final = 512 * _SEED_BYTES


class Seeds:
    """Draws one, never the same twice, in any thread. Mutable: what was fetched from the system."""

    def __init__(self) -> None:
        self._pool = b""
        self._lock = threading.Lock()

    def __call__(self) -> int:
        """Not negative, of `SEED_BITS`."""
        with self._lock:
            pool = self._pool or os.urandom(_POOL_BYTES)
            drawn, self._pool = pool[:_SEED_BYTES], pool[_SEED_BYTES:]
        return int.from_bytes(drawn, "big") >> 1
