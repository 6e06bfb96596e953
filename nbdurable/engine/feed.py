"""Who wants to know: callbacks that hear, after each commit, which invocations changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from nbdurable.core.facts import InvocationFact
from nbdurable.core.ids import InvocationId
from nbdurable.core.records import Record

logger = logging.getLogger("nbdurable")

Listener = Callable[[frozenset[InvocationId]], None]


class Feed:
    """Mutable; owned by the engine thread. Listeners are called there and must not block."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Returns the function that ends the subscription; calling it twice does no harm."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def publish(self, records: Sequence[Record]) -> None:
        if not self._listeners:
            return
        changed = frozenset(
            record.fact.invocation_id
            for record in records
            if isinstance(record.fact, InvocationFact)
        )
        if changed:
            self.tell(changed)

    def tell(self, changed: frozenset[InvocationId]) -> None:
        """For when what changed is not known by records: after a recovery."""
        for listener in tuple(self._listeners):
            try:
                listener(changed)
            except Exception:  # border: a listener's fault is not the engine's.
                logger.exception("a feed listener failed")
