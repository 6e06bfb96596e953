"""A call that would wait for its own caller is refused when it is made, and says the chain."""

from __future__ import annotations

import pytest
from room import Room, add, counter, greeter, peek

from nbdurable.core.attempt import ref_of
from nbdurable.core.commands import AttachInvocationCommand, CallCommand, OneWayCallCommand
from nbdurable.core.facts import NotificationAppended
from nbdurable.core.ids import InvocationId, keyed_invocation_id
from nbdurable.core.values import Failure, Target


@pytest.fixture
def room() -> Room:
    return Room(greeter(), counter())


def call(
    room: Room, caller: InvocationId, target: Target, key: str | None = None
) -> tuple[InvocationId, Failure | None]:
    """The callee's id, and the failure if the call was refused."""
    inv = room.inv(caller)
    callee = InvocationId(f"inv_1{caller[-4:]}{inv.completion_count}{target.key}")
    if key is not None:
        callee = keyed_invocation_id(target.service, target.key, target.handler, key)
    command = CallCommand(
        completion_id=inv.completion_count + 1,
        invocation_id=callee,
        target=target,
        argument=ref_of(b""),
        idempotency_key=key,
    )
    room.append(caller, command, b"")
    return callee, failure_in(room)


def failure_in(room: Room) -> Failure | None:
    last = room.facts[-1]
    result = last.notification.result if isinstance(last, NotificationAppended) else None
    return result if isinstance(result, Failure) else None


def test_a_call_to_ones_own_key_is_refused(room: Room):
    one = room.invoke(add("ada"))
    callee, refused = call(room, one, add("ada"))
    assert refused is not None
    assert refused.code == 409
    assert refused.message.startswith("deadlock: Counter/ada/add → Counter/ada/add would wait")
    assert room.state.find(callee) is None
    assert room.status(one) == "running"


def test_a_chain_back_to_a_held_key_is_refused_at_its_last_link(room: Room):
    one = room.invoke(add("ada"))
    bob, refused = call(room, one, add("bob"))
    assert refused is None
    _, refused = call(room, bob, add("ada"))
    assert refused is not None
    assert "Counter/bob/add → Counter/ada/add → Counter/bob/add" in refused.message


def test_two_that_wait_for_each_other_are_found_through_the_inbox(room: Room):
    """Neither calls itself: each holds what the other queues for."""
    ada, bob = room.invoke(add("ada")), room.invoke(add("bob"))
    _, refused = call(room, ada, add("bob"))
    assert refused is None
    _, refused = call(room, bob, add("ada"))
    assert refused is not None


def test_a_way_through_a_plain_service_is_found_too(room: Room):
    one = room.invoke(add("ada"))
    service, _ = call(room, one, Target(service="Greeter", handler="greet"))
    _, refused = call(room, service, add("ada"))
    assert refused is not None


def test_waiting_for_a_busy_key_is_no_deadlock(room: Room):
    """Its holder waits for nobody here: it will be free."""
    room.invoke(add("bob"))
    one = room.invoke(add("ada"))
    callee, refused = call(room, one, add("bob"))
    assert refused is None
    assert room.status(callee) == "pending"


def test_shared_handlers_and_sends_wait_for_no_lock(room: Room):
    one = room.invoke(add("ada"))
    _, refused = call(room, one, peek("ada"))
    assert refused is None
    sent = InvocationId("inv_1sent")
    command = OneWayCallCommand(invocation_id=sent, target=add("ada"), argument=ref_of(b""))
    room.append(one, command, b"")
    assert room.status(sent) == "pending"


def test_latching_on_to_ones_own_caller_is_refused(room: Room):
    """An idempotency key or an attachment waits just as a call does."""
    one = room.invoke(add("ada"), idempotency_key="k")
    service, _ = call(room, one, Target(service="Greeter", handler="greet"))
    _, refused = call(room, service, add("ada"), key="k")
    assert refused is not None
    attach = AttachInvocationCommand(completion_id=9, invocation_id=one)
    room.append(service, attach)
    assert failure_in(room) is not None
    assert not room.inv(one).waiters
