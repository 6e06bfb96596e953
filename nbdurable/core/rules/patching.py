"""Options of a service changed by hand, until its next revision brings its own.

Source: restate-semantics.md, 1.1 (options travel in discovery) and 3.1 (`PATCH /services/{s}`).
"""

from __future__ import annotations

from nbdurable.core.draft import Draft
from nbdurable.core.facts import ServicePatched
from nbdurable.core.proposals import Answer, Done, PatchService, Refused


def patch_service(draft: Draft, proposal: PatchService) -> Answer:
    service = draft.state.services.get(proposal.service)
    if service is None:
        return Refused(
            code=404, message=f"The requested service '{proposal.service}' does not exist"
        )
    if proposal.patch.workflow_retention_ms is not None and service.manifest.type != "workflow":
        return Refused(
            code=400,
            message=f"'{proposal.service}' is no workflow, so it has no workflow retention",
        )
    # Nothing to change is no fact.
    if proposal.patch.applied_to(service.manifest) != service.manifest:
        draft.record(ServicePatched(service=proposal.service, patch=proposal.patch))
    return Done()
