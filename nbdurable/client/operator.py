"""What is registered and how, and the state of keys: to look at, and to change by hand."""

from __future__ import annotations

from collections.abc import Mapping

from nbdurable.client.access import Access
from nbdurable.client.questions import (
    AllDeployments,
    Deployment,
    PresentSettings,
    StateOf,
    StateView,
)
from nbdurable.client.returning import heard
from nbdurable.core.attempt import ref_of
from nbdurable.core.manifest import ServicePatch
from nbdurable.core.proposals import (
    EditState,
    PatchService,
    Proposal,
    Refused,
    StateValue,
)
from nbdurable.core.settings import Settings
from nbdurable.core.values import ObjectId
from nbdurable.errors import (
    ConflictError,
    HttpError,
    InvocationNotFoundError,
    NbdurableError,
)


class Operator:
    """Stateless; every method is one proposal to the engine, or one look at it."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def settings(self) -> Settings:
        """What holds where a service says nothing."""
        return await heard(self._access.ask(PresentSettings()))

    async def deployments(self) -> list[Deployment]:
        """All revisions of all services, in the order in which each was registered."""
        return await heard(self._access.ask(AllDeployments()))

    async def patch_service(self, service: str, patch: ServicePatch) -> None:
        """Change options of the latest revision; the next one brings its own.

        Raises:
            HttpError: 404, there is no such service; 400, it has no such option.
        """
        await self._do(PatchService(service=service, patch=patch))

    async def state(self, of: ObjectId) -> StateView:
        return await heard(self._access.ask(StateOf(object=of)))

    async def edit_state(
        self, of: ObjectId, values: Mapping[str, bytes], version: str | None = None
    ) -> None:
        """Give a key exactly this state: now, or as soon as its turn behind the lock has come.

        Args:
            of: A key of a virtual object or workflow.
            values: As they are stored, not as a handler sees them.
            version: Of the state that was edited; None edits whatever is there.

        Raises:
            ConflictError: The state is no longer the one that was edited, or may not stay it.
            HttpError: 404, there is no such service; 400, it has no keys.
        """
        parts = tuple(
            StateValue(name=name, value=ref_of(payload), payload=payload)
            for name, payload in values.items()
        )
        await self._do(EditState(object=of, values=parts, version=version))

    async def _do(self, proposal: Proposal) -> None:
        answer = await heard(self._access.propose(proposal))
        if isinstance(answer, Refused):
            raise error_of(answer)


def error_of(refused: Refused) -> NbdurableError:
    match refused.code:
        case 409:
            return ConflictError(refused.message)
        case 404 if "invocation" in refused.message:
            return InvocationNotFoundError(refused.message)
        case _:
            return HttpError(refused.code, refused.message)
