"""Values to the bytes that the journal holds, and back: the serde, then the codec if there is one.

A codec (to encrypt or compress what is recorded) sees every value and no failure. Its bytes may
differ each time, so with one replay compares names and kinds only.

Source: restate-semantics.md, 1.6 (journal value codec) and 1.7 (message size).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from nbdurable.errors import SerializationError
from nbdurable.invoker.seal import Seal
from nbdurable.sdk.codec import JournalValueCodec
from nbdurable.sdk.handler import Handler
from nbdurable.sdk.pickling import PickleSerde
from nbdurable.sdk.serde import Serde

# Restate's bound for one message; what is larger belongs where large things are kept.
MESSAGE_BYTES_MAX = 32 * 1024 * 1024


class Written(NamedTuple):
    """`comparable`: whether the same value always has these bytes."""

    payload: bytes
    comparable: bool


class Wire:
    """Stateless; one per link."""

    def __init__(self, seal: Seal, codec: JournalValueCodec | None = None) -> None:
        self.codec = codec
        self._seal = seal

    def write(self, serde: Serde[Any], value: Any, root: str) -> Written:
        """`root` is what the value is to its author, e.g. "state 'cart'".

        Raises:
            SerializationError: It does not fit the serde, or has more bytes than a message may.
        """
        try:
            payload = bytes(serde.serialize(value))
        except SerializationError as error:
            error.root = root
            raise
        if isinstance(serde, PickleSerde):
            payload = self._seal.close(payload)
        if self.codec is not None:
            payload = bytes(self.codec.encode(payload))
        if len(payload) > MESSAGE_BYTES_MAX:
            raise SerializationError(
                f"is {len(payload):,} bytes, and one value may have {MESSAGE_BYTES_MAX:,}",
                root=root,
                fix="Keep it in a file or an object store, and return its path or address instead.",
            )
        return Written(payload, serde.canonical and self.codec is None)

    def write_argument(self, handler: Handler[Any, Any], arg: Any) -> Written:
        """As the callee will read it; a handler without input gets none."""
        if handler.arity == 1:
            return Written(b"", comparable=True)
        return self.write(handler.handler_io.input_serde, arg, f"argument of {handler.name!r}")

    async def decode(self, payload: bytes) -> bytes:
        """What the serde has written. Nothing is nothing, also where a codec is used."""
        if self.codec is None or not payload:
            return payload
        return bytes(await self.codec.decode(payload))

    async def read(self, serde: Serde[Any], payload: bytes) -> Any:
        return self.parse(serde, await self.decode(payload))

    def parse(self, serde: Serde[Any], payload: bytes) -> Any:
        """What is left of reading once the codec is done."""
        if isinstance(serde, PickleSerde):
            payload = self._seal.open(payload)
        return serde.deserialize(payload)
