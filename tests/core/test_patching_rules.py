"""Options of a service changed by hand."""

from __future__ import annotations

import msgspec
import pytest
from room import GREET, Room, greeter, payment, run_of

from nbdurable.core.facts import InvocationCreated, ServicePatched
from nbdurable.core.manifest import HandlerManifest, ServicePatch
from nbdurable.core.proposals import Done, PatchService, Refused


@pytest.fixture
def room() -> Room:
    return Room(greeter(), payment())


def patch(room: Room, service: str = "Greeter", **options: object):
    return room.decide(PatchService(service=service, patch=ServicePatch(**options)))


def handler(room: Room, service: str = "Greeter") -> HandlerManifest:
    return room.state.services[service].manifest.handlers[0]


def test_a_patch_holds_for_every_handler_from_now_on(room: Room):
    assert patch(room, journal_retention_ms=7, public=False) == Done()
    assert room.facts == [
        ServicePatched(service="Greeter", patch=ServicePatch(journal_retention_ms=7, public=False))
    ]
    assert (handler(room).journal_retention_ms, handler(room).ingress_private) == (7, True)
    patch(room, public=True, inactivity_timeout_ms=9)
    assert (handler(room).journal_retention_ms, handler(room).ingress_private) == (7, False)
    assert handler(room).inactivity_timeout_ms == 9


def test_what_is_invoked_after_a_patch_is_kept_as_it_says(room: Room):
    patch(room, "Payment", workflow_retention_ms=5, journal_retention_ms=3)
    room.invoke(run_of())
    created = next(fact for fact in room.facts if isinstance(fact, InvocationCreated))
    assert (created.completion_retention_ms, created.journal_retention_ms) == (5, 3)


def test_what_is_not_named_is_left_as_it_is(room: Room):
    assert patch(room) == Done()
    assert room.facts == []


def test_a_private_service_is_closed_to_clients_only(room: Room):
    patch(room, public=False)
    answer = room.decide(room.invocation(GREET))
    assert answer == Refused(code=400, message="the invoked service is not public")


def test_an_unchanged_definition_keeps_its_patch(room: Room):
    """A kernel that starts again registers the same cells; a patch is no part of them."""
    patch(room, public=False)
    room.restart()
    assert not room.load(greeter()).is_new
    assert handler(room).ingress_private


def test_a_new_revision_brings_its_own_options(room: Room):
    """As in Restate, where the next discovery overwrites a patch."""
    patch(room, public=False)
    changed = greeter(digest="v2")
    assert room.load(changed).is_new
    assert not handler(room).ingress_private
    again = msgspec.structs.replace(changed, digest="v3")
    assert room.load(again).revision == 3


@pytest.mark.parametrize(
    ("service", "options", "code"),
    [("Nobody", {"public": False}, 404), ("Greeter", {"workflow_retention_ms": 1}, 400)],
)
def test_what_cannot_be_patched_is_refused(room: Room, service: str, options: dict, code: int):
    answer = patch(room, service, **options)
    assert isinstance(answer, Refused)
    assert answer.code == code
    assert room.facts == []
