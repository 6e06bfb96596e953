"""Code comes and goes: epochs, links, revisions, and who goes on with what."""

from __future__ import annotations

from typing import Literal

from nbdurable.core.actions import AssignRevision
from nbdurable.core.draft import Draft
from nbdurable.core.facts import (
    AttemptLost,
    CodeLoaded,
    EngineConfigured,
    EpochStarted,
    InvocationMoved,
    LinkClosed,
    LinkOpened,
    ServiceRegistered,
)
from nbdurable.core.manifest import ServiceManifest
from nbdurable.core.proposals import (
    Answer,
    CloseLink,
    ConfigureEngine,
    Done,
    LoadCode,
    Loaded,
    OpenLink,
    Refused,
    StartEpoch,
)
from nbdurable.core.records import cannot_hold
from nbdurable.core.rules.progress import wake
from nbdurable.core.state import Invocation, ServiceState
from nbdurable.core.values import Target


def start_epoch(draft: Draft, proposal: StartEpoch) -> Answer:
    """The first fact of every owner: it fences off whatever an earlier one may still send."""
    draft.record(
        EpochStarted(epoch=draft.state.epoch + 1, owner=proposal.owner, version=proposal.version)
    )
    return Done()


def open_link(draft: Draft, proposal: OpenLink) -> Answer:
    draft.record(LinkOpened(link=proposal.link, slots=proposal.slots))
    return Done()


def load_code(draft: Draft, proposal: LoadCode) -> Answer:
    """An unchanged definition is the revision it was; a changed one is the next.

    Healthy invocations stay on the revision they began with as long as its code is loaded
    somewhere. Those that failed move to the new one, also in the middle of an attempt that has not
    got any further yet, and so do those whose own code is nowhere: replay checks every entry.
    """
    manifest = proposal.manifest
    unwritable = cannot_hold(manifest)
    if unwritable is not None:
        return Refused(code=400, message=f"{manifest.name} cannot be registered: {unwritable}")
    service = draft.state.services.get(manifest.name)
    known = _known_revision(service, proposal)
    is_new = known is None
    revision = known or (1 if service is None else service.latest + 1)
    if is_new:
        draft.record(ServiceRegistered(manifest=manifest, revision=revision))
    service = draft.state.services[manifest.name]
    is_loaded = proposal.link in service.loaded.get(revision, ())
    if not is_loaded or service.only.get(proposal.link) != proposal.keys:
        draft.record(
            CodeLoaded(
                link=proposal.link, service=manifest.name, revision=revision, keys=proposal.keys
            )
        )
    draft.act(
        AssignRevision(
            link=proposal.link,
            service=manifest.name,
            digest=manifest.digest,
            revision=revision,
        )
    )
    moved, staying = [], []
    for inv in draft.state.live():
        if inv.target.service != manifest.name:
            continue
        if proposal.keys is not None and inv.target.key not in proposal.keys:
            continue
        # Also of another revision: which keys a link runs is one question for all its revisions.
        may_begin = inv.status == "ready"
        is_retried = inv.status == "running" and inv.failure_count > 0
        if inv.revision in (None, revision) or proposal.pin:
            pass
        elif proposal.again or manifest.handler(inv.target.handler) is None:
            staying.append(inv.id)
        elif is_retried or _has_failed(inv) or not draft.state.links_for(inv):
            if is_retried:
                # It is where it has failed, and would only fail there again.
                draft.stop(inv, "its code was corrected")
                _lose(draft, inv, "its code was corrected")
            draft.record(InvocationMoved(invocation_id=inv.id, revision=revision))
            moved.append(inv.id)
            may_begin |= (
                is_retried or inv.status == "backing-off" or inv.paused_by in ("retries", "error")
            )
        else:
            staying.append(inv.id)
        if may_begin:
            wake(draft, inv, f"revision {revision} is loaded")
    return Loaded(revision=revision, is_new=is_new, moved=tuple(moved), staying=tuple(staying))


def close_link(draft: Draft, proposal: CloseLink) -> Answer:
    """The process over there is gone: its attempts are lost and begin again where they can."""
    draft.record(LinkClosed(link=proposal.link))
    for inv in draft.state.live():
        if inv.link != proposal.link:
            continue
        _lose(draft, inv, "its process is gone")
        wake(draft, inv, "its process is gone")
    return Done()


def configure_engine(draft: Draft, proposal: ConfigureEngine) -> Answer:
    if proposal.settings != draft.state.settings:
        draft.record(EngineConfigured(settings=proposal.settings))
    return Done()


def named_revision(
    draft: Draft, target: Target, own: int | None, wanted: int | Literal["keep", "latest"]
) -> int | Refused | None:
    """The revision somebody asks for; None for one that never ran and shall take the latest."""
    service = draft.state.services.get(target.service)
    if wanted == "keep" or service is None:
        return own
    revision = service.latest if wanted == "latest" else wanted
    manifest = service.revisions.get(revision)
    if manifest is None:
        known = ", ".join(map(str, service.revisions))
        return Refused(
            code=404, message=f"{target.service} has no revision {revision}; it has: {known}"
        )
    if manifest.handler(target.handler) is None:
        return Refused(
            code=409,
            message=f"revision {revision} of {target.service} has no handler '{target.handler}'",
        )
    return revision


def _known_revision(service: ServiceState | None, proposal: LoadCode) -> int | None:
    """A revision is what its code and its options are; where it was typed makes no difference.

    Code that was replaced and comes back is new, unless it was loaded all the time: then it is the
    newest revision that it can be.
    """
    if service is None:
        return None
    manifest = proposal.manifest
    if _same(service.offered or service.manifest, manifest):
        return service.latest
    if not proposal.again:
        return None
    code = (manifest.type, manifest.digest)
    known = [r for r, of in service.revisions.items() if (of.type, of.digest) == code]
    return max(known, default=None)


def _same(known: ServiceManifest, offered: ServiceManifest) -> bool:
    return (known.type, known.digest, known.handlers, known.state_retention_ms) == (
        offered.type,
        offered.digest,
        offered.handlers,
        offered.state_retention_ms,
    )


def _lose(draft: Draft, inv: Invocation, why: str) -> None:
    draft.record(AttemptLost(invocation_id=inv.id, attempt=inv.attempt, why=why))


def _has_failed(inv: Invocation) -> bool:
    return inv.status == "backing-off" or inv.paused_by in ("retries", "error")
