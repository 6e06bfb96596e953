"""Restart as new: a new invocation goes on from a copy of a finished journal's beginning.

Source: restate-semantics.md, 1.5; restate-http-observed.md, "Admin" (codes and texts).
"""

from __future__ import annotations

from nbdurable.core.commands import Command
from nbdurable.core.draft import Draft
from nbdurable.core.facts import (
    Completed,
    EntryAppended,
    InvocationCreated,
    InvocationMoved,
    NotificationAppended,
)
from nbdurable.core.proposals import Answer, Invoked, Refused, RestartInvocation
from nbdurable.core.records import CopyOf
from nbdurable.core.restart import PrefixEntry
from nbdurable.core.rules.control import refuse_unended
from nbdurable.core.rules.deployment import named_revision
from nbdurable.core.rules.invoke import begin, first_status, retention_of
from nbdurable.core.rules.progress import complete_future, copy_of, set_timer, terminal
from nbdurable.core.state import Invocation, OpenCall, OpenSleep, Waiter


def restart_invocation(draft: Draft, proposal: RestartInvocation) -> Answer:
    old = draft.state.completed.get(proposal.invocation_id)
    if draft.state.find(proposal.new_invocation_id) is not None:
        # Decided again after a commit whose outcome was unknown.
        return Invoked(invocation_id=proposal.new_invocation_id)
    if old is None or old.seed != proposal.seed:
        return refuse_unended(draft, proposal.invocation_id)
    refused = _refuse(draft, old, proposal.from_entry)
    if refused is not None:
        return refused
    revision = named_revision(draft, old.target, old.revision, proposal.revision)
    if isinstance(revision, Refused):
        return revision
    inv = _create(draft, old, proposal)
    if revision is not None:
        draft.record(InvocationMoved(invocation_id=inv.id, revision=revision))
    for entry in proposal.prefix:
        _copy(draft, inv, entry)
    _take_up(draft, inv)
    begin(draft, inv, "it was started anew")
    return Invoked(invocation_id=inv.id)


def _refuse(draft: Draft, old: Completed, from_entry: int) -> Refused | None:
    if old.service_type == "workflow":
        return Refused(
            code=422,
            message="Restarting a workflow is not supported: it runs once per key. Purge it, then"
            " start it again with the same key.",
        )
    if old.journal_purged:
        return Refused(
            code=410, message=f"The journal of '{old.id}' was purged; its input is gone with it."
        )
    if not 1 <= from_entry <= old.entry_count:
        return Refused(
            code=400,
            message=f"The journal of '{old.id}' has {old.entry_count} entries: start it anew from 1"
            f" (with its input only) to {old.entry_count}, not from {from_entry}.",
        )
    if draft.state.handler(old.target) is None:
        return Refused(
            code=404, message=f"'{old.target}' is not registered any more; register it first."
        )
    return None


def _create(draft: Draft, old: Completed, proposal: RestartInvocation) -> Invocation:
    handler = draft.state.handler(old.target)
    assert handler is not None, "refused before"
    retention = retention_of(draft, handler, None)
    draft.record(
        InvocationCreated(
            invocation_id=proposal.new_invocation_id,
            target=old.target,
            argument=proposal.argument,
            status=first_status(draft, old.target, exclusive=old.handler_type == "exclusive"),
            seed=proposal.new_seed,
            service_type=old.service_type,
            handler_type=old.handler_type,
            headers=dict(proposal.headers),
            limit_key=old.limit_key,
            completion_retention_ms=retention.completion_ms,
            journal_retention_ms=retention.journal_ms,
            restarted_from=old.id,
        ),
        CopyOf(old.first_lsn) if proposal.argument.bytes else b"",
    )
    return draft.state.invocations[proposal.new_invocation_id]


def _copy(draft: Draft, inv: Invocation, prefix: PrefixEntry) -> None:
    """What it wrote was written then, so a copy names no object and changes none."""
    payload = None if prefix.payload_lsn is None else CopyOf(prefix.payload_lsn)
    if isinstance(prefix.entry, Command):
        draft.record(
            EntryAppended(invocation_id=inv.id, entry_index=inv.entry_count, command=prefix.entry),
            payload,
        )
    else:
        draft.record(
            NotificationAppended(
                invocation_id=inv.id, entry_index=inv.entry_count, notification=prefix.entry
            ),
            payload,
        )


def _take_up(draft: Draft, inv: Invocation) -> None:
    """What the prefix left open goes on: timers, and the results of those that were called."""
    for completion_id, waiting in list(inv.open.items()):
        match waiting:
            case OpenSleep(wake_up_at_ms=at_ms):
                set_timer(draft, inv, completion_id, at_ms)
            case OpenCall(invocation_id=callee_id, of=of):
                callee = draft.state.find(callee_id)
                waiter = Waiter(inv.id, inv.seed, completion_id, of)
                if isinstance(callee, Completed):
                    complete_future(draft, waiter, callee.result, copy_of(callee.result))
                elif callee is None:
                    gone = terminal(404, f"the invocation '{callee_id}' is gone")
                    complete_future(draft, waiter, gone)
            case _:
                pass
