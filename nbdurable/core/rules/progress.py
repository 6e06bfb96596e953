"""How an invocation moves on: it gets the lock, an attempt, a notification, an end."""

from __future__ import annotations

from typing import NamedTuple

from nbdurable.core.actions import DeliverNotification, PublishResult, SetTimer, StartAttempt
from nbdurable.core.draft import Draft
from nbdurable.core.facts import (
    AttemptStarted,
    InvocationCompleted,
    InvocationPending,
    InvocationReadied,
    NotificationAppended,
)
from nbdurable.core.ids import CANCEL_SIGNAL, InvocationId, digest_of
from nbdurable.core.notifications import (
    AnyNotification,
    CompletionNotification,
    SignalNotification,
)
from nbdurable.core.proposals import Refused, Timer
from nbdurable.core.records import CopyOf
from nbdurable.core.rules.editing import make_due_edits
from nbdurable.core.state import Invocation, ObjectState, Waiter
from nbdurable.core.values import Answered, Failure, ObjectId, PayloadRef, Result, Success

# A void result: no bytes.
VOID = Success(value=PayloadRef(bytes=0, digest=digest_of(b"")))


def wake(draft: Draft, inv: Invocation, why: str) -> None:
    """Give it an attempt now if it may have one, else leave it where it waits for that."""
    obj = draft.state.objects.get(inv.object) if inv.exclusive and inv.object else None
    if obj is not None and obj.holder not in (None, inv.id):
        if inv.status != "pending":
            draft.record(InvocationPending(invocation_id=inv.id))
        return
    place = place_for(draft, inv)
    if place is None or draft.state.is_full(inv):
        if inv.status != "ready":
            draft.record(InvocationReadied(invocation_id=inv.id, why=why))
        return
    revision, link = place
    attempt = inv.attempt + 1
    draft.record(
        AttemptStarted(invocation_id=inv.id, attempt=attempt, link=link, revision=revision)
    )
    draft.act(
        StartAttempt(
            invocation_id=inv.id, seed=inv.seed, attempt=attempt, link=link, revision=revision
        )
    )


class Place(NamedTuple):
    """What an attempt would run, and over which link."""

    revision: int
    link: str


def place_for(draft: Draft, inv: Invocation) -> Place | None:
    """The revision it is pinned to, or the latest for one that never ran; None if it must wait."""
    service = draft.state.services.get(inv.target.service)
    if service is None:
        return None
    revision = service.latest if inv.revision is None else inv.revision
    link = draft.state.free_link(inv)
    # A cell that was edited may lack the handler that an invocation of before asks for.
    if link is None or service.revisions[revision].handler(inv.target.handler) is None:
        return None
    return Place(revision, link)


def notify(
    draft: Draft, inv: Invocation, notification: AnyNotification, payload: bytes | CopyOf | None
) -> None:
    """Append a notification and let whoever waits for it go on."""
    fact = NotificationAppended(
        invocation_id=inv.id, entry_index=inv.entry_count, notification=notification
    )
    lsn = draft.record(fact, payload)
    if inv.status == "running" and inv.link is not None:
        draft.act(
            DeliverNotification(
                invocation_id=inv.id,
                attempt=inv.attempt,
                link=inv.link,
                lsn=lsn,
                entry_index=fact.entry_index,
                notification=notification,
            )
        )
    elif inv.status == "suspended" and (inv.is_resumable or _is_cancel(notification)):
        wake(draft, inv, "what it waited for is there")


def _is_cancel(notification: AnyNotification) -> bool:
    """A cancellation satisfies every wait, and can be repeated: each is raised once."""
    return isinstance(notification, SignalNotification) and notification.signal_id == CANCEL_SIGNAL


def complete_future(
    draft: Draft,
    waiter: Waiter,
    result: Result,
    payload: bytes | CopyOf | None = None,
    answered: Answered | None = None,
) -> None:
    """Complete one future of a live invocation; a finished one needs no result."""
    inv = draft.live(waiter.invocation_id)
    if inv is None or inv.seed != waiter.seed:
        return
    notification = CompletionNotification(
        completion_id=waiter.completion_id, of=waiter.of, result=result, answered=answered
    )
    notify(draft, inv, notification, payload)


def signal(
    draft: Draft,
    inv: Invocation,
    signal_id: int,
    result: Result,
    payload: bytes | None = None,
    answered: Answered | None = None,
) -> None:
    notification = SignalNotification(signal_id=signal_id, result=result, answered=answered)
    notify(draft, inv, notification, payload)


def named_signal(
    draft: Draft, inv: Invocation, name: str, result: Result, payload: bytes | CopyOf | None
) -> None:
    """Kept in the order they come, whatever it is doing: each wait takes the next."""
    index = 0 if inv.signal_counts is None else inv.signal_counts.get(name, 0)
    notification = SignalNotification(signal_id=0, name=name, index=index, result=result)
    notify(draft, inv, notification, payload)


def complete(
    draft: Draft,
    inv: Invocation,
    fact: InvocationCompleted,
    payload: bytes | None = None,
) -> None:
    """End an invocation: free its lock, tell its caller and everyone attached, let the next in."""
    waiters = list(inv.waiters or ())
    if inv.caller is not None and inv.caller.completion_id is not None:
        caller = inv.caller
        waiter = Waiter(caller.invocation_id, caller.seed, inv.caller.completion_id, "Call")
        waiters.insert(0, waiter)
    held = draft.state.objects.get(inv.object) if inv.exclusive and inv.object else None
    lsn = draft.record(fact, payload)
    draft.act(PublishResult(invocation_id=inv.id, result=draft.state.completed[inv.id].result))
    if inv.completion_retention_ms == 0:
        set_timer(draft, inv, 0, draft.now_ms)
    for waiter in waiters:
        complete_future(draft, waiter, fact.result, copy_of(fact.result, lsn))
    if held is not None and inv.object is not None:
        let_next_in(draft, inv.object, held)


def let_next_in(draft: Draft, object_id: ObjectId, held: ObjectState) -> None:
    """The inbox is first in, first out, and edits of the state have their turn in it."""
    if held.holder is None and held.edits:
        make_due_edits(draft, object_id, held)
    if held.holder is None and held.inbox:
        wake(draft, draft.state.invocations[held.inbox[0]], "the object's lock is free")


def set_timer(draft: Draft, inv: Invocation, completion_id: int, at_ms: int) -> None:
    draft.act(SetTimer(timer=Timer(invocation_id=inv.id, completion_id=completion_id), at_ms=at_ms))


def copy_of(result: Result, lsn: int | None = None) -> CopyOf | None:
    """Where the bytes of an already recorded result are."""
    match result:
        case Success(value=ref) if ref.bytes:
            return CopyOf(ref.lsn if lsn is None else lsn)
        case _:
            return None


def promise_result(draft: Draft, object_id: ObjectId, promise: str) -> Result | None:
    obj = draft.state.objects.get(object_id)
    return None if obj is None else obj.promise(promise)


def answered_by(draft: Draft, object_id: ObjectId, promise: str) -> Answered | None:
    obj = draft.state.objects.get(object_id)
    return None if obj is None else obj.answered_by(promise)


def terminal(code: int, message: str) -> Failure:
    return Failure(code=code, message=message)


def refuse_ended(draft: Draft, invocation_id: InvocationId) -> Refused:
    """Why nothing can be done to an invocation that is not live."""
    if invocation_id in draft.state.completed:
        return Refused(code=409, message=f"The invocation '{invocation_id}' was already completed.")
    return Refused(code=404, message=f"The requested invocation '{invocation_id}' does not exist")
