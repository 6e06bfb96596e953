"""Who has answered: kept beside what they gave, for people, and of no account to any code."""

from __future__ import annotations

import msgspec
import pytest
from room import Room, greeter, payment, run_of, value

from nbdurable.core.commands import AwakeableCommand, GetPromiseCommand
from nbdurable.core.facts import NotificationAppended, PromiseCompleted
from nbdurable.core.ids import InvocationId, awakeable_id
from nbdurable.core.proposals import CompleteAwakeable, CompletePromise
from nbdurable.core.values import Answered

ADA = Answered(by="ada (notebook)", comment="it is cheap")


@pytest.fixture
def room() -> Room:
    return Room(greeter(), payment())


def complete_promise(room: Room, **who: str) -> None:
    of = {"service": "Payment", "key": "order", "promise": "approval"}
    room.decide(CompletePromise(**of, result=value(b"ok"), payload=b"ok", **who))


def told(room: Room, one: InvocationId) -> Answered | None:
    """What the journal of this invocation says of the last that it was told."""
    facts = [record.fact for record in room.records]
    return next(
        fact.notification.answered
        for fact in reversed(facts)
        if isinstance(fact, NotificationAppended) and fact.invocation_id == one
    )


def test_a_promise_says_who_has_completed_it(room: Room):
    one = room.invoke(run_of())
    room.append(one, GetPromiseCommand(completion_id=1, key="approval"))
    complete_promise(room, by=ADA.by, comment=ADA.comment or "")
    assert told(room, one) == ADA


def test_a_promise_that_was_completed_in_advance_says_so_too(room: Room):
    complete_promise(room, by=ADA.by, comment=ADA.comment or "")
    one = room.invoke(run_of())
    room.append(one, GetPromiseCommand(completion_id=1, key="approval"))
    assert told(room, one) == ADA


def test_an_awakeable_says_who_has_completed_it(room: Room):
    one = room.invoke()
    room.append(one, AwakeableCommand(signal_id=17))
    of = awakeable_id(one, room.inv(one).seed, 17)
    room.decide(
        CompleteAwakeable(awakeable_id=of, result=value(b"ok"), payload=b"ok", answered=ADA)
    )
    assert told(room, one) == ADA


def test_a_client_that_names_nobody_is_nobody(room: Room):
    one = room.invoke(run_of())
    room.append(one, GetPromiseCommand(completion_id=1, key="approval"))
    complete_promise(room)
    assert told(room, one) is None


def test_journals_of_before_are_read(room: Room):
    """They say nothing of it, and what says nothing is written as it was."""
    one = room.invoke(run_of())
    room.append(one, GetPromiseCommand(completion_id=1, key="approval"))
    complete_promise(room)
    for kind in (PromiseCompleted, NotificationAppended):
        fact = next(r.fact for r in room.records if isinstance(r.fact, kind))
        written = msgspec.json.encode(fact)
        assert b"comment" not in written
        assert b"answered" not in written
        assert msgspec.json.decode(written, type=kind) == fact
