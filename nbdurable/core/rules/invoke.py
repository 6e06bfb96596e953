"""An invocation begins: by a client, by another invocation, now or later, once per key."""

from __future__ import annotations

from typing import Literal

import msgspec

from nbdurable.core.draft import Draft
from nbdurable.core.facts import InvocationCreated
from nbdurable.core.ids import InvocationId, keyed_invocation_id
from nbdurable.core.manifest import HandlerManifest
from nbdurable.core.proposals import Answer, Invoke, Invoked, Refused
from nbdurable.core.records import CopyOf, cannot_hold
from nbdurable.core.rules.progress import set_timer, wake
from nbdurable.core.rules.retention import expire
from nbdurable.core.settings import Retention
from nbdurable.core.state import Invocation
from nbdurable.core.values import Target


def invoke(draft: Draft, proposal: Invoke) -> Answer:
    unwritable = cannot_hold(msgspec.structs.replace(proposal, payload=b""))
    if unwritable is not None:
        return Refused(code=400, message=f"the call cannot be recorded: {unwritable}")
    refused = refuse_target(draft, proposal.target, proposal.invocation_id)
    if refused is not None:
        return refused
    if proposal.caller is None and _is_private(draft, proposal.target):
        return Refused(code=400, message="the invoked service is not public")
    known = draft.state.find(proposal.invocation_id)
    # Seeds are drawn per request: the same one is this request, decided again after a commit
    # whose outcome was unknown, and whoever made it was first.
    if known is not None and known.seed == proposal.seed:
        return Invoked(invocation_id=proposal.invocation_id)
    expire(draft, proposal.invocation_id)
    if draft.state.find(proposal.invocation_id) is not None:
        return Invoked(invocation_id=proposal.invocation_id, existing=True)
    create(draft, proposal, proposal.payload)
    return Invoked(invocation_id=proposal.invocation_id)


def create(draft: Draft, proposal: Invoke, payload: bytes | CopyOf) -> None:
    """Record the invocation and give it an attempt, a place in the queue, or a timer."""
    handler = draft.state.handler(proposal.target)
    assert handler is not None, "refuse_target comes first"
    service = draft.state.services[proposal.target.service]
    exclusive = handler.type == "exclusive"
    retention = retention_of(draft, handler, proposal.idempotency_key)
    later = proposal.start_at_ms is not None and proposal.start_at_ms > draft.now_ms
    draft.record(
        InvocationCreated(
            invocation_id=proposal.invocation_id,
            target=proposal.target,
            argument=proposal.argument,
            status="scheduled"
            if later
            else first_status(draft, proposal.target, exclusive=exclusive),
            seed=proposal.seed,
            service_type=service.manifest.type,
            handler_type=handler.type,
            headers=dict(proposal.headers),
            idempotency_key=proposal.idempotency_key,
            limit_key=proposal.limit_key,
            caller=proposal.caller,
            link=proposal.link,
            start_at_ms=proposal.start_at_ms if later else None,
            completion_retention_ms=retention.completion_ms,
            journal_retention_ms=retention.journal_ms,
        ),
        payload,
    )
    begin(draft, draft.state.invocations[proposal.invocation_id], "it was just called")


def begin(draft: Draft, inv: Invocation, why: str) -> None:
    """Set its timer, or give it an attempt if it may have one."""
    if inv.status == "scheduled":
        assert inv.start_at_ms is not None
        set_timer(draft, inv, 0, inv.start_at_ms)
    elif inv.status == "ready":
        wake(draft, inv, why)


def retention_of(draft: Draft, handler: HandlerManifest, idempotency_key: str | None) -> Retention:
    return draft.state.settings.retention_ms(handler, idempotency_key)


def refuse_target(draft: Draft, target: Target, invocation_id: InvocationId) -> Refused | None:
    """Why this target cannot be invoked under this id; None when it can.

    Source: restate-http-observed.md, "Ingress, general" (404 texts, 400 for a wrong shape).
    """
    service = draft.state.services.get(target.service)
    if service is None:
        return Refused(
            code=404,
            message=f"service '{target.service}' not found, make sure to register the service"
            " before calling it",
        )
    handler = service.manifest.handler(target.handler)
    if handler is None:
        names = ", ".join(handler.name for handler in service.manifest.handlers)
        return Refused(
            code=404,
            message=f"the service '{target.service}' exists, but the handler '{target.handler}'"
            f" was not found; it has: {names}",
        )
    keyed = service.manifest.type != "service"
    if keyed and target.key is None:
        return Refused(code=400, message=f"'{target.service}' is keyed: the call needs a key")
    if not keyed and target.key is not None:
        return Refused(code=400, message=f"'{target.service}' is a plain service: it has no keys")
    if handler.type != "workflow":
        return None
    run_id = keyed_invocation_id(target.service, target.key, target.handler, None, target.scope)
    if invocation_id != run_id:
        # Once per key is a rule of ours, whatever the caller knows of the workflow.
        return Refused(
            code=400, message=f"{target} runs once per key and cannot be named otherwise"
        )
    return None


def _is_private(draft: Draft, target: Target) -> bool:
    handler = draft.state.handler(target)
    return handler is not None and handler.ingress_private


def first_status(draft: Draft, target: Target, *, exclusive: bool) -> Literal["pending", "ready"]:
    if not exclusive or target.object is None:
        return "ready"
    obj = draft.state.objects.get(target.object)
    return "pending" if obj is not None and obj.holder is not None else "ready"
