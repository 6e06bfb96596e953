"""Signs pickles when they are recorded, and refuses those without the signature when they are read.

Nothing that came over HTTP is ever unpickled. Where a payload came from cannot be seen from its
bytes, but who has the journal's key has written it: that is checked instead.

Source: design, section 9.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256

from nbdurable.errors import SerializationError

# What every sealed pickle begins with.
MARK = b"nbdurable-pickle-1\0"
_SIGNATURE_BYTES = 32


class Seal:
    """`key` is asked when a pickle is written or read, and not before."""

    def __init__(self, key: Callable[[], bytes]) -> None:
        self._key = key

    def close(self, payload: bytes) -> bytes:
        """Nothing stays nothing."""
        return MARK + self._sign(payload) + payload if payload else b""

    def open(self, sealed: bytes) -> bytes:
        """What was sealed.

        Raises:
            SerializationError: It was not sealed with this journal's key, so it is not unpickled.
        """
        if not sealed:
            return b""
        begin = len(MARK) + _SIGNATURE_BYTES
        signature, payload = sealed[len(MARK) : begin], sealed[begin:]
        is_ours = sealed.startswith(MARK) and hmac.compare_digest(signature, self._sign(payload))
        if not is_ours:
            raise SerializationError(
                "was not written by a handler or step of this journal, and reading a pickle runs"
                " its writer's code",
                root="pickle",
                fix="Use JSON (the default serde) for what comes from outside.",
            )
        return payload

    def _sign(self, payload: bytes) -> bytes:
        return hmac.digest(self._key(), payload, sha256)
