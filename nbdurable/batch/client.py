"""Serves the orders of a run on the one thread that has the kernel: papermill's main thread.

Owns: executing a cell as papermill does, the silent requests to the kernel, and what both leave in
the notebook. What is run, and in which order, is the workflow's to say.
"""

from __future__ import annotations

import copy
import json
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_async, run_sync
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.log import logger

from nbdurable.batch.cells import RETRIES_TAG, TIMEOUT_TAG, Cell, CellRecord, tagged
from nbdurable.batch.kernel_client import make_prompt
from nbdurable.batch.kernel_side import RESTORE_KEPT
from nbdurable.batch.manager import TrueManager
from nbdurable.batch.secrets import Secrets
from nbdurable.batch.workflow import (
    Begin,
    Continue,
    Desk,
    End,
    Execute,
    Finish,
    Order,
    Restore,
    Show,
)
from nbdurable.errors import RetryableError, TerminalError

# How often the main thread looks whether the run still goes on while no order comes.
LOOK_S = 1.0
# How long one wait for a kernel's answer lasts before it is asked whether it is alive.
ALIVE_S = 0.5
# A kernel is idle some microseconds after its answer; one that does not say so is not waited for.
IDLE_S_MAX = 2.0
# What a checkpoint may add to the record of its cell, instead of up to three files with an fsync
# each. A row of the journal takes 32 KiB, and a thousand cells 8 MiB.
MANIFEST_BYTES_MAX = 8 * 1024
NO_PYTHON = "the kernel is not Python"


class KernelAskError(Exception):
    """The kernel could not do what it was silently asked to do."""


@dataclass(frozen=True, slots=True)
class Serving:
    """Which run a kernel is for.

    Attributes:
        begin: Called when the kernel is ready: submits the run, or resumes it.
        let_end: Called when the run is over, before the kernel is ended.
        is_running: Whether the run still has an attempt.
        blobs: Where checkpoints go.
        told: What the kernel has to know to ask for steps.
        secrets: What is not to be written.
    """

    desk: Desk
    begin: Callable[[], None]
    let_end: Callable[[], None]
    is_running: Callable[[], bool]
    blobs: str
    told: dict[str, str]
    secrets: Secrets


class DurableClient(PapermillNotebookClient):  # type: ignore[misc]  # papermill has no types.
    """Mutable: kernel and notebook; owned by the main thread."""

    def __init__(self, nb_man: TrueManager, **options: object) -> None:
        super().__init__(nb_man, **options)
        self.timeout_func = self._timeout_s
        self._no_checkpoints: str | None = None
        self._connecting: str | None = None
        self._passed: set[int] = set()
        self._touched: set[str] = set()
        self.has_failed = False

    def launch(self) -> None:
        """Let the kernel start; `serve` waits until it is ready."""
        try:
            self.create_kernel_manager()
            self.start_new_kernel()
        # A border: `serve` starts it then, and says what is wrong where papermill would.
        except Exception:  # noqa: BLE001
            self.km: Any = None

    def let_go(self) -> None:
        """End a kernel that was started and is not needed."""
        if self.km is not None and self.km.has_kernel:
            self.shutdown_kernel = "immediate"
            self._cleanup_kernel()

    def serve(self, serving: Serving) -> None:
        """Give the run the kernel until it is over, one way or the other."""
        self._desk = serving.desk
        self._begin = serving.begin
        self._let_end = serving.let_end
        self._is_running = serving.is_running
        self._blobs = serving.blobs
        self._told = serving.told
        self._secrets = serving.secrets
        self.execute()

    # -- what papermill calls -----------------------------------------------------------------

    def create_kernel_manager(self) -> KernelManager:
        """As nbclient has it; its kernel is ready as soon as it answers."""
        made: KernelManager = super().create_kernel_manager()
        make_prompt(made)
        return made

    def papermill_execute_cells(self) -> None:
        """Serve the run's orders until it is over. Named by papermill, which calls it."""
        self.nb_man.note(kernel_pid=getattr(self.km.provisioner, "pid", None))
        info: Any = self.wait_for_reply(self.kc.kernel_info())
        language = info["content"]["language_info"]
        self.nb.metadata.language_info = language
        if language["name"] != "python":
            self._no_checkpoints = NO_PYTHON
            logger.warning(f"{NO_PYTHON}: its variables are not kept, so a resumed run begins anew")
        else:
            self._connect()
        self._begin()
        while not isinstance(order := self._next(), End):
            self._serve(order)
            if self._desk.suspended_until is not None:
                return
        self._let_end()

    async def async_wait_for_reply(
        self, msg_id: str, cell: NotebookNode | None = None
    ) -> dict[str, Any] | None:
        """As nbclient has it, and until the kernel is idle.

        To shut a kernel down begins with an interrupt, which one that is idle ignores, and one that
        is about to be complains of.
        """
        reply: dict[str, Any] | None = await super().async_wait_for_reply(msg_id, cell)
        if reply is not None:
            await self._async_idle(msg_id)
        return reply

    wait_for_reply = run_sync(async_wait_for_reply)

    def handle_comm_msg(
        self, outs: list[NotebookNode], msg: dict[str, Any], cell_index: int
    ) -> None:
        self._touched.add(msg["content"]["comm_id"])
        super().handle_comm_msg(outs, msg, cell_index)

    def process_message(
        self, msg: dict[str, Any], cell: NotebookNode, cell_index: int
    ) -> NotebookNode | None:
        """As nbclient has it, without what is secret."""
        if self._secrets:
            msg = {**msg, "content": self._secrets.hidden(msg["content"])}
        output: NotebookNode | None = super().process_message(msg, cell, cell_index)
        return output

    # -- orders -------------------------------------------------------------------------------

    def _next(self) -> Order:
        while True:
            try:
                return self._desk.orders.get(timeout=LOOK_S)
            except queue.Empty:
                if not self._is_running() and self._desk.orders.empty():
                    return End()

    def _serve(self, order: Order) -> None:
        match order:
            case Begin():
                self._say(order)
            case Restore(reply=reply):
                if reply.set_running_or_notify_cancel():
                    self._answer_restore(order)
            case Execute(reply=reply):
                self._be_connected()
                if reply.set_running_or_notify_cancel():
                    self._execute(order)
            case Show(cell=cell, record=record, restored=restored):
                self._pass_until(cell.index)
                self._passed.add(cell.index)
                if restored:
                    self._restore_widgets(record)
                self.nb_man.cell_recorded(cell.index, record, restored=restored)
            case Continue(execution_count=execution_count):
                self._count_on(execution_count)
            case Finish(stopped=stopped, reply=reply):
                if reply.set_running_or_notify_cancel():
                    self._finish(reply, stopped=stopped)
            case End():
                pass

    def _say(self, begin: Begin) -> None:
        plan, desk = begin.plan, self._desk
        again = len(plan.again)
        restored = len(plan.kept) - again
        self.nb_man.note(attempt=begin.attempt, cells_restored=restored)
        if begin.attempt == 1 and not plan.kept:
            logger.info(f"Durable run:     {desk.run_id}")
            return
        count = f"{restored} of {len(desk.cells)} cells restored, not run"
        setup = f"; {again} setup cell{'s' * (again > 1)} run{'s' * (again == 1)} again"
        why = "".join(f"; {note}" for note in plan.notes)
        logger.info(f"Resuming run {desk.run_id}: {count}{setup if again else ''}{why}")

    def _execute(self, order: Execute) -> None:
        """Run a cell. What it raises is an answer; what the kernel or a person does, goes up."""
        index = order.cell.index
        cell = self.nb.cells[index]
        self._pass_until(index)
        self._touched.clear()
        self.nb_man.cell_start(cell, index)
        started_at_ms = self._now_ms()
        stopped = False
        try:
            try:
                self._execute_cell(cell, index)
            except CellExecutionError as error:
                if not _is_exit(error):
                    raise
                stopped = True
                self.nb_man.cell_exception(cell, cell_index=index)
            finally:
                # Again, in whole outputs: a text may come in pieces, each of which says nothing.
                cell.outputs = self._secrets.in_outputs(cell.outputs)
            record = self._record(order, started_at_ms, stopped=stopped)
        except CellExecutionError as error:
            if self._desk.suspended_until is None:
                self._fail(order, f"{error.ename}: {error.evalue}")
            else:
                self._suspend(order)
        except DeadKernelError as error:
            if self._desk.suspended_until is None:
                self._fail(order, _why(error))
                raise
            self._suspend(order)
        except BaseException as error:
            self._fail(order, _why(error))
            raise
        else:
            if self._desk.suspended_until is None:
                order.reply.set_result(record)
            else:
                # It has caught what ends a kernel, and went on; its attempt is over all the same.
                self._suspend(order)

    def _suspend(self, order: Execute) -> None:
        """The cell has been left where it waits; what it has shown so far stays."""
        cell = self.nb.cells[order.cell.index]
        cell.outputs = [
            output for output in cell.outputs if output.get("ename") != "NotebookSuspended"
        ]
        self.nb_man.cell_suspended(order.cell.index, str(self._desk.suspended_until))
        order.reply.cancel()

    def _execute_cell(self, cell: NotebookNode, index: int) -> None:
        """Run it again while it raises, as often as its tag says; a dead kernel is past that.

        At once: whoever wants to wait between two calls of a service says so in the cell.
        """
        retries = tagged(cell, RETRIES_TAG)
        for count in range(1, retries + 1):
            try:
                self.execute_cell(cell, index)
            except CellExecutionError as error:
                if _is_exit(error) or self._desk.suspended_until is not None:
                    raise
                said = f"{error.ename}: {error.evalue}"
                logger.warning(f"Cell {index + 1} raised {said}; retry {count} of {retries}")
            else:
                return
        self.execute_cell(cell, index)

    def _timeout_s(self, cell: NotebookNode) -> int | None:
        """What its tag says, else what papermill was told."""
        timeout: int | None = tagged(cell, TIMEOUT_TAG) or self.timeout
        return timeout

    def _finish(self, reply: Future[None], *, stopped: bool) -> None:
        try:
            if not stopped:
                self._pass_until(len(self.nb.cells))
            self.set_widgets_metadata()
            self.nb_man.save()
        except BaseException as error:
            reply.set_exception(RetryableError(f"the notebook was not written: {error!r}"))
            raise
        reply.set_result(None)

    def _fail(self, order: Execute, why: str) -> None:
        self.has_failed = True
        self.nb_man.cell_failed(order.cell.index)
        why = self._secrets.hide(why)
        order.reply.set_exception(TerminalError(f"cell {order.cell.index + 1}: {why}"))

    def _record(self, order: Execute, started_at_ms: int, *, stopped: bool) -> CellRecord:
        ended_at_ms = self._now_ms()
        cell = self.nb.cells[order.cell.index]
        why_not = order.no_checkpoint or self._no_checkpoints
        saved: dict[str, Any] = self._save(order.cell) if why_not is None else {"error": why_not}
        return CellRecord(
            index=order.cell.index,
            digest=order.cell.digest,
            attempt=order.attempt,
            outputs=copy.deepcopy(cell.outputs),
            execution_count=cell.execution_count,
            started_at_ms=started_at_ms,
            ended_at_ms=ended_at_ms,
            checkpoint=saved.get("checkpoint"),
            no_checkpoint=saved.get("error"),
            checkpoint_ms=saved.get("ms", 0),
            checkpoint_bytes=saved.get("bytes", 0),
            tombstones=saved.get("tombstones", []),
            timing=dict(cell.metadata.get("execution", {})),
            widgets=self._secrets.hidden(self._widgets()),
            stopped=stopped,
            died_saving=saved.get("died_saving", False),
            manifest=saved.get("manifest"),
        )

    def _pass_until(self, index: int) -> None:
        """Complete what lies before and nothing runs."""
        running = {cell.index for cell in self._desk.cells}
        for before in range(index):
            if before not in running and before not in self._passed:
                self._passed.add(before)
                self.nb_man.cell_passed(before)

    def _now_ms(self) -> int:
        return int(self.nb_man.now().timestamp() * 1000)

    # -- widgets ------------------------------------------------------------------------------

    def _widgets(self) -> dict[str, Any]:
        """The states this cell changed, so that what it shows can be shown again."""
        return {
            comm_id: {
                "state": self.widget_state[comm_id],
                "buffers": list(self.widget_buffers.get(comm_id, {}).values()),
            }
            for comm_id in sorted(self._touched & self.widget_state.keys())
        }

    def _restore_widgets(self, record: CellRecord) -> None:
        for comm_id, widget in record.widgets.items():
            self.widget_state[comm_id] = widget["state"]
            if widget["buffers"]:
                buffers = {tuple(each["path"]): each for each in widget["buffers"]}
                self.widget_buffers[comm_id] = buffers

    # -- silent requests to the kernel --------------------------------------------------------

    def _connect(self) -> None:
        """Not waited for until a cell is to run: meanwhile the run begins.

        If it fails, whoever asks for a step is told, and a dead kernel by the first cell.
        """
        self._connecting = self._send({"ask": "connect", **self._told})

    def _be_connected(self) -> None:
        """Else connecting would be part of the first cell's time, and of its time limit."""
        if self._connecting is not None:
            with suppress(DeadKernelError):
                self._silent_reply(self._connecting)

    def _save(self, cell: Cell) -> dict[str, Any]:
        """Save the variables. Whatever goes wrong, the cell's result is not lost with it."""
        try:
            where = {"blobs": self._blobs, "manifest_bytes_max": MANIFEST_BYTES_MAX}
            return self._ask({"ask": "save", "cell": str(cell.index + 1), **where})
        except KernelAskError as error:
            return {"error": str(error)}
        except DeadKernelError:
            why_not = "the kernel died while its variables were saved"
            logger.warning(f"After cell {cell.index + 1}, {why_not}")
            return {"error": why_not, "died_saving": True}

    def _answer_restore(self, order: Restore) -> None:
        try:
            order.reply.set_result(self._restore(order))
        except BaseException as error:
            # Not terminal: the run pauses, and can be resumed with another kernel.
            order.reply.set_exception(
                RetryableError(f"while variables were restored: {_why(error)}")
            )
            raise

    def _restore(self, order: Restore) -> str | None:
        try:
            if self._no_checkpoints is not None:
                return self._no_checkpoints
            word = "restore" if order.manifest is None else RESTORE_KEPT
            what = {"checkpoint": order.checkpoint, "manifest": order.manifest}
            restored = self._ask({"ask": word, "blobs": self._blobs, **what})
        except KernelAskError as error:
            return str(error)
        for note in restored["notes"]:
            logger.warning(note)
        for lost in restored["tombstones"]:
            logger.warning(f"Not restored: {lost}")
        return None

    def _count_on(self, execution_count: int) -> None:
        try:
            self._ask({"ask": "count", "next": execution_count})
        except (KernelAskError, DeadKernelError) as error:
            # Counts are decoration; a dead kernel is told by the cell that comes next.
            logger.debug(f"execution counts begin again: {error}")

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Evaluate one expression beside the notebook: no history, no output, no name left.

        Raises:
            KernelAskError: It answered, and the answer is an error.
            DeadKernelError: It died.
        """
        reply = self._silent_reply(self._send(request))
        answer = reply["content"].get("user_expressions", {}).get("answer", {})
        if answer.get("status") == "error":
            raise KernelAskError(_said(answer["ename"], answer["evalue"]))
        try:
            content = json.loads(answer["data"]["text/plain"])
        except (KeyError, ValueError):
            raise KernelAskError("the kernel did not answer the request") from None
        if "error" in content:
            raise KernelAskError(content["error"])
        assert isinstance(content, dict)
        return content

    def _send(self, request: dict[str, Any]) -> str:
        module = "nbdurable.batch.kernel_side"
        call = f"__import__({module!r}, fromlist=['answer']).answer({json.dumps(request)!r})"
        msg_id: str = self.kc.execute(
            "", silent=True, store_history=False, user_expressions={"answer": call}
        )
        return msg_id

    async def _async_silent_reply(self, msg_id: str) -> dict[str, Any]:
        """Not `wait_for_reply`: that applies a cell's time limit, and looks every five seconds."""
        while True:
            try:
                message = await ensure_async(self.kc.shell_channel.get_msg(timeout=ALIVE_S))
            except queue.Empty:
                await self._async_check_alive()
            else:
                if message["parent_header"].get("msg_id") == msg_id:
                    # A kernel answers in order, and that was its first request.
                    self._connecting = None
                    assert isinstance(message, dict)
                    return message

    _silent_reply = run_sync(_async_silent_reply)

    async def _async_idle(self, msg_id: str) -> None:
        until_s = time.monotonic() + IDLE_S_MAX
        with suppress(queue.Empty):
            while (left_s := until_s - time.monotonic()) > 0:
                message = await ensure_async(self.kc.iopub_channel.get_msg(timeout=left_s))
                is_of_it = message["parent_header"].get("msg_id") == msg_id
                if is_of_it and message["content"].get("execution_state") == "idle":
                    return


def _is_exit(error: CellExecutionError) -> bool:
    """`sys.exit()` ends a notebook on purpose: papermill, too, calls that a success."""
    return bool(error.ename == "SystemExit" and error.evalue in ("", "0", "None"))


def _why(error: BaseException) -> str:
    match error:
        case DeadKernelError():
            return "the kernel died"
        case KeyboardInterrupt():
            return "interrupted"
        case CellTimeoutError():
            return "took longer than its time limit"
        case _:
            return repr(error)


def _said(ename: str, evalue: str) -> str:
    if ename == "ModuleNotFoundError":
        return "nbdurable is not installed in the kernel's environment"
    return f"{ename}: {evalue}"
