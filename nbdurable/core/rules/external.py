"""What comes from outside: promises and awakeables completed, timers that are due."""

from __future__ import annotations

import msgspec

from nbdurable.core.draft import Draft
from nbdurable.core.facts import PromiseCompleted
from nbdurable.core.futures import Signal
from nbdurable.core.ids import FIRST_AWAKEABLE_SIGNAL, parse_awakeable_id
from nbdurable.core.notifications import CompletionNotification
from nbdurable.core.proposals import (
    Answer,
    CompleteAwakeable,
    CompletePromise,
    Done,
    Refused,
    SendSignal,
    TimerFired,
)
from nbdurable.core.records import CopyOf, cannot_hold
from nbdurable.core.rules.progress import (
    VOID,
    answered_by,
    complete_future,
    copy_of,
    named_signal,
    notify,
    refuse_ended,
    set_timer,
    signal,
    wake,
)
from nbdurable.core.rules.retention import expire
from nbdurable.core.state import OpenSleep, Waiter


def complete_promise_from_client(draft: Draft, proposal: CompletePromise) -> Answer:
    service = draft.state.services.get(proposal.service)
    if service is None or service.manifest.type != "workflow":
        return Refused(code=404, message=f"there is no workflow named '{proposal.service}'")
    unwritable = cannot_hold(msgspec.structs.replace(proposal, payload=None))
    if unwritable is not None:
        return Refused(code=400, message=f"the promise cannot be recorded: {unwritable}")
    if complete_promise(draft, proposal, proposal.payload):
        return Done()
    return Refused(
        code=409,
        message=f"promise '{proposal.promise}' of {proposal.object} was already completed",
    )


def complete_promise(
    draft: Draft, proposal: CompletePromise, payload: bytes | CopyOf | None
) -> bool:
    """Whether it was open. A promise may be completed before anybody waits for it."""
    object_id = proposal.object
    obj = draft.state.objects.get(object_id)
    waiters: tuple[Waiter, ...] = ()
    if obj is not None:
        if obj.promise(proposal.promise) is not None:
            return False
        waiters = obj.waiters_for(proposal.promise)
    fact = PromiseCompleted(
        object=object_id,
        promise=proposal.promise,
        result=proposal.result,
        by=proposal.by,
        comment=proposal.comment,
    )
    lsn = draft.record(fact, payload)
    answered = answered_by(draft, object_id, proposal.promise)
    for waiter in waiters:
        complete_future(draft, waiter, proposal.result, copy_of(proposal.result, lsn), answered)
    return True


def complete_awakeable(draft: Draft, proposal: CompleteAwakeable) -> Answer:
    """The first to complete it wins; later ones, and those for finished invocations, are ignored.

    A webhook that is delivered twice is no mistake; an id of no invocation is, and is said, where
    Restate accepts it in silence (design, section 6.8).

    Source: restate-http-observed.md, "Awakeables".
    """
    unwritable = cannot_hold(msgspec.structs.replace(proposal, payload=None))
    if unwritable is not None:
        return Refused(code=400, message=f"the awakeable cannot be recorded: {unwritable}")
    try:
        named = parse_awakeable_id(proposal.awakeable_id)
    except ValueError as error:
        return Refused(code=400, message=str(error))
    if named.signal_id < FIRST_AWAKEABLE_SIGNAL:
        # Else an id made by hand could cancel the invocation.
        return Refused(code=400, message=f"bad awakeable id {proposal.awakeable_id!r}")
    inv = draft.live(named.invocation_id)
    if inv is None and named.invocation_id not in draft.state.completed:
        return Refused(
            code=404,
            message=f"The awakeable '{proposal.awakeable_id}' belongs to no invocation that is"
            " known: it was purged, or the id is of another journal.",
        )
    if inv is None or not named.is_of(inv.seed):
        return Done()
    if not inv.has_heard(Signal(id=named.signal_id)):
        result, payload = proposal.result, proposal.payload
        signal(draft, inv, named.signal_id, result, payload, proposal.answered)
    return Done()


def send_signal_from_client(draft: Draft, proposal: SendSignal) -> Answer:
    unwritable = cannot_hold(msgspec.structs.replace(proposal, payload=None))
    if unwritable is not None:
        return Refused(code=400, message=f"the signal cannot be recorded: {unwritable}")
    inv = draft.live(proposal.invocation_id)
    if inv is None:
        return refuse_ended(draft, proposal.invocation_id)
    named_signal(draft, inv, proposal.name, proposal.result, proposal.payload)
    return Done()


def timer_fired(draft: Draft, proposal: TimerFired) -> Answer:
    """A timer may fire for what is no longer there, or twice: then it changes nothing.

    One that fires early, because the clock was set back meanwhile, is set again.
    """
    timer = proposal.timer
    inv = draft.live(timer.invocation_id)
    if inv is None:
        expire(draft, timer.invocation_id)
        return Done()
    if timer.completion_id:
        sleep = inv.open.get(timer.completion_id)
        due_ms = sleep.wake_up_at_ms if isinstance(sleep, OpenSleep) else None
    elif inv.status == "scheduled":
        due_ms = inv.start_at_ms
    else:
        due_ms = inv.next_retry_at_ms
    if due_ms is None:
        return Done()
    if due_ms > draft.now_ms:
        set_timer(draft, inv, timer.completion_id, due_ms)
    elif timer.completion_id:
        notification = CompletionNotification(
            completion_id=timer.completion_id, of="Sleep", result=VOID
        )
        notify(draft, inv, notification, None)
    elif inv.status == "scheduled":
        wake(draft, inv, "its time has come")
    elif inv.status == "backing-off":
        wake(draft, inv, "it is time to retry")
    return Done()
