"""What is registered and how, and the state of keys: to look at, and to change by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from nbdurable.client.query import Found, Parameters, ask
from nbdurable.core.attempt import ref_of
from nbdurable.core.ids import deployment_id
from nbdurable.core.manifest import ServiceManifest, ServicePatch
from nbdurable.core.proposals import (
    EditState,
    PatchService,
    Proposal,
    Refused,
    StateValue,
)
from nbdurable.core.rules.editing import version_of
from nbdurable.core.settings import Settings
from nbdurable.core.state import ServiceState
from nbdurable.core.values import ObjectId
from nbdurable.engine.loop import Engine
from nbdurable.engine.ports import ANSWER_LIMITS, AnswerLimits
from nbdurable.errors import (
    ConflictError,
    HttpError,
    InvocationNotFoundError,
    NbdurableError,
)

T = TypeVar("T")


class Deployment(NamedTuple):
    """The code of one revision of a service. `link` is where it is loaded, None if nowhere.

    Units: registered_at_ms – milliseconds since the epoch.
    """

    manifest: ServiceManifest
    revision: int
    registered_at_ms: int
    link: str | None
    is_latest: bool

    @property
    def id(self) -> str:
        return deployment_id(self.manifest.name, self.revision)


class StateView(NamedTuple):
    """The state of a key as it is stored, and the version that an edit of it names."""

    values: dict[str, bytes]
    version: str


class Operator:
    """Stateless; every method is one proposal to the engine, or one look at it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def settings(self) -> Settings:
        """What holds where a service says nothing."""
        return await self._ask(lambda: self._engine.machine.state.settings)

    async def deployments(self) -> list[Deployment]:
        """All revisions of all services, in the order in which each was registered."""

        def look() -> list[Deployment]:
            services = self._engine.machine.state.services.values()
            return [found for service in services for found in _deployments(service)]

        return await self._ask(look)

    async def patch_service(self, service: str, patch: ServicePatch) -> None:
        """Change options of the latest revision; the next one brings its own.

        Raises:
            HttpError: 404, there is no such service; 400, it has no such option.
        """
        await self._do(PatchService(service=service, patch=patch))

    async def state(self, of: ObjectId) -> StateView:
        def look() -> StateView:
            obj = self._engine.machine.state.objects.get(of)
            refs = {} if obj is None else obj.state
            vault = self._engine.vault
            values = {
                name: vault.payload(ref.lsn) if ref.bytes else b"" for name, ref in refs.items()
            }
            return StateView(values, version_of(refs))

        return await self._ask(look)

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

    async def query(
        self,
        sql: str,
        parameters: Parameters | None = None,
        limits: AnswerLimits = ANSWER_LIMITS,
    ) -> Found:
        """Ask one SELECT of the journal: sys_invocation, sys_journal, state and so on.

        Args:
            sql: In DuckDB's dialect, over the tables that Restate has.
            parameters: Values for its `?` or `$name`.
            limits: Of time, past which it is interrupted; of rows and bytes, past which it is cut.

        Raises:
            QueryError: It is refused, wrong, too much, or was interrupted; the text says which.
        """
        return await ask(self._engine.history(), sql, parameters, limits)

    async def _do(self, proposal: Proposal) -> None:
        answer = await asyncio.wrap_future(self._engine.propose(proposal))
        if isinstance(answer, Refused):
            raise error_of(answer)

    async def _ask(self, question: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._engine.ask(question))


def error_of(refused: Refused) -> NbdurableError:
    match refused.code:
        case 409:
            return ConflictError(refused.message)
        case 404 if "invocation" in refused.message:
            return InvocationNotFoundError(refused.message)
        case _:
            return HttpError(refused.code, refused.message)


def _deployments(service: ServiceState) -> list[Deployment]:
    return [
        Deployment(
            manifest,
            revision,
            service.registered_at_ms[revision],
            service.loaded.get(revision, (None,))[-1],
            revision == service.latest,
        )
        for revision, manifest in service.revisions.items()
    ]
