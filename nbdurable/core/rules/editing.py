"""State edited by hand: a key is given exactly the state that somebody wrote down for it.

An edit waits for the lock like an invocation, in the order they came. Where Restate finds out only
then that the state is not the one that was edited, and drops the edit in silence, an edit made from
a known version is refused at once: when that version is gone, and when the key is in use, because
nobody can say what its version will be when the edit's turn comes.

Source: restate-semantics.md, 3.1 (`POST /services/{s}/state`); restate-cli-calls.md, "REST calls".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from nbdurable.core.commands import ClearAllStateCommand, SetStateCommand
from nbdurable.core.draft import Draft
from nbdurable.core.facts import StateEdited, StateEditQueued
from nbdurable.core.ids import digest_of
from nbdurable.core.proposals import Answer, Done, EditState, Refused
from nbdurable.core.records import CopyOf, cannot_hold
from nbdurable.core.state import ObjectState
from nbdurable.core.values import ObjectId, PayloadRef

# Tells our versions from those that others make of the same state, which mean nothing to us.
_VERSION_PREFIX: Final = "state-1-"


class _NewValue(NamedTuple):
    ref: PayloadRef
    payload: bytes | CopyOf


def edit_state(draft: Draft, proposal: EditState) -> Answer:
    refused = _refuse(draft, proposal)
    if refused is not None:
        return refused
    obj = draft.state.objects.get(proposal.object)
    if obj is None or obj.holder is None:
        values = {new.name: _NewValue(new.value, new.payload) for new in proposal.values}
        _replace_state(draft, proposal.object, values)
        return Done()
    edit_lsn = draft.record(StateEditQueued(object=proposal.object))
    for new in proposal.values:
        part = StateEditQueued(
            object=proposal.object, edit_lsn=edit_lsn, name=new.name, value=new.value
        )
        draft.record(part, new.payload)
    return Done()


def make_due_edits(draft: Draft, object_id: ObjectId, obj: ObjectState) -> None:
    """Those that have nobody before them any more. The lock is free."""
    while obj.edits:
        lsn, edit = next(iter(obj.edits.items()))
        if edit.behind in (obj.inbox or ()):
            return
        values = {
            name: _NewValue(
                msgspec.structs.replace(ref, lsn=0), CopyOf(ref.lsn) if ref.bytes else b""
            )
            for name, ref in edit.values.items()
        }
        _replace_state(draft, object_id, values, lsn)


def version_of(values: Mapping[str, PayloadRef]) -> str:
    """The version of a key's state: equal states have equal ones."""
    named = sorted((name, ref.digest) for name, ref in values.items())
    return _VERSION_PREFIX + digest_of(msgspec.json.encode(named))


def _refuse(draft: Draft, proposal: EditState) -> Refused | None:
    service = draft.state.services.get(proposal.object.service)
    if service is None:
        name = proposal.object.service
        return Refused(code=404, message=f"The requested service '{name}' does not exist")
    if service.manifest.type == "service":
        return Refused(code=400, message="Cannot modify state for service type Service")
    bare = tuple(msgspec.structs.replace(new, payload=b"") for new in proposal.values)
    unwritable = cannot_hold(msgspec.structs.replace(proposal, values=bare))
    if unwritable is not None:
        return Refused(code=400, message=f"the state cannot be recorded: {unwritable}")
    if proposal.version is None or not proposal.version.startswith(_VERSION_PREFIX):
        return None
    obj = draft.state.objects.get(proposal.object)
    if proposal.version != version_of({} if obj is None else obj.state):
        return Refused(
            code=409,
            message=f"the state of {proposal.object} has changed since it was read. Read it again"
            " and edit that; or leave out the version to replace whatever is there.",
        )
    if obj is not None and obj.holder is not None:
        return Refused(
            code=409,
            message=f"{proposal.object} is in use by {obj.holder}, which may change its state"
            " before this edit has its turn. Try again when it is free; or leave out the version"
            " to replace whatever is there then.",
        )
    return None


def _replace_state(
    draft: Draft, object_id: ObjectId, values: Mapping[str, _NewValue], edit_lsn: int = 0
) -> None:
    """In one commit: nobody ever reads the state between."""
    draft.record(StateEdited(object=object_id, command=ClearAllStateCommand(), edit_lsn=edit_lsn))
    for name, (ref, payload) in values.items():
        command = SetStateCommand(key=name, value=ref)
        draft.record(StateEdited(object=object_id, command=command), payload)
