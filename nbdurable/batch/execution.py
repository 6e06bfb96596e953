"""One papermill call: open the journal, find or begin the run, give it a kernel, wait.

Owns: the name of a run, which of them goes on, and what becomes of a journal that another process
holds. The journal is opened before the output notebook is touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import click
from nbformat import NotebookNode
from papermill.exceptions import PapermillException
from papermill.log import logger
from papermill.utils import chdir

from nbdurable.batch.cells import (
    EVERYTHING,
    Cell,
    CellNotFoundError,
    KnownStep,
    Span,
    adopted,
    cells_of,
    plan_of,
    position_of,
    waiting_cell,
)
from nbdurable.batch.client import DurableClient, Serving
from nbdurable.batch.inner import until_of
from nbdurable.batch.line import Asked, Line
from nbdurable.batch.manager import TrueManager, is_local, launch_folder, was_suspended
from nbdurable.batch.secrets import Secrets
from nbdurable.batch.workflow import DIGEST, HANDLER, SERVICE, Desk, workflow_of
from nbdurable.client.picture import TERMINAL
from nbdurable.client.views import InvocationView
from nbdurable.errors import (
    EngineClosedError,
    JournalDamagedError,
    JournalGoneError,
    JournalHeldError,
    JournalVersionError,
    NbdurableError,
    StoreError,
)
from nbdurable.sdk.cells import secret_of
from nbdurable.sharing.engine import SharedEngine
from nbdurable.wiring import journal_path

# Apart from the payloads' folder: no fact names these files, so its clean-up would take them.
CHECKPOINTS_FOLDER = "checkpoints"
# Eight characters tell apart thousands of runs of one notebook, and can be read out.
DIGEST_CHARS = 8
# A handler that was told of a failure needs one commit to say so; five seconds are generous.
SETTLE_LOOK_S = 0.01
SETTLE_LOOKS_MAX = 500
# After Ctrl-C, somebody waits.
SETTLE_LOOKS_MAX_ON_ERROR = 100
# papermill's own default.
START_TIMEOUT_S = 60
REFUSALS = (
    JournalDamagedError,
    JournalGoneError,
    JournalHeldError,
    JournalVersionError,
    StoreError,
)


class JournalRefusedError(click.ClickException, PapermillException, NbdurableError):  # type: ignore[misc]  # papermill has no types.
    """The run cannot be journaled. papermill's command prints the sentence and exits with 1."""


class RunSuspendedError(click.ClickException, PapermillException, NbdurableError):  # type: ignore[misc]  # papermill has no types.
    """The run waits for long, and nothing of it is alive. Its command exits with 75."""

    # EX_TEMPFAIL of sysexits.h: not a failure, ask again later.
    exit_code = 75


def execute(
    nb: NotebookNode,
    kernel_name: str,
    *,
    output_path: str | None = None,
    progress_bar: bool | dict[str, Any] = True,
    log_output: bool = False,
    autosave_cell_every: int = 30,
    run_id: str | None = None,
    is_sent: bool = False,
    from_cell: str | int | None = None,
    until_cell: str | int | None = None,
    only_cell: str | int | None = None,
    fresh: bool = False,
    **options: object,
) -> NotebookNode:
    """What `papermill.engines.Engine.execute_notebook` does, as a workflow.

    Args:
        from_cell: Run again from here on, whatever has finished.
        until_cell: Run nothing after it; another call goes on.
        only_cell: Both: run this one again, with the variables that those before it left.
        fresh: Do the steps inside of the cells that run again, also those that have finished.

    Raises:
        RunSuspendedError: It waits for long; the same call goes on when that is over.
        CellNotFoundError: A cell is named that is not there, or nothing runs, or not yet.
        JournalRefusedError: Another process has the journal, or it cannot be read.
    """
    cells = cells_of(nb.cells, kernel_name)
    span = span_of(nb, cells, from_cell, until_cell, only_cell)
    manager = TrueManager(
        nb,
        output_path=output_path,
        progress_bar=progress_bar,
        log_output=log_output,
        autosave_cell_every=autosave_cell_every,
    )
    client = DurableClient(
        manager, **_client_options({**options, "log_output": log_output}, kernel_name)
    )
    if not was_suspended(output_path):
        # A kernel takes a second to be ready, and opening a journal a part of one.
        client.launch()
    try:
        is_only = only_cell is not None
        _execute(client, manager, _Wanted(run_id, is_sent, cells, span, is_only, fresh))
    finally:
        client.let_go()
        # Of a call that was refused; else it is closed by now.
        manager.cleanup_pbar()
    executed: NotebookNode = manager.nb
    return executed


class _Wanted(NamedTuple):
    """What this call was asked for. `is_sent`: the run was sent, and is no later one of another."""

    run_id: str | None
    is_sent: bool
    cells: Sequence[Cell]
    span: Span
    is_only: bool
    is_fresh: bool


def _execute(client: DurableClient, manager: TrueManager, wanted: _Wanted) -> None:
    with chdir(launch_folder()):
        # The notebook and papermill's own error show what failed.
        # A call that somebody has typed is for its own run, which it would start a second time.
        engine = SharedEngine(journal_path(), logs_failures=False, lasts=wanted.is_sent)
        try:
            engine.start()
        except REFUSALS as error:
            raise JournalRefusedError(str(error)) from error
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="nbdurable run's end") as beside:
            call = _Call(engine, manager, client, wanted, beside)
            if wanted.is_only:
                call.check_only()
            call.check_awake()
            manager.notebook_start()
            try:
                call.execute()
            except RunSuspendedError:
                manager.is_partial = True
                raise
            except BaseException:
                manager.failed = True
                raise
            finally:
                manager.notebook_complete()
    finally:
        engine.close()


class _Call:
    """Mutable; one papermill call, on the main thread."""

    def __init__(
        self,
        engine: SharedEngine,
        manager: TrueManager,
        kernel_client: DurableClient,
        wanted: _Wanted,
        beside: Executor,
    ) -> None:
        """Raises JournalRefusedError when the run that would go on is under way elsewhere."""
        self._engine = engine
        self._beside = beside
        self._end: Future[InvocationView | None] | None = None
        self._client = engine.client
        self._manager = manager
        self._kernel_client = kernel_client
        self._cells = wanted.cells
        self._span = wanted.span
        self._is_fresh = wanted.is_fresh
        self._base_id = wanted.run_id or run_id_of(manager.nb, engine.path.parent)
        self._invocation_id = ""
        self._desk: Desk | None = None
        known = [view for view in self._runs() if _ordinal(self._base_id, view.key)]
        if wanted.is_sent:
            # It is this one that was sent, and its key may well look like a later run of another.
            known = [view for view in known if view.key == self._base_id]
        known.sort(key=lambda view: _ordinal(self._base_id, view.key))
        self._last = known[-1] if known else None
        if self._last is not None and self._last.status == "running":
            raise JournalRefusedError(
                f"Run {self._last.key} is being run by another papermill call. Wait for that one,"
                " or end it and try again."
            )

    def check_only(self) -> None:
        """Raises CellNotFoundError when cells before the only one have not finished."""
        first = self._span.first
        assert first is not None
        steps = [] if self._last is None else self._steps_of(self._last)
        kept = plan_of(self._cells, steps).kept
        if len(kept) < first:
            missing = self._cells[len(kept)].index + 1
            raise CellNotFoundError(
                f"cell {self._cells[first].index + 1} cannot run alone: cell {missing} before it"
                " has not finished, or was edited, or left no variables; run it until there first"
            )

    def check_awake(self) -> None:
        """Raises RunSuspendedError while the run waits, in a cell that nobody has edited since."""
        last = self._last
        if last is None or last.status != "suspended" or self._span != EVERYTHING:
            return
        client = self._client
        view = last
        for _ in range(SETTLE_LOOKS_MAX):
            # What is due is so a moment after the journal was opened.
            if view.wakes_at_ms is None or view.wakes_at_ms > client.now_ms():
                break
            time.sleep(SETTLE_LOOK_S)
            view = client.wait(client.invocation(last.id))
            if view.status != "suspended":
                return
        waiting = waiting_cell(self._steps_of(view))
        if any(cell.digest == waiting for cell in self._cells):
            raise RunSuspendedError(_suspended(str(view.key), until_of(view)))

    def execute(self) -> None:
        secrets = Secrets()
        line = Line(partial(_tell_secret, secrets))
        self._manager.secrets = secrets
        logger.addFilter(secrets)
        try:
            self._execute(line, secrets)
        finally:
            logger.removeFilter(secrets)
            line.close()

    def _execute(self, line: Line, secrets: Secrets) -> None:
        last = self._last
        known: list[KnownStep] = []
        run_id = self._base_id if last is None else str(last.key)
        if last is not None and last.is_done:
            run_id = f"{self._base_id}.{_ordinal(self._base_id, last.key) + 1}"
            logger.info(f"Run {last.key} is over; this is a new one: {run_id}")
            if self._span.first is not None:
                known = adopted(self._steps_of(last))
            last = None
        self._manager.note(run_id=run_id, journal=str(self._engine.path))
        desk = self._desk = Desk(
            run_id, self._cells, self._span, known, line.hand_to, is_fresh=self._is_fresh
        )
        self._manager.is_partial = desk.ends_early
        client = self._kernel_client
        serving = Serving(
            desk,
            lambda: self._begin(desk, last),
            self._let_end,
            self._is_running,
            str(self._engine.path / CHECKPOINTS_FOLDER),
            {**line.told, "run": run_id},
            secrets,
        )
        try:
            client.serve(serving)
        except BaseException:
            # What went wrong is the kernel's or the user's; the journal's trouble comes second.
            # Of a run that was over, somebody asks already, and closes the engine meanwhile.
            if self._end is None:
                with contextlib.suppress(*REFUSALS, EngineClosedError):
                    self._settle(SETTLE_LOOKS_MAX_ON_ERROR)
            raise
        try:
            view = self._settle(SETTLE_LOOKS_MAX) if self._end is None else self._end.result()
        except (*REFUSALS, EngineClosedError) as error:
            raise JournalRefusedError(str(error)) from error
        if desk.suspended_until is not None:
            raise RunSuspendedError(_suspended(run_id, desk.suspended_until))
        is_as_told = desk.ends_early and view is not None and view.status == "paused"
        if not client.has_failed and view is not None and not view.succeeded and not is_as_told:
            raise JournalRefusedError(f"Run {run_id} did not end: {view.headline}")

    def _begin(self, desk: Desk, last: InvocationView | None) -> None:
        """Load the code for this run and let it go; others have their kernels elsewhere."""
        client = self._client
        client.wait(
            client.register(
                workflow_of(desk),
                keyed=True,
                digest=DIGEST,
                origin="papermill",
                keys=(desk.run_id,),
            )
        )
        if last is not None:
            self._invocation_id = last.id
            if client.wait(client.invocation(last.id)).status in ("paused", "suspended"):
                client.wait(client.resume(last.id))
            return
        request = self._request()
        sent = client.wait(client.generic_send(SERVICE, HANDLER, request, key=desk.run_id))
        self._invocation_id = sent.invocation_id

    def _request(self) -> bytes:
        """What the journal keeps of this call, for whoever goes on with it after a long wait."""
        papermill = self._manager.nb.metadata.papermill
        paths = [papermill.get("input_path"), papermill.get("output_path")]
        said = dict(papermill)
        home = self._engine.path.parent
        notebook, output = (
            _placed(path, home) if isinstance(path, str) and is_local(path) else None
            for path in paths
        )
        if notebook is not None:
            # Also where nobody else can go on with it, it is found by its notebook.
            said["input_path"] = notebook
        if notebook is not None and output is not None:
            said["nbdurable"] = {
                "notebook": notebook,
                "output": output,
                "folder": str(Path.cwd()),
                "kernel": self._kernel_client.kernel_name,
            }
        return json.dumps(said, default=repr).encode()

    def _let_end(self) -> None:
        """Close the journal while the kernel ends, which takes longer and needs none of it."""
        self._end = self._beside.submit(self._settle_and_close)

    def _settle_and_close(self) -> InvocationView | None:
        try:
            return self._settle(SETTLE_LOOKS_MAX)
        finally:
            self._engine.close()

    def _is_running(self) -> bool:
        view = self._client.wait(self._client.invocation(self._invocation_id))
        # Ready is between two attempts: the engine has moved, and the next one begins.
        return view.status in ("ready", "running")

    def _settle(self, looks_max: int) -> InvocationView | None:
        """The run as the journal has it, once nothing of this call goes on."""
        if not self._invocation_id:
            return None
        client = self._client
        for _ in range(looks_max):
            view = client.wait(client.invocation(self._invocation_id))
            if view.status != "running" or self._is_taken_over(view):
                return view
            time.sleep(SETTLE_LOOK_S)
        client.wait(client.pause(self._invocation_id))
        return client.wait(client.invocation(self._invocation_id))

    def _is_taken_over(self, view: InvocationView) -> bool:
        """Whether it was resumed or woken since: then it is another process's to go on with."""
        ours = None if self._desk is None else self._desk.last_attempt
        return ours is not None and view.attempt > ours

    def _steps_of(self, run: InvocationView) -> list[KnownStep]:
        steps = self._client.wait(self._client.keyed_steps(run.id))
        return [KnownStep(*step) for step in steps]

    def _runs(self) -> list[InvocationView]:
        views = self._client.wait(self._client.invocations())
        return [view for view in views if view.service == SERVICE]


def _suspended(run_id: str, until: str) -> str:
    typed = TERMINAL.typed(f"Notebook/{run_id}")
    answer = f"; `nbdurable approve {typed}` does" if "answers" in until else ""
    return f"Run {run_id} is suspended until {until}{answer}. The same command goes on from there."


def _tell_secret(secrets: Secrets, asked: Asked) -> bool:
    """What the environment says, to the kernel; from here on it is known here as well."""
    if asked.ask["ask"] != "secret":
        return False
    name = str(asked.ask["name"])
    try:
        value = secret_of(name, os.environ)
    except LookupError as error:
        asked.answer(error=str(error.args[0]))
    else:
        secrets.know(name, value)
        asked.answer(value=value)
    return True


def span_of(
    nb: NotebookNode,
    cells: Sequence[Cell],
    from_cell: str | int | None,
    until_cell: str | int | None,
    only_cell: str | int | None,
) -> Span:
    """What a call was told to run."""
    if only_cell is not None and (from_cell is not None or until_cell is not None):
        raise CellNotFoundError("only one cell, or from one cell, or until one: say which")
    first, last = (
        None if named is None else position_of(str(named), nb.cells, cells)
        for named in ((from_cell, until_cell) if only_cell is None else (only_cell, only_cell))
    )
    if first is not None and last is not None and last < first:
        raise CellNotFoundError(f"cell {until_cell} comes before cell {from_cell}")
    return Span(first, last)


def run_id_of(nb: NotebookNode, home: Path) -> str:
    """The stem of the notebook and a digest of notebook, parameters and output path.

    Paths count from the folder that holds the journal, so that a project can be moved.
    """
    meta = nb.metadata.papermill
    source, target = meta.get("input_path"), meta.get("output_path")
    parts = [_place(source, home), _place(target, home), meta.get("parameters", {})]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode())
    stem = PurePath(source).stem if isinstance(source, str) and source != "-" else ""
    return f"{stem or 'notebook'}-{digest.hexdigest()[:DIGEST_CHARS]}"


def _client_options(options: dict[str, object], kernel_name: str) -> dict[str, object]:
    """Papermill's words for what nbclient is told, as its own engine translates them."""
    ours = ("input_path", "timeout", "startup_timeout", "start_timeout", "execution_timeout")
    rest = {name: value for name, value in options.items() if name not in ours}
    return {
        **rest,
        "timeout": options.get("execution_timeout") or options.get("timeout"),
        "startup_timeout": options.get("start_timeout", START_TIMEOUT_S),
        "kernel_name": kernel_name,
        "log": logger,
    }


def _place(path: object, home: Path) -> str:
    if not isinstance(path, str):
        return ""
    if not is_local(path):
        return path
    return os.path.relpath(launch_folder() / path, home)


def _placed(path: str, home: Path) -> str:
    """A path as whoever stands in the project's folder writes it."""
    place = Path(os.path.normpath((launch_folder() / path).absolute()))
    # As it is written first: a link within the project may lead to a file elsewhere.
    for there, folder in ((place, home), (place.resolve(), home.resolve())):
        if there.is_relative_to(folder):
            return str(there.relative_to(folder))
    return str(place)


def _ordinal(base_id: str, key: str | None) -> int:
    """Which run of this name: 1 for the name itself, 2 for `.2`; 0 for another run."""
    match = re.fullmatch(rf"{re.escape(base_id)}(?:\.(\d+))?", key or "")
    return 0 if match is None else int(match[1] or 1)
