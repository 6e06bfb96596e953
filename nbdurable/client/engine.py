"""The client of an engine, wherever it is. Its methods may be awaited on any loop, in any thread.

Names and parameters of calls and sends are those of the official SDK's client. What Restate
answers with an HTTP status is raised here: `TerminalError` for the failure of a handler,
`InvocationNotFoundError`, `InvocationNotReadyError`, `ConflictError` and `HttpError` for the rest.
"""

from __future__ import annotations

import contextvars
from datetime import timedelta
from typing import Any

from nbdurable.client.base import RestateClientSendHandle
from nbdurable.client.calls import Addressed, CallingClient, refuse_address
from nbdurable.client.deeds import Deeds
from nbdurable.client.looks import Looks
from nbdurable.client.questions import (
    IsRun,
    OutcomeSoFar,
    not_found,
)
from nbdurable.client.returning import heard
from nbdurable.core.attempt import ref_of
from nbdurable.core.ids import (
    InvocationId,
    keyed_invocation_id,
    random_invocation_id,
)
from nbdurable.core.manifest import ServiceManifest
from nbdurable.core.proposals import (
    Invoke,
    Invoked,
    LoadCode,
    Loaded,
)
from nbdurable.core.values import Target
from nbdurable.engine.callers import Outcome
from nbdurable.errors import (
    ConflictError,
    HttpError,
    InvocationNotReadyError,
)
from nbdurable.invoker.manifest import manifest_of
from nbdurable.invoker.payloads import ms_of
from nbdurable.invoker.wire import Written
from nbdurable.sdk.context import HandlerType
from nbdurable.sdk.definition import Definition
from nbdurable.sdk.handler import Handler, handler_from_callable
from nbdurable.sdk.serde import DEFAULT_SERDE, BytesSerde, Serde


class EngineClient(CallingClient, Looks, Deeds):
    """Stateless; every method is one proposal to the engine, or one look at it."""

    # -- calls and sends ----------------------------------------------------------------------

    async def call_handler(self, handler: Handler[Any, Any], arg: Any, to: Addressed) -> Any:
        is_run = handler.kind == "workflow"
        invoke = await self._invocation_of(handler, arg, None, to)
        came_to = await self._came_to(invoke, is_run=is_run)
        if isinstance(came_to, Invoked):
            raise _already_invoked(handler.service_tag.name, to.key)
        return await self._value(came_to, handler.handler_io.output_serde)

    async def send_handler(
        self, handler: Handler[Any, Any], arg: Any, send_delay: timedelta | None, to: Addressed
    ) -> RestateClientSendHandle:
        return await self._sent(await self._invocation_of(handler, arg, send_delay, to))

    async def generic_call(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> bytes:
        """Call by name, bytes in and out. `limit_key` needs a `scope`."""
        to = Addressed(key, idempotency_key, headers, scope, limit_key)
        invoked = await self._invoke_by_name(service, handler, arg, None, to)
        target = Target(service=service, handler=handler, key=key)
        if invoked.existing and await self._ask(IsRun(target=target)):
            raise _already_invoked(service, key)
        return await self.attach(invoked.invocation_id, BytesSerde()) or b""

    async def generic_send(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> RestateClientSendHandle:
        """Send by name, bytes in. `limit_key` needs a `scope`."""
        to = Addressed(key, idempotency_key, headers, scope, limit_key)
        return await self._invoke_by_name(service, handler, arg, send_delay, to)

    # -- results ------------------------------------------------------------------------------

    async def attach(self, invocation_id: str, serde: Serde[Any] = DEFAULT_SERDE) -> Any:
        """Wait for the result. Cancelling the wait leaves the invocation alone.

        Raises:
            InvocationNotFoundError: There is no such invocation.
            TerminalError: The invocation failed, was cancelled or killed.
        """
        return await self._value(await self._outcome(InvocationId(invocation_id)), serde)

    async def output(self, invocation_id: str, serde: Serde[Any] = DEFAULT_SERDE) -> Any:
        """The result if there is one by now, else InvocationNotReadyError."""
        outcome = await self._ask(OutcomeSoFar(invocation_id=InvocationId(invocation_id)))
        if outcome is None:
            raise InvocationNotReadyError(
                f"the invocation {invocation_id} exists but has not completed yet"
            )
        return await self._value(outcome, serde)

    async def workflow_attach(
        self,
        workflow: str | HandlerType[Any, Any],
        key: str,
        serde: Serde[Any] | None = None,
        scope: str | None = None,
    ) -> Any:
        """Wait for the result of a workflow's run."""
        service, run, output_serde = await self._workflow(workflow)
        refuse_address(Addressed(key, None, None, scope))
        invocation_id = keyed_invocation_id(service, key, run, None, scope)
        return await self.attach(invocation_id, serde or output_serde)

    async def workflow_output(
        self,
        workflow: str | HandlerType[Any, Any],
        key: str,
        serde: Serde[Any] | None = None,
        scope: str | None = None,
    ) -> Any:
        """The result of a workflow's run if there is one by now."""
        service, run, output_serde = await self._workflow(workflow)
        refuse_address(Addressed(key, None, None, scope))
        invocation_id = keyed_invocation_id(service, key, run, None, scope)
        return await self.output(invocation_id, serde or output_serde)

    async def read_value(self, recorded: bytes, serde: Serde[Any] = DEFAULT_SERDE) -> Any:
        """What a handler has written with this serde, e.g. one of `operator().state()`.

        Raises:
            SerializationError: It was written with another, or cannot be read here.
        """
        return await (await self._wires.get()).read(serde, recorded)

    # -- code ---------------------------------------------------------------------------------

    async def register(
        self,
        definition: Definition,
        *,
        digest: str | None = None,
        source: str | None = None,
        origin: str | None = None,
        keyed: bool = False,
        pin: bool = False,
        keys: tuple[str, ...] | None = None,
    ) -> Loaded:
        """Load a definition's code: an unchanged one is its old revision, a changed one a new.

        Args:
            definition: Its code, which runs in this process.
            digest: Of its code; None takes that of its handlers.
            source: The text that defined it.
            origin: Where that is, e.g. `Cell In[3]`.
            keyed: Its steps are found by key, not by position.
            pin: Live invocations stay on the revision they have.
            keys: Those that can be run here; None: all.

        Raises:
            DefinitionError: It cannot be served.
        """
        manifest = manifest_of(definition, digest=digest, source=source, origin=origin, keyed=keyed)
        answer = await self._do(self._offered(definition, manifest, pin=pin, keys=keys))
        assert isinstance(answer, Loaded)
        return answer

    def _offered(
        self,
        definition: Definition,
        manifest: ServiceManifest,
        *,
        pin: bool = False,
        keys: tuple[str, ...] | None = None,
    ) -> LoadCode:
        self._link.offer(definition, manifest.digest)
        return LoadCode(link=self._link.name, manifest=manifest, pin=pin, keys=keys)

    # -- inside -------------------------------------------------------------------------------

    async def _invoke_by_name(
        self,
        service: str,
        handler: str,
        arg: bytes,
        send_delay: timedelta | None,
        to: Addressed,
    ) -> RestateClientSendHandle:
        wire = await self._wires.get()
        written = wire.write(BytesSerde(), arg, f"argument of {handler!r}")
        target = Target(service=service, handler=handler, key=to.key)
        is_run = await self._ask(IsRun(target=target))
        return await self._sent(
            self._invocation(service, handler, written, send_delay, to, is_run=is_run)
        )

    async def _invocation_of(
        self, handler: Handler[Any, Any], arg: Any, send_delay: timedelta | None, to: Addressed
    ) -> Invoke:
        wire = await self._wires.get()
        return self._invocation(
            handler.service_tag.name,
            handler.name,
            wire.write_argument(handler, arg),
            send_delay,
            to,
            is_run=handler.kind == "workflow",
        )

    def _invocation(
        self,
        service: str,
        handler: str,
        written: Written,
        send_delay: timedelta | None,
        to: Addressed,
        *,
        is_run: bool,
    ) -> Invoke:
        refuse_address(to)
        seed = self._draw_seed()
        if is_run and to.idempotency_key is not None:
            raise HttpError(
                400,
                "cannot use the idempotency key with workflow handlers: the run is already"
                " idempotent by the workflow key itself",
            )
        invocation_id = (
            keyed_invocation_id(service, to.key, handler, to.idempotency_key, to.scope)
            if is_run or to.idempotency_key is not None
            else random_invocation_id(seed)
        )
        start_at_ms = None
        if send_delay is not None:
            start_at_ms = self._link.clock.now_ms() + ms_of(send_delay)
        self._link.remember_context(invocation_id, contextvars.copy_context())
        return Invoke(
            invocation_id=invocation_id,
            seed=seed,
            target=Target(service=service, handler=handler, key=to.key, scope=to.scope),
            argument=ref_of(written.payload, comparable=written.comparable),
            payload=written.payload,
            headers=to.headers or {},
            idempotency_key=to.idempotency_key,
            limit_key=to.limit_key,
            start_at_ms=start_at_ms,
            link=self._link.name,
        )

    async def _sent(self, invoke: Invoke) -> RestateClientSendHandle:
        answer = await self._do(invoke)
        assert isinstance(answer, Invoked)
        return RestateClientSendHandle(answer.invocation_id, existing=answer.existing)

    async def _outcome(self, invocation_id: InvocationId) -> Outcome:
        try:
            return await heard(self._access.attach(invocation_id))
        except KeyError:
            raise not_found(invocation_id) from None

    async def _came_to(self, invoke: Invoke, *, is_run: bool) -> Outcome | Invoked:
        """Invoke and wait for the end. `Invoked` is the run that a workflow's key has already."""
        answer = await self._do(invoke)
        assert isinstance(answer, Invoked)
        return answer if answer.existing and is_run else await self._outcome(answer.invocation_id)

    async def _workflow(self, workflow: str | HandlerType[Any, Any]) -> tuple[str, str, Serde[Any]]:
        """Name, main handler and output serde of a workflow, given by name or by its handler."""
        if not isinstance(workflow, str):
            handler = handler_from_callable(workflow)
            return handler.service_tag.name, handler.name, handler.handler_io.output_serde
        manifest = next((m for m in await self.services() if m.name == workflow), None)
        run = (
            None
            if manifest is None
            else next((h.name for h in manifest.handlers if h.type == "workflow"), None)
        )
        if run is None:
            raise HttpError(404, f"there is no workflow named '{workflow}'")
        return workflow, run, DEFAULT_SERDE


def _already_invoked(workflow: str, key: str | None) -> ConflictError:
    return ConflictError(
        f"the workflow method was already invoked; wait for it with"
        f" workflow_attach({workflow!r}, {key!r})"
    )
