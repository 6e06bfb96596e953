"""A mapping for where there is one thing mostly: a dict of one takes 224 bytes, and this 48.

Like a dict it keeps the order in which things came, and equals a dict that holds the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeVar, cast

K = TypeVar("K")
V = TypeVar("V")


class _None:
    """No key."""


_NONE = _None()


class Few(MutableMapping[K, V]):
    """Mutable: one key and its value, or a dict as long as there have been several."""

    __slots__ = ("_key", "_value")

    def __init__(self, of: Mapping[K, V] | None = None) -> None:
        self._key: Any = _NONE
        self._value: Any = None
        self.update(of or {})

    def __getitem__(self, key: K) -> V:
        if self._key is _NONE:
            return cast("V", (self._value or {})[key])
        if self._key != key:
            raise KeyError(key)
        return cast("V", self._value)

    def __setitem__(self, key: K, value: V) -> None:
        if self._key is not _NONE:
            if self._key == key:
                self._value = value
                return
            self._key, self._value = _NONE, {self._key: self._value}
        if self._value:
            self._value[key] = value
        else:
            self._key, self._value = key, value

    def __delitem__(self, key: K) -> None:
        if self._key is _NONE:
            del (self._value or {})[key]
        elif self._key == key:
            self._key, self._value = _NONE, None
        else:
            raise KeyError(key)

    def __iter__(self) -> Iterator[K]:
        return iter(self._value or ()) if self._key is _NONE else iter((self._key,))

    def __len__(self) -> int:
        return len(self._value or ()) if self._key is _NONE else 1

    def __repr__(self) -> str:
        return repr(dict(self))
