"""One pickle stream of a notebook's variables, and the names of those that cannot be in it.

Owns: which variables go in, where the stream is cut, which buffers stay out of it. Never touches
files; how an object is written is `reducers.py`.

The variables are dumped one after another by one pickler: the memo is common, so sharing
survives; yet a failure has a name, and the stream can be cut between variables, so that a new
variable at the end does not rewrite the bytes of those before it.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from nbdurable.batch.reducers import (
    LiveNamespace,
    NamespacePickler,
    NamespaceUnpickler,
    array_holders,
)
from nbdurable.batch.tombstone import Lost

# Raises if these bytes are not to be written.
Refuse = Callable[[bytes | memoryview], None]
# A file costs about a directory entry and an fsync: below 64 KiB that is more than the bytes.
BUFFER_BYTES_MIN = 64 * 1024
# Trying one variable alone also pickles what it shares with others, so fifty names for one big
# list would try it fifty times; past this the search goes on by dropping one name per round.
PROBE_BYTES_MAX = 256 * 1024 * 1024
REASON_LENGTH_MAX = 300


@dataclass(frozen=True, slots=True)
class Pickled:
    """The stream in parts of at least `BUFFER_BYTES_MIN` where possible, and its buffers."""

    names: tuple[str, ...]
    parts: tuple[bytes, ...]
    buffers: tuple[memoryview, ...]
    lost: tuple[Lost, ...]
    source_names: frozenset[str]


def dump(
    values: Mapping[str, object],
    namespace: dict[str, object],
    cells: Mapping[str, str],
    refuse: Refuse | None = None,
) -> Pickled:
    """Pickle every variable that can be; the others are returned as lost.

    Args:
        refuse: Raises if bytes of a variable are not to be written.
    """
    left = dict(values)
    lost: list[Lost] = []

    def lose(name: str, error: Exception) -> None:
        lost.append(_lost(name, left.pop(name), error, cells))

    budget = _Budget(PROBE_BYTES_MAX)
    while True:
        writing = _Writing(left, namespace, refuse)
        try:
            for name in left:
                writing.variable(name)
        except _VariableError as failure:
            later = list(left)[list(left).index(failure.name) + 1 :]
            lose(failure.name, failure.error)
        else:
            return writing.pickled(tuple(lost))
        for name in later:
            if (error := _probe(left[name], namespace, budget)) is not None:
                lose(name, error)


def load(
    names: Iterable[str],
    parts: Iterable[bytes | bytearray],
    buffers: Iterable[bytearray],
    namespace: dict[str, object],
) -> Iterator[tuple[str, object]]:
    """Unpickle variable by variable, in the order in which they were saved."""
    unpickler = NamespaceUnpickler(io.BytesIO(b"".join(parts)), namespace, buffers)
    for name in names:
        yield name, unpickler.load()


def type_name(value: object) -> str:
    kind = type(value)
    prefix = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    return prefix + kind.__qualname__


class _VariableError(Exception):
    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(name)
        self.name = name
        self.error = error


class _Writing:
    """Mutable: one attempt to pickle all variables; owned by one thread."""

    def __init__(
        self, values: Mapping[str, object], namespace: dict[str, object], refuse: Refuse | None
    ) -> None:
        self._refuse = refuse
        self._values = values
        self._namespace = namespace
        self._buffers: list[memoryview] = []
        self._segments: dict[str, list[bytes]] = {}
        self._sink = _Sink()
        self._pickler = NamespacePickler(
            self._sink, namespace, array_holders(values.values()), _keeping_large(self._buffers)
        )

    def variable(self, name: str) -> None:
        value = self._values[name]
        if value is self._namespace:
            value = LiveNamespace()
        known = len(self._buffers)
        try:
            self._pickler.dump(value)
            segment = self._sink.taken()
            if self._refuse is not None:
                self._refuse(b"".join(segment))
                for buffer in self._buffers[known:]:
                    self._refuse(buffer)
        # A border: pickling runs `__reduce__` and `__getstate__` of anybody's classes.
        except Exception as error:
            raise _VariableError(name, error) from error
        self._segments[name] = segment

    def pickled(self, lost: tuple[Lost, ...]) -> Pickled:
        parts: list[bytes] = []
        small: list[bytes] = []
        for segment in self._segments.values():
            # A big variable gets a file of its own, so that a small neighbour which changes in
            # every cell does not rewrite it.
            if sum(map(len, segment)) >= BUFFER_BYTES_MIN:
                parts += [b"".join(small), b"".join(segment)]
                small = []
            else:
                small += segment
        parts.append(b"".join(small))
        return Pickled(
            names=tuple(self._segments),
            parts=tuple(part for part in parts if part),
            buffers=tuple(self._buffers),
            lost=lost,
            source_names=frozenset(self._pickler.source_names),
        )


def _keeping_large(buffers: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    # A function over the list, not a method of `_Writing`: the pickler would hold its holder, and
    # the memo, with every object of the user in it, would live until the collector came by.
    def keep_in_stream(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:
            # Not contiguous: only its owner knows how to copy it, and does so in the stream.
            return True
        if raw.nbytes < BUFFER_BYTES_MIN:
            return True
        buffers.append(raw)
        return False

    return keep_in_stream


@dataclass(slots=True)
class _Sink:
    """Mutable: what the pickler has written since last taken; owned by one thread."""

    chunks: list[bytes] = field(default_factory=list)

    def write(self, chunk: bytes | memoryview) -> int:
        self.chunks.append(bytes(chunk))
        return len(chunk)

    def taken(self) -> list[bytes]:
        chunks, self.chunks = self.chunks, []
        return chunks


class _OverBudgetError(Exception):
    pass


@dataclass(slots=True)
class _Budget:
    """Mutable: a file that forgets, and gives up; owned by one thread."""

    bytes_left: int

    def write(self, chunk: bytes | memoryview) -> int:
        self.bytes_left -= len(chunk)
        if self.bytes_left < 0:
            raise _OverBudgetError
        return len(chunk)


def _probe(value: object, namespace: dict[str, object], budget: _Budget) -> Exception | None:
    """Why one variable alone cannot be pickled, as far as the budget lets us see."""
    if budget.bytes_left < 0 or value is namespace:
        return None
    try:
        NamespacePickler(budget, namespace, {}, lambda _buffer: False).dump(value)
    except _OverBudgetError:
        return None
    # A border, as in `_Writing.variable`.
    except Exception as error:  # noqa: BLE001
        return error
    return None


def _lost(name: str, value: object, error: Exception, cells: Mapping[str, str]) -> Lost:
    lines = str(error).splitlines() or [type(error).__name__]
    return Lost(name, type_name(value), lines[0][:REASON_LENGTH_MAX], cells.get(name, ""))
