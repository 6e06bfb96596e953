"""Notifications: what came from outside, in the order it came. Futures complete in this order."""

from __future__ import annotations

import msgspec

from nbdurable.core.futures import Completion, Leaf, NamedSignal, Signal
from nbdurable.core.values import Answered, PayloadRef, Result, Success


class Notification(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag=True,
    tag_field="type",
    omit_defaults=True,
    gc=False,
):
    result: Result
    # For people: who gave this result, where a person did. Code never sees it.
    answered: Answered | None = None


class CompletionNotification(Notification, frozen=True, kw_only=True, tag="completion"):
    """`of` is the entry type of the command that it completes: Run, Sleep, Call and so on."""

    completion_id: int
    of: str


class SignalNotification(Notification, frozen=True, kw_only=True, tag="signal"):
    """Signal 1 is a cancellation; 17 and up are awakeables; 0 has a name.

    `index` counts the signals of this name from 0.
    """

    signal_id: int
    name: str | None = None
    index: int = 0


AnyNotification = CompletionNotification | SignalNotification


def leaf_of(notification: AnyNotification) -> Leaf:
    match notification:
        case CompletionNotification():
            return Completion(id=notification.completion_id)
        case SignalNotification(name=str(name)):
            return NamedSignal(name=name, index=notification.index)
        case SignalNotification():
            return Signal(id=notification.signal_id)


def notification_type(notification: AnyNotification) -> str:
    """`Notification: Run` for the completion of a run: the name under which SQL shows it."""
    match notification:
        case CompletionNotification():
            return f"Notification: {notification.of}"
        case SignalNotification():
            return "Notification: Signal"


def notified_payload(notification: Notification) -> PayloadRef | None:
    match notification.result:
        case Success(value=ref):
            return ref
        case _:
            return None
