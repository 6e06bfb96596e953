"""Any Python value, by cloudpickle: what a cell has defined, a fitted model.

Reading a pickle runs whatever code its writer has put into it. So it is chosen by name, never by
default, and the engine signs what it records of it: bytes that came over HTTP are not read.
"""

from __future__ import annotations

from typing import Any, Optional

from nbdurable.errors import SerializationError
from nbdurable.sdk.serde import Serde

PROTOCOL = 5


class PickleSerde(Serde[Any]):
    """Anything cloudpickle can write, for values that only your own handlers and steps exchange.

    `RunOptions(serde=PickleSerde())`.

    **Risk.** A pickle is a program. Those recorded by an engine carry a signature with a key of
    this journal (`pickle.key`, readable by its owner only); what has no such signature, e.g. an
    argument or an awakeable's value that came over HTTP, is refused and not read. Used by hand,
    this class reads what it is given.

    A pickle also needs the modules and versions it was written with, and equal values need not
    have equal bytes: replay compares names and kinds of entries only.
    """

    def serialize(self, obj: Optional[Any]) -> bytes:
        """Write a pickle; nothing for None."""
        if obj is None:
            return b""
        import cloudpickle

        try:
            return bytes(cloudpickle.dumps(obj, protocol=PROTOCOL))
        except Exception as error:
            raise SerializationError(
                f"cannot be pickled: {error}",
                fix="Return what it was made of, and make it again where it is needed.",
            ) from error

    def deserialize(self, buf: bytes) -> Optional[Any]:
        """Run the pickle, and return what it makes."""
        if not buf:
            return None
        import pickle

        try:
            return pickle.loads(buf)
        except Exception as error:
            raise SerializationError(
                f"cannot be unpickled: {error}",
                root="payload",
                fix="Import what it was made of, in the versions it was made with.",
            ) from error
