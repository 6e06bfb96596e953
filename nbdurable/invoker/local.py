"""The link within one process: handlers run on a loop of their own, not on the engine's.

`start` gives that loop a thread, so that a blocking handler cannot stall timers or approvals.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from typing import Any

from nbdurable.core.ids import InvocationId
from nbdurable.core.journal import AttemptStart, FailedRun, JournalEntry
from nbdurable.core.proposals import AttemptSteps, Proposal
from nbdurable.core.values import Target
from nbdurable.engine.mailbox import Mailbox
from nbdurable.engine.ports import Clock
from nbdurable.errors import EngineClosedError, LinkLostError, TerminalError
from nbdurable.invoker.alertness import be_alert, be_calm
from nbdurable.invoker.attempt import UNWIND_S_MAX, Attempt
from nbdurable.invoker.beside import note_what_is_begun
from nbdurable.invoker.context import Invoked, context_of
from nbdurable.invoker.dormant import Dormant
from nbdurable.invoker.failures import FailuresHere
from nbdurable.invoker.output import Writer, output_var
from nbdurable.invoker.pool import StepPool, StepThreads
from nbdurable.invoker.wire import Wire, Written
from nbdurable.invoker.wire_source import WireSource
from nbdurable.sdk.context import current_context_var, executing_step_var
from nbdurable.sdk.definition import Definition
from nbdurable.sdk.extensions import close_extension_data
from nbdurable.sdk.handler import Handler, run_handler

logger = logging.getLogger("nbdurable")

# Blocking steps (`def` actions) run here; a wait for a free thread is shown as a running step.
STEP_THREADS_MAX = 32
# Contexts of submitting cells that are remembered for output; beyond this, output is not routed.
CONTEXTS_MAX = 10_000


class LocalLink:
    """Orders come from the engine's thread and are carried out on the handler thread."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        post: Callable[[Proposal], None],
        wires: WireSource,
        *,
        pool: StepPool | None = None,
        always_replay: bool = False,
    ) -> None:
        self.name = name
        self.clock = clock
        self.wires = wires
        self.pool: StepPool = pool or StepThreads(STEP_THREADS_MAX, "nbdurable-step")
        self.always_replay = always_replay
        # Set while the engine, which says them otherwise, is in another process.
        self.failures: FailuresHere | None = None
        self.ready: Future[None] = Future()
        self._post = post
        self._offered: dict[tuple[str, str], dict[str, Handler[Any, Any]]] = {}
        self._code: dict[tuple[str, int], dict[str, Handler[Any, Any]]] = {}
        self._runs: set[tuple[str, str]] = set()
        self._contexts: OrderedDict[InvocationId, contextvars.Context] = OrderedDict()
        self._last_context = contextvars.Context()
        self._attempts: dict[tuple[InvocationId, int], Attempt] = {}
        self._dormant = Dormant(self.propose)
        self._closing = False
        self._is_alert = False
        self._thread: threading.Thread | None = None

    # -- from any thread ----------------------------------------------------------------------

    def start(self) -> None:
        """Start a thread to run on."""
        self._thread = threading.Thread(target=self._live, name="nbdurable-handlers", daemon=True)
        self._thread.start()
        self.ready.result()

    def report_to(self, post: Callable[[Proposal], None]) -> None:
        """Where proposals of attempts go from now on: whoever owns the engine may change."""
        self._post = post

    def offer(self, definition: Definition, digest: str) -> None:
        """Code that can be run here, once the engine has given it a revision."""
        self._offered[definition.service_tag.name, digest] = dict(definition.handlers)
        for handler in definition.handlers.values():
            if handler.kind == "workflow":
                self._runs.add((definition.service_tag.name, handler.name))

    def remember_context(self, invocation_id: InvocationId, context: contextvars.Context) -> None:
        """Output of this invocation's handler goes where this context says."""
        # Whoever begins many begins them in the same context mostly.
        # Several threads may: what is remembered here is nobody else's, whoever comes between.
        kept = self._last_context
        if not _is_same(context, kept):
            self._last_context = kept = context
        self._remember(invocation_id, kept)

    def is_run(self, target: Target) -> bool:
        return (target.service, target.handler) in self._runs

    def stop(self) -> None:
        """Let `run` end: it takes no more orders and unwinds every handler."""
        if not self._closing:
            self._closing = True
            self._loop.call_soon_threadsafe(self._stopping.set)

    def close(self) -> None:
        """Stop, and wait for it. Attempts go on when the journal is reopened."""
        if self._closing or self._thread is None:
            return
        self.stop()
        self._thread.join(UNWIND_S_MAX + 1)
        if self._thread.is_alive():
            logger.warning(
                "a handler blocks the thread that handlers run on, so it cannot be stopped; it is"
                " left to itself and nothing it does is recorded. Blocking calls belong in a step:"
                " await ctx.run_typed('name', blocking_function)"
            )
        self.pool.close()

    # -- orders, from the engine's thread -----------------------------------------------------

    def assign_revision(self, service: str, digest: str, revision: int) -> None:
        self._code[service, revision] = self._offered[service, digest]

    def start_attempt(self, start: AttemptStart) -> None:
        self._order(lambda: self._start(start))

    def deliver(
        self, invocation_id: InvocationId, attempt: int, entries: Sequence[JournalEntry]
    ) -> None:
        def deliver() -> None:
            self._dormant.suspend(invocation_id, attempt)
            self._with(invocation_id, attempt, lambda a: a.deliver(entries))

        self._order(deliver)

    def retry_run(self, invocation_id: InvocationId, attempt: int, failed: FailedRun) -> None:
        self._order(lambda: self._with(invocation_id, attempt, lambda a: a.retry_run(failed)))

    def stop_attempt(self, invocation_id: InvocationId, attempt: int, why: str) -> None:
        def stop() -> None:
            self._dormant.forget(invocation_id, attempt)
            self._with(invocation_id, attempt, lambda a: a.stop(why))

        self._order(stop)

    def stop_all(self, why: str) -> None:
        def stop() -> None:
            self._dormant.clear()
            for attempt in list(self._attempts.values()):
                attempt.stop(why)

        self._order(stop)

    # -- for attempts, on the handler thread --------------------------------------------------

    def propose(self, steps: AttemptSteps) -> None:
        failing = self._attempts.get((steps.invocation_id, steps.attempt))
        if self.failures is not None and failing is not None:
            self.failures.say(failing.start.target, steps)
        try:
            self._post(steps)
        except (EngineClosedError, LinkLostError, RuntimeError):
            # The engine is gone; what was not committed is done again by the next one. Not at once:
            # whoever proposes may be the handler's own task, which cannot be cancelled by itself.
            self._loop.call_soon(
                self._with, steps.invocation_id, steps.attempt, lambda a: a.stop("no engine")
            )

    def suspend_later(self, suspension: AttemptSteps, after_s: float) -> None:
        self._dormant.add(suspension, after_s)

    def inherit(self, children: Sequence[InvocationId], context: contextvars.Context) -> None:
        """What their caller has set, without what makes it this caller's, and would keep it."""
        inherited = context.copy()
        inherited.run(_set_ours, None, None)
        for child in children:
            self._remember(child, inherited)

    def ended(self, attempt: Attempt) -> None:
        key = (attempt.start.invocation_id, attempt.start.attempt)
        if self._attempts.get(key) is attempt:
            del self._attempts[key]
            self._set_alert(is_alert=bool(self._attempts))

    def thread_runs(self, change: int) -> None:
        """Threads of `def` handlers run beside this one; only virtual time has to know."""

    # -- on the handler thread ----------------------------------------------------------------

    async def run(self) -> None:
        """The link's whole life: be `ready`, carry out orders until `stop`, unwind handlers."""
        self._loop = asyncio.get_running_loop()
        note_what_is_begun(self._loop)
        self._stopping = asyncio.Event()
        self._orders: Mailbox[Callable[[], None]] = Mailbox(self._loop)
        self.ready.set_result(None)
        obeying = asyncio.create_task(self._obey())
        await self._stopping.wait()
        obeying.cancel()
        self._dormant.clear()
        attempts = list(self._attempts.values())
        for attempt in attempts:
            attempt.stop("the engine is closing")
        finished = [asyncio.create_task(attempt.finished.wait()) for attempt in attempts]
        if finished:
            await asyncio.wait(finished, timeout=UNWIND_S_MAX)
        self._set_alert(is_alert=False)

    @property
    def attempts(self) -> list[Attempt]:
        """Those that have begun and are not over."""
        return list(self._attempts.values())

    # -- inside -------------------------------------------------------------------------------

    def _remember(self, invocation_id: InvocationId, context: contextvars.Context) -> None:
        self._contexts[invocation_id] = context
        while len(self._contexts) > CONTEXTS_MAX:
            self._contexts.popitem(last=False)

    def _order(self, carry_out: Callable[[], None]) -> None:
        if self._closing:
            return
        # It may close in between, on another thread; then nobody is left to obey.
        with suppress(RuntimeError):
            self._orders.put(carry_out)

    def _live(self) -> None:
        asyncio.run(self.run())

    async def _obey(self) -> None:
        while True:
            for carry_out in await self._orders.take():
                try:
                    carry_out()
                except Exception:  # border: the next order is for another attempt.
                    logger.exception("an order of the engine could not be carried out")

    def _start(self, start: AttemptStart) -> None:
        handler = self._code[start.target.service, start.revision][start.target.handler]
        remembered = self._contexts.get(start.invocation_id)
        context = contextvars.Context() if remembered is None else remembered.copy()

        def handle(attempt: Attempt) -> Coroutine[Any, Any, Written]:
            return _handled(handler, attempt, self.wires)

        key = (start.invocation_id, start.attempt)
        is_heard = remembered is not None
        self._attempts[key] = Attempt(start, self, handle, context, is_heard=is_heard)
        self._set_alert(is_alert=True)

    def _set_alert(self, *, is_alert: bool) -> None:
        # In virtual time there is no other thread.
        if self._thread is None or is_alert == self._is_alert:
            return
        self._is_alert = is_alert
        (be_alert if is_alert else be_calm)()

    def _with(
        self, invocation_id: InvocationId, attempt: int, act: Callable[[Attempt], None]
    ) -> None:
        live = self._attempts.get((invocation_id, attempt))
        if live is not None:
            act(live)


def _is_same(context: contextvars.Context, other: contextvars.Context) -> bool:
    """Of two that nobody changes. Values are not compared: they are whoever's."""
    return len(context) == len(other) and all(
        var in other and other[var] is value for var, value in context.items()
    )


def _set_ours(ctx: Invoked | None, writer: Writer | None) -> None:
    current_context_var.set(ctx)
    # The context may be that of a step which has sent this invocation off.
    executing_step_var.set(None)
    output_var.set(writer)


async def _handled(handler: Handler[Any, Any], attempt: Attempt, wires: WireSource) -> Written:
    """The handler inside its context managers, which are entered anew for every attempt."""
    wire = await wires.get()
    ctx = context_of(attempt, handler, wire)
    _set_ours(ctx, attempt.writer)
    if not handler.context_managers:
        return await _run(handler, attempt, ctx, wire)
    async with AsyncExitStack() as stack:
        for manager in handler.context_managers:
            await stack.enter_async_context(manager())
        return await _run(handler, attempt, ctx, wire)
    raise RuntimeError("a context manager swallowed what the handler raised; let it pass")


async def _run(handler: Handler[Any, Any], attempt: Attempt, ctx: Invoked, wire: Wire) -> Written:
    try:
        argument = await _argument(wire, attempt.start.argument)
        out = await run_handler(handler, ctx, argument, attempt.run_on_thread, wire.parse)
        return wire.write(handler.handler_io.output_serde, out, "result")
    finally:
        if ctx.extension_data:
            await close_extension_data(ctx.extension_data)


async def _argument(wire: Wire, payload: bytes) -> bytes:
    try:
        return await wire.decode(payload)
    except Exception as error:
        raise TerminalError("the codec of journal values cannot decode the input", 400) from error
