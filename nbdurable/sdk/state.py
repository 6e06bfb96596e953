"""Durable state as a handler sees it: a few named values per object key or workflow run."""

from __future__ import annotations

import abc
from collections.abc import Awaitable
from typing import Optional, TypeVar

from nbdurable.sdk.serde import DEFAULT_SERDE, Serde

T = TypeVar("T")


class KeyValueStore(abc.ABC):
    """The state of one object key or workflow run; it outlives the invocations that write it.

    `entry_name` labels the journal entry for readers and changes nothing else.
    """

    @abc.abstractmethod
    def get(
        self,
        name: str,
        serde: Serde[T] = DEFAULT_SERDE,
        type_hint: Optional[type[T]] = None,
        entry_name: Optional[str] = None,
    ) -> Awaitable[Optional[T]]:
        """Return the value, or None if there is none. Sees this invocation's own writes."""

    @abc.abstractmethod
    def state_keys(self, entry_name: Optional[str] = None) -> Awaitable[list[str]]:
        """Return the names that have a value."""

    @abc.abstractmethod
    def set(
        self,
        name: str,
        value: T,
        serde: Serde[T] = DEFAULT_SERDE,
        entry_name: Optional[str] = None,
    ) -> None:
        """Write a value. Does not wait: it is durable before anything that completes later."""

    @abc.abstractmethod
    def clear(self, name: str, entry_name: Optional[str] = None) -> None:
        """Remove one value; nothing happens if there is none."""

    @abc.abstractmethod
    def clear_all(self, entry_name: Optional[str] = None) -> None:
        """Remove all values of this key."""
