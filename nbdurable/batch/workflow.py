"""A notebook run is an invocation: `Notebook/<run id>/run`, in a journal keyed by cell.

Owns: the handler, and the desk over which it hands cells to the thread that has the kernel. Never
touches the kernel or the notebook: that is `client.py`, on the main thread of papermill.

    handler thread                                   main thread
    run(ctx) -- Restore, Execute, Show, … ------->   serves one order after the other
             <- futures: why not, a CellRecord --

A cell that fails ends the attempt, and the policy of one attempt pauses the run: the next
papermill call resumes it.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from nbdurable.batch.cells import (
    EVERYTHING,
    Cell,
    CellRecord,
    Kept,
    KnownStep,
    Plan,
    RecordSerde,
    Span,
    StepKey,
    plan_of,
)
from nbdurable.batch.inner import InnerSteps
from nbdurable.batch.line import Asked
from nbdurable.core.builtin import NOTEBOOK_SERVICE
from nbdurable.errors import CANCELLED_CODE, AttemptClosed, RetryableError, TerminalError
from nbdurable.invoker.context import WorkflowInvoked
from nbdurable.runs import request
from nbdurable.sdk import RunOptions, Workflow, WorkflowContext

HandTo = Callable[[Callable[[Asked], None]], None]
SERVICE = NOTEBOOK_SERVICE
HANDLER = request.HANDLER
DIGEST = request.DIGEST

_RECORDED: RunOptions[CellRecord] = RunOptions(serde=RecordSerde())


@dataclass(frozen=True, slots=True)
class Begin:
    """Which attempt this is, and what it will do."""

    attempt: int
    plan: Plan


@dataclass(frozen=True, slots=True)
class Restore:
    """Bring variables back; answered with None, or with why they cannot be."""

    checkpoint: str
    manifest: str | None
    reply: Future[str | None] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class Execute:
    """Run a cell; answered with its record, or with a TerminalError if it failed.

    `no_checkpoint` says why its variables are not to be saved, if so.
    """

    cell: Cell
    attempt: int
    no_checkpoint: str | None
    reply: Future[CellRecord] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class Show:
    """The record is committed: put it into the notebook."""

    cell: Cell
    record: CellRecord
    restored: bool


@dataclass(frozen=True, slots=True)
class Continue:
    """The next cell that runs is `In [execution_count]`."""

    execution_count: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Every cell was shown: write the notebook. `stopped`: a cell ended it on purpose.

    Answered before the run completes, because a completed run is never gone on with.
    """

    stopped: bool
    reply: Future[None] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class End:
    """The handler is over, one way or the other; the journal says which."""


Order = Begin | Restore | Execute | Show | Continue | Finish | End


class Desk:
    """Mutable: a queue of orders. The handler puts, the main thread takes; one attempt at a time.

    Args:
        span: What this call runs.
        known: Steps of a run that is over, which this one begins with.
        hand_to: Says where requests of the kernel go.
        is_fresh: Steps inside of the cells that run are done again.

    Attributes:
        suspended_until: What the run waits for; the main thread lets the kernel end.
        last_attempt: The one that had the kernel last, also when it has left it.
        is_used: An attempt was lost, because the engine moved to another process, and this one goes
            on where that was: with the kernel as it is, and with the cell that runs in it.
    """

    def __init__(
        self,
        run_id: str,
        cells: Sequence[Cell],
        span: Span = EVERYTHING,
        known: Sequence[KnownStep] = (),
        hand_to: HandTo = lambda _take: None,
        *,
        is_fresh: bool = False,
    ) -> None:
        self.run_id = run_id
        self.cells = cells
        self.span = span
        self.known = known
        self.hand_to = hand_to
        self.is_fresh = is_fresh
        self.suspended_until: str | None = None
        self.orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self.attempt: int | None = None
        self.last_attempt: int | None = None
        self.is_used = False
        self._executed: dict[tuple[int, str], Future[CellRecord]] = {}

    @property
    def ends_early(self) -> bool:
        """Whether this call leaves cells to another one, as it was told to."""
        return self.span.last is not None and self.span.last < len(self.cells) - 1

    def open(self, attempt: int) -> bool:
        """Whether this attempt may have the kernel: after one that failed it is half used."""
        if self.attempt is not None:
            return False
        self.attempt = self.last_attempt = attempt
        return True

    def suspend(self, until: str) -> None:
        """No more of this run here: the kernel has to end, and another process goes on."""
        self.suspended_until = until

    def leave(self) -> None:
        """The attempt is lost, and nothing of it failed: the next one may have the kernel."""
        self.attempt, self.is_used = None, True

    def has_executed(self, cell: Cell) -> bool:
        """Whether it ran, or runs, in this kernel."""
        executed = self._executed.get((cell.position, cell.digest))
        return executed is not None and not executed.cancelled()

    async def restore(self, checkpoint: str, manifest: str | None) -> str | None:
        order = Restore(checkpoint, manifest)
        self.orders.put(order)
        return await asyncio.wrap_future(order.reply)

    async def finish(self, *, stopped: bool) -> None:
        order = Finish(stopped)
        self.orders.put(order)
        await asyncio.wrap_future(order.reply)

    def execute(
        self, cell: Cell, attempt: int, no_checkpoint: str | None
    ) -> asyncio.Future[CellRecord]:
        """Its record; of a cell that runs in this kernel already, once it ends."""
        if not self.has_executed(cell):
            order = Execute(cell, attempt, no_checkpoint)
            self._executed[cell.position, cell.digest] = order.reply
            self.orders.put(order)
        return asyncio.wrap_future(self._executed[cell.position, cell.digest])


def workflow_of(desk: Desk) -> Workflow:
    """The workflow whose handler drives this desk's cells."""
    flow = Workflow(SERVICE, invocation_retry_policy=request.ONE_ATTEMPT)

    @flow.main(HANDLER)
    async def run(ctx: WorkflowContext, _request: dict[str, Any]) -> dict[str, Any]:
        assert isinstance(ctx, WorkflowInvoked)
        attempt = ctx.attempt.start.attempt
        assert ctx.key() == desk.run_id, "registered for no other key"
        if desk.suspended_until is not None or not desk.open(attempt):
            # Somebody has resumed it, or what it waited for has come, and this process, whose
            # attempt is over, is about to end. This one is lost with it, and begins in the next.
            await asyncio.Event().wait()
        try:
            out = await _Run(ctx, desk, attempt).drive()
        except AttemptClosed:
            # Whether there will be another one is for whoever serves the orders to ask.
            desk.leave()
            raise
        except BaseException:
            desk.orders.put(End())
            raise
        desk.orders.put(End())
        return out

    return flow


class _Run:
    """Mutable; one attempt, on the handler thread."""

    def __init__(self, ctx: WorkflowInvoked, desk: Desk, attempt: int) -> None:
        self._ctx = ctx
        self._desk = desk
        self._attempt = attempt
        self._unusable: dict[str, str] = {}

    async def drive(self) -> dict[str, Any]:
        self._inner = InnerSteps(
            self._ctx, self._ctx.recorded_steps(), self._desk.hand_to, self._desk.suspend
        )
        plan, again = await self._begin()
        orders = self._desk.orders
        stopped = False
        for kept in plan.kept:
            # Asked of the journal, not of the plan: what is shown is what is recorded.
            record = await self._kept(kept)
            record = again.get(kept.cell.position, record)
            ran_here = kept.cell.position in again or self._desk.has_executed(kept.cell)
            orders.put(Show(kept.cell, record, restored=not ran_here))
            stopped = record.stopped
        if plan.left and plan.kept and not self._desk.is_used:
            counts = [kept.record.execution_count or 0 for kept in plan.kept]
            orders.put(Continue(max(counts) + 1))
        for cell in plan.left:
            key = StepKey(cell.position, cell.digest, self._attempt)
            record = await self._step(key, cell, plan)
            orders.put(Show(cell, record, restored=False))
            stopped = record.stopped
            if stopped:
                break
        early = self._desk.ends_early and not stopped
        await self._desk.finish(stopped=stopped or early)
        if early:
            number = self._desk.cells[self._desk.span.last or 0].index + 1
            # The one way for a handler to pause: the rest is for another call.
            raise RetryableError(f"ended after cell {number}, as it was told to")
        restored = len(plan.kept) - len(again)
        return {"cells": len(self._desk.cells), "restored": restored, "stopped": stopped}

    async def _begin(self) -> tuple[Plan, dict[int, CellRecord]]:
        """Plan, and bring the kernel to where the plan begins; a bad checkpoint is planned around.

        Returns the plan and, by position, the records of the setup cells that ran again.
        """
        steps = self._ctx.recorded_steps()
        for step in steps:
            if step.is_open:
                self._ctx.abandon_step(step, f"did not end: attempt {self._attempt} began")
        while True:
            desk = self._desk
            plan = plan_of(desk.cells, (*desk.known, *steps), self._unusable, desk.span)
            why_not = tuple(dict.fromkeys(self._unusable.values()))
            if not self._desk.is_used:
                begin = Begin(self._attempt, replace(plan, notes=plan.notes + why_not))
                self._desk.orders.put(begin)
            again: dict[int, CellRecord] = {}
            for cell in plan.again:
                before = plan.checkpoint_before(cell)
                if before is not None and not await self._restored(before, plan):
                    break
                count = plan.kept[cell.position].record.execution_count
                if not self._desk.is_used:
                    self._desk.orders.put(Continue(count or 1))
                key = StepKey(cell.position, cell.digest, self._attempt, again=True)
                again[cell.position] = await self._step(key, cell, plan)
            else:
                if plan.checkpoint is None or await self._restored(plan.checkpoint, plan):
                    return plan, again

    async def _restored(self, checkpoint: str, plan: Plan) -> bool:
        if self._desk.is_used:
            # The kernel has lived through it.
            return True
        if checkpoint in self._unusable:
            # Only the one before a setup cell gets here: the cell then runs without it.
            return True
        why_not = await self._desk.restore(checkpoint, plan.manifest_of(checkpoint))
        if why_not is not None:
            self._unusable[checkpoint] = why_not
        return why_not is None

    async def _kept(self, kept: Kept) -> CellRecord:
        """As the journal has it; what another run recorded is recorded here."""

        async def known() -> CellRecord:
            return kept.record

        step = self._ctx.run_keyed(str(kept.key), kept.cell.name, known, _RECORDED)
        record = await step
        assert isinstance(record, CellRecord)
        return record

    async def _step(self, key: StepKey, cell: Cell, plan: Plan) -> CellRecord:
        why_not = None
        if key.again:
            why_not = "a setup cell that ran again; what came after it was restored"
        elif cell.position == len(self._desk.cells) - 1:
            why_not = "the last cell"
        elif cell.position >= plan.checkpointed:
            why_not = "saving the variables killed the kernel twice"
        executed = self._desk.execute(cell, self._attempt, why_not)

        async def recorded() -> CellRecord:
            return await executed

        step = self._ctx.run_keyed(str(key), cell.name, recorded, _RECORDED)
        try:
            is_volatile = cell.is_volatile or self._desk.is_fresh
            await self._inner.serve(cell.position, executed, is_volatile=is_volatile)
            record = await step
        except TerminalError as error:
            if error.status_code == CANCELLED_CODE:
                raise
            # Terminal for this execution, not for the run: that pauses, and can be resumed.
            raise RetryableError(str(error)) from None
        except BaseException:
            # An order that nobody has begun to serve is not to be served any more.
            executed.cancel()
            raise
        assert isinstance(record, CellRecord)
        return record
