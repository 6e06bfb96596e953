"""The client of an engine, wherever it is. Its methods may be awaited on any loop, in any thread.

Names and parameters of calls and sends are those of the official SDK's client. What Restate
answers with an HTTP status is raised here: `TerminalError` for the failure of a handler,
`InvocationNotFoundError`, `InvocationNotReadyError`, `ConflictError` and `HttpError` for the rest.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import secrets
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from nbdurable.client.access import Access
from nbdurable.client.base import RestateClientSendHandle
from nbdurable.client.calls import Addressed, CallingClient, refuse_address
from nbdurable.client.export import export
from nbdurable.client.operator import Operator, error_of
from nbdurable.client.query import Found, Parameters
from nbdurable.client.questions import (
    AllInvocations,
    AllServices,
    InvocationAndJournal,
    IsRun,
    LastError,
    Listed,
    MeantInvocations,
    NewestInvocations,
    OneInvocation,
    OutcomeSoFar,
    Question,
    RestartOf,
    not_found,
)
from nbdurable.client.views import EntryView, InvocationView
from nbdurable.core.attempt import ref_of, success_of
from nbdurable.core.ids import (
    InvocationId,
    keyed_invocation_id,
    parse_invocation_id,
    random_invocation_id,
)
from nbdurable.core.manifest import ServiceManifest
from nbdurable.core.proposals import (
    AcceptMismatch,
    Answer,
    CancelInvocation,
    Cleaned,
    CleanUp,
    CompleteAwakeable,
    CompletePromise,
    Invoke,
    Invoked,
    KillInvocation,
    LoadCode,
    Loaded,
    PauseInvocation,
    Proposal,
    PurgeInvocation,
    PurgeJournal,
    Refused,
    ResumeInvocation,
    SendSignal,
)
from nbdurable.core.values import ErrorReport, Failure, Result, Success, Target
from nbdurable.engine.callers import Outcome
from nbdurable.engine.ports import ANSWER_LIMITS, AnswerLimits
from nbdurable.errors import (
    ConflictError,
    HttpError,
    InvocationNotFoundError,
    InvocationNotReadyError,
)
from nbdurable.invoker.local import LocalLink
from nbdurable.invoker.manifest import manifest_of
from nbdurable.invoker.payloads import ms_of
from nbdurable.invoker.report import terminal_error_of
from nbdurable.invoker.wire import Written
from nbdurable.invoker.wire_source import WireSource
from nbdurable.sdk.context import HandlerType
from nbdurable.sdk.definition import Definition
from nbdurable.sdk.handler import Handler, handler_from_callable
from nbdurable.sdk.serde import DEFAULT_SERDE, BytesSerde, Serde

T = TypeVar("T")

# A seed is stored as a signed number of 64 bits.
SEED_BITS = 63


Listener = Callable[[InvocationView, tuple[EntryView, ...]], None]


class EngineClient(CallingClient):
    """Stateless; every method is one proposal to the engine, or one look at it."""

    def __init__(
        self,
        access: Access,
        link: LocalLink,
        *,
        wires: WireSource | None = None,
        draw_seed: Callable[[], int] | None = None,
    ) -> None:
        """`link` is where this process runs its own handlers."""
        self._access = access
        self._link = link
        self._wires = wires or link.wires
        # Never drawn twice: it tells the lives of an id apart.
        self._draw_seed = draw_seed or partial(secrets.randbits, SEED_BITS)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._link.name}>"

    # -- calls and sends ----------------------------------------------------------------------

    async def call_handler(self, handler: Handler[Any, Any], arg: Any, to: Addressed) -> Any:
        sent = await self.send_handler(handler, arg, None, to)
        if sent.existing and handler.kind == "workflow":
            raise _already_invoked(handler.service_tag.name, to.key)
        return await self.attach(sent.invocation_id, handler.handler_io.output_serde)

    async def send_handler(
        self, handler: Handler[Any, Any], arg: Any, send_delay: timedelta | None, to: Addressed
    ) -> RestateClientSendHandle:
        wire = await self._wires.get()
        written = wire.write_argument(handler, arg)
        return await self._invoke(
            handler.service_tag.name,
            handler.name,
            written,
            send_delay,
            to,
            is_run=handler.kind == "workflow",
        )

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
        attached = self._access.attach(InvocationId(invocation_id))
        try:
            outcome = await asyncio.wrap_future(attached)
        except KeyError:
            raise not_found(invocation_id) from None
        return await self._value(outcome, serde)

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

    # -- people's verbs -----------------------------------------------------------------------

    async def cancel(self, invocation_id: str) -> None:
        """The handler sees a TerminalError with code 409 at its await, and may compensate."""
        await self._do(CancelInvocation(invocation_id=InvocationId(invocation_id)))

    async def kill(self, invocation_id: str) -> None:
        """End it now, without running any of its code."""
        await self._do(KillInvocation(invocation_id=InvocationId(invocation_id)))

    async def pause(self, invocation_id: str) -> None:
        await self._do(PauseInvocation(invocation_id=InvocationId(invocation_id)))

    async def resume(
        self, invocation_id: str, revision: int | Literal["keep", "latest"] = "keep"
    ) -> None:
        """Try again now what is paused or backs off, perhaps on another revision of its code."""
        await self._do(
            ResumeInvocation(invocation_id=InvocationId(invocation_id), revision=revision)
        )

    async def accept_mismatch(self, invocation_id: str) -> None:
        """Let what is recorded stand for what the code asks now, and go on behind it.

        Raises:
            ConflictError: It is not paused by a journal mismatch, or by one of another kind.
        """
        await self._do(AcceptMismatch(invocation_id=InvocationId(invocation_id)))

    async def restart_as_new(
        self,
        invocation_id: str,
        from_entry: int = 1,
        revision: int | Literal["keep", "latest"] = "latest",
    ) -> InvocationId:
        """Start a completed invocation anew: its input, and its journal before `from_entry`.

        Args:
            invocation_id: The completed one; it stays as it is.
            from_entry: Index of the first entry that is not taken over; 1 takes the input only.
            revision: Of the code that the new one runs.

        Returns:
            The id of the new invocation.

        Raises:
            InvocationNotFoundError: There is no such invocation.
            ConflictError: It has not completed.
            HttpError: 422, it is of a workflow, which runs once per key; 410, its journal is gone;
                400, it has no such entry.
        """
        if not isinstance(from_entry, int):
            raise HttpError(400, f"from_entry is the index of an entry, not {from_entry!r}")
        of = InvocationId(invocation_id)
        seed = self._draw_seed()
        proposal = await self._ask(
            RestartOf(invocation_id=of, from_entry=from_entry, revision=revision, new_seed=seed)
        )
        if proposal is None:
            raise ConflictError(f"The invocation '{of}' is not yet completed.")
        answer = await self._do(proposal)
        assert isinstance(answer, Invoked)
        return answer.invocation_id

    async def purge(self, invocation_id: str) -> None:
        """Forget a completed invocation; with a workflow's run, its state and promises too."""
        await self._do(PurgeInvocation(invocation_id=InvocationId(invocation_id)))

    async def purge_journal(self, invocation_id: str) -> None:
        """Forget what a completed invocation did; that it was, and its result, stay."""
        await self._do(PurgeJournal(invocation_id=InvocationId(invocation_id)))

    async def clean_up(self) -> int:
        """Purge now what has been kept for as long as it should be; how many were."""
        purged_count = 0
        while True:
            answer = await self._do(CleanUp())
            assert isinstance(answer, Cleaned)
            purged_count += answer.purged_count
            if answer.is_done:
                return purged_count

    async def resolve_awakeable(
        self, awakeable_id: str, value: Any = None, serde: Serde[Any] = DEFAULT_SERDE
    ) -> None:
        result, payload = await self._success(serde, value, "awakeable's value")
        await self._do(CompleteAwakeable(awakeable_id=awakeable_id, result=result, payload=payload))

    async def reject_awakeable(self, awakeable_id: str, message: str, code: int = 500) -> None:
        failure = Failure(code=code, message=message)
        await self._do(CompleteAwakeable(awakeable_id=awakeable_id, result=failure))

    async def resolve_promise(
        self,
        workflow: str,
        key: str,
        promise: str,
        value: Any = None,
        serde: Serde[Any] = DEFAULT_SERDE,
        scope: str | None = None,
    ) -> None:
        """ConflictError when it was completed before: a promise is written once."""
        refuse_address(Addressed(key, None, None, scope))
        result, payload = await self._success(serde, value, f"promise {promise!r}")
        await self._do(
            CompletePromise(
                service=workflow,
                key=key,
                promise=promise,
                result=result,
                payload=payload,
                scope=scope,
            )
        )

    async def reject_promise(
        self,
        workflow: str,
        key: str,
        promise: str,
        message: str,
        code: int = 500,
        scope: str | None = None,
    ) -> None:
        refuse_address(Addressed(key, None, None, scope))
        failure = Failure(code=code, message=message)
        await self._do(
            CompletePromise(service=workflow, key=key, promise=promise, result=failure, scope=scope)
        )

    async def resolve_signal(
        self, invocation_id: str, name: str, value: Any = None, serde: Serde[Any] = DEFAULT_SERDE
    ) -> None:
        """Send a value under a name; the next wait for this name takes it, also if that is later.

        Raises:
            InvocationNotFoundError: There is no such invocation.
            ConflictError: It has ended.
        """
        result, payload = await self._success(serde, value, f"signal {name!r}")
        await self._send_signal(invocation_id, name, result, payload)

    async def reject_signal(
        self, invocation_id: str, name: str, message: str, code: int = 500
    ) -> None:
        """Whoever takes this signal sees a TerminalError."""
        await self._send_signal(invocation_id, name, Failure(code=code, message=message), None)

    # -- looking ------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """The engine's clock, which is what its times are by."""
        return self._link.clock.now_ms()

    async def invocations(self) -> list[InvocationView]:
        """All that are known, oldest first."""
        return await self._ask(AllInvocations())

    async def newest_invocations(
        self,
        count_max: int | None = None,
        *,
        services: Iterable[str] = (),
        statuses: Iterable[str] = (),
        asks: bool = False,
    ) -> Listed:
        """What a person lists: the newest first, and how many there are.

        Args:
            count_max: How many are given; None gives all.
            services: Of these only, if any are named.
            statuses: In one of these only: Restate's words, `succeeded`, `failed`, `unfinished`.
            asks: Only those that wait for somebody's answer.
        """
        return await self._ask(
            NewestInvocations(
                count_max=count_max,
                services=tuple(services),
                statuses=tuple(statuses),
                asks=asks,
            )
        )

    async def invocation(self, invocation_id: str) -> InvocationView:
        return await self._ask(OneInvocation(invocation_id=InvocationId(invocation_id)))

    async def journal(self, invocation_id: str) -> tuple[EntryView, ...]:
        question = InvocationAndJournal(invocation_id=InvocationId(invocation_id))
        return (await self._ask(question))[1]

    async def last_error(self, invocation_id: str) -> ErrorReport | None:
        """Why the last attempt failed, with its stack; None if none did, or since a restart."""
        return await self._ask(LastError(invocation_id=InvocationId(invocation_id)))

    async def services(self) -> list[ServiceManifest]:
        """The latest revision of each."""
        return await self._ask(AllServices())

    async def query(
        self,
        sql: str,
        parameters: Parameters | None = None,
        limits: AnswerLimits = ANSWER_LIMITS,
    ) -> Found:
        """Ask one SELECT of the journal, e.g. of sys_invocation, sys_journal or state.

        ```python
        found = await client.query("select id, status from sys_invocation where target = ?", [name])
        print(found.df())
        ```

        Args:
            sql: In DuckDB's dialect, over the tables that Restate has.
            parameters: Values for its `?` or `$name`.
            limits: Of time, past which it is interrupted; of rows and bytes, past which it is cut.

        Raises:
            QueryError: It is refused, wrong, too much, or was interrupted; the text says which.
        """
        return await self._access.query(sql, parameters, limits)

    async def export(
        self,
        folder: str | os.PathLike[str],
        *,
        invocation_id: str | None = None,
        payloads: bool = True,
    ) -> dict[str, int]:
        """Write the journal's tables as Parquet: `sys_invocation.parquet` and so on.

        ```python
        await client.export("bug-report", invocation_id=run.id, payloads=False)
        ```

        Needs pyarrow: `pip install 'nbdurable[arrow]'`.

        Args:
            folder: A new one, or an empty one.
            invocation_id: Only what belongs to this invocation, to its key and its service.
            payloads: False leaves out what users have put in and got out: arguments, results,
                state, output. Names and messages of failures stay.

        Returns:
            How many rows each table had.

        Raises:
            InvocationNotFoundError: There is no such invocation.
            NbdurableError: There is something in the folder.
        """
        return await export(self, Path(folder), invocation_id=invocation_id, payloads=payloads)

    async def find(self, text: str) -> InvocationView:
        """The one invocation that has this id, id prefix, or target (`Payment/order-456`).

        Raises:
            InvocationNotFoundError: None has it.
            ConflictError: Several have it.
        """
        with suppress(ValueError, InvocationNotFoundError):
            # A whole id need not be looked for among all.
            return await self.invocation(parse_invocation_id(text))
        listed = await self._ask(MeantInvocations(text=text))
        match listed.found_count:
            case 0:
                raise not_found(text)
            case 1:
                return listed.views[0]
            case several:
                shown = ", ".join(view.id for view in listed.views)
                raise ConflictError(f"{text!r} could be any of {several} invocations: {shown}")

    def watch(self, invocation_id: str, listener: Listener) -> Callable[[], None]:
        """Tell the listener what the invocation looks like, now and whenever it changes.

        The listener is called on a thread of the engine's or of the link's, at most 20 times a
        second, and the last state is always told. Returns the function that ends it.
        """
        question = InvocationAndJournal(invocation_id=InvocationId(invocation_id))
        return self._access.watch(question, lambda seen: listener(*seen))

    def watch_newest(
        self, listener: Callable[[Listed], None], count_max: int | None = None
    ) -> Callable[[], None]:
        """The same of what `newest_invocations` lists, at most twice a second."""
        return self._access.watch(NewestInvocations(count_max=count_max), listener)

    def wait(self, asked: Coroutine[Any, Any, T]) -> T:
        """Run one of the methods above to its end from synchronous code, in any other thread."""
        try:
            self._access.check_alive()
        except BaseException:
            asked.close()
            raise
        asking = asyncio.run_coroutine_threadsafe(asked, self._access.loop)
        try:
            return asking.result()
        except BaseException:
            # Interrupted: nobody will hear the answer, so the engine need not go on asking.
            asking.cancel()
            raise

    def operator(self) -> Operator:
        """What is registered and how, and the state of keys, to look at and to change."""
        return Operator(self._access)

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
        return await self._invoke(service, handler, written, send_delay, to, is_run=is_run)

    async def _invoke(
        self,
        service: str,
        handler: str,
        written: Written,
        send_delay: timedelta | None,
        to: Addressed,
        *,
        is_run: bool,
    ) -> RestateClientSendHandle:
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
        answer = await self._do(
            Invoke(
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
        )
        assert isinstance(answer, Invoked)
        return RestateClientSendHandle(answer.invocation_id, existing=answer.existing)

    async def _success(self, serde: Serde[Any], value: Any, root: str) -> tuple[Success, bytes]:
        payload, comparable = (await self._wires.get()).write(serde, value, root)
        return success_of(payload, comparable=comparable), payload

    async def _send_signal(
        self, invocation_id: str, name: str, result: Result, payload: bytes | None
    ) -> None:
        to = InvocationId(invocation_id)
        await self._do(SendSignal(invocation_id=to, name=name, result=result, payload=payload))

    async def _value(self, outcome: Outcome, serde: Serde[Any]) -> Any:
        if isinstance(outcome.result, Failure):
            raise terminal_error_of(outcome.result)
        return await (await self._wires.get()).read(serde, outcome.payload)

    async def _do(self, proposal: Proposal) -> Answer:
        answer = await asyncio.wrap_future(self._access.propose(proposal))
        if isinstance(answer, Refused):
            raise error_of(answer)
        return answer

    async def _ask(self, question: Question[T]) -> T:
        return await asyncio.wrap_future(self._access.ask(question))

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
