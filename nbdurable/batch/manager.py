"""The output notebook: papermill's manager, with statuses that are true and files that are whole.

papermill's own marks every cell that never ran as completed when a kernel dies. Here a cell is
completed once the journal has its record, failed if it did not end, and pending if it never began.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
from papermill.engines import NotebookExecutionManager
from papermill.iorw import LocalHandler, papermill_io
from papermill.log import logger

from nbdurable.batch.cells import CellRecord
from nbdurable.batch.notebook_text import text_of
from nbdurable.batch.secrets import Secrets

KEY = "nbdurable"


class TrueManager(NotebookExecutionManager):  # type: ignore[misc]  # papermill has no types.
    """Mutable: the notebook; owned by papermill's main thread."""

    # A word of ours beside papermill's: nothing of it went wrong.
    SUSPENDED = "suspended"
    failed = False
    # The call ends before the notebook does, and nothing went wrong.
    is_partial = False
    secrets: Secrets | None = None

    def save(self, **kwargs: object) -> None:
        """Write a whole file or none: a reader, or a kill, never meets half a notebook."""
        path = local_path(self.output_path)
        if path is None or not path.parent.is_dir():
            super().save(**kwargs)
            return
        # Without looking whether it is valid: papermill does so at the end, and this is written
        # for every cell.
        text = text_of(self.nb)
        write_whole(path, text if self.secrets is None else self.secrets.hide(text))
        self.last_save_time = self.now()

    def notebook_start(self, **kwargs: object) -> None:
        self.nb.metadata.pop(KEY, None)
        for cell in self.nb.cells:
            cell.metadata.pop(KEY, None)
        super().notebook_start(**kwargs)

    def note(self, **facts: object) -> None:
        """Say something of the run in the notebook's metadata."""
        self.nb.metadata[KEY] = node_of({**self.nb.metadata.get(KEY, {}), **facts})

    def cell_recorded(self, index: int, record: CellRecord, *, restored: bool) -> None:
        """The journal has it: outputs, times and status are those of the record."""
        cell = self.nb.cells[index]
        meta = cell.metadata.papermill
        if restored:
            cell.outputs = [node_of(output) for output in record.outputs]
            cell.execution_count = record.execution_count
            cell.metadata.execution = node_of(record.timing)
            meta.exception = False
        meta.start_time = _iso(record.started_at_ms)
        meta.end_time = _iso(record.ended_at_ms)
        meta.duration = (record.ended_at_ms - record.started_at_ms) / 1000
        if meta.status != self.FAILED:
            meta.status = self.COMPLETED
        cell.metadata[KEY] = _of(record, restored=restored)
        # Written with the next cell that begins, which is at once, or with the notebook's end.
        if not restored:
            self._log_end(index)
        if self.pbar:
            self.pbar.update(1)

    def cell_passed(self, index: int) -> None:
        """Markdown, and code that nothing runs."""
        self.cell_start(self.nb.cells[index], index)
        self.cell_complete(self.nb.cells[index], cell_index=index)

    def cell_failed(self, index: int) -> None:
        """It raised, or its kernel died, or somebody interrupted it."""
        cell = self.nb.cells[index]
        self.cell_exception(cell, cell_index=index)
        self.failed = True
        self.cell_complete(cell, cell_index=index)

    def cell_suspended(self, index: int, until: str) -> None:
        """It waits for long, and runs again from its top when that is over."""
        cell = self.nb.cells[index]
        cell.metadata.papermill["status"] = self.SUSPENDED
        cell.metadata.papermill["exception"] = False
        self.note(suspended_until=until)

    def notebook_complete(self, **kwargs: object) -> None:
        """Finish the notebook without touching the status of a cell that never ran."""
        self.end_time = self.now()
        meta = self.nb.metadata.papermill
        meta["end_time"] = self.end_time.isoformat()
        meta["duration"] = (self.end_time - self.start_time).total_seconds()
        for cell in self.nb.cells:
            if cell.metadata.papermill["status"] == self.RUNNING:
                self.cell_exception(cell)
        if self.failed:
            meta["exception"] = True
        elif not self.is_partial:
            self.complete_pbar()
        self.cleanup_pbar()
        self.save()

    def _log_end(self, index: int) -> None:
        if self.log_output:
            logger.info(f"Ending Cell {index + 1:-<43}")


def node_of(content: Mapping[str, Any]) -> nbformat.NotebookNode:
    node: nbformat.NotebookNode = nbformat.from_dict(content)  # type: ignore[no-untyped-call]  # As nbformat has it.
    return node


def local_path(path: str | None) -> Path | None:
    """The file behind an output path, if it is one; a link is followed, not replaced."""
    if not path or not is_local(path):
        return None
    return Path(os.path.realpath(launch_folder() / path))


def is_local(path: str) -> bool:
    return path != "-" and isinstance(papermill_io.get_handler(path), LocalHandler)


def was_suspended(output_path: str | None) -> bool:
    """Whether the notebook that is there says that its run waits; it may be over by now."""
    path = local_path(output_path)
    try:
        found = json.loads(b"{}" if path is None else path.read_bytes())
        return "suspended_until" in found["metadata"][KEY]
    except (OSError, ValueError, LookupError, TypeError):
        return False


def launch_folder() -> Path:
    """Where papermill was started: what its paths are relative to, whatever `--cwd` says."""
    handler = papermill_io.get_handler("local")
    # The one way to read it is to replace it.
    folder = handler.cwd(None)
    handler.cwd(folder)
    return Path(folder or Path.cwd())


def write_whole(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except PermissionError:
        # A folder in which no file can be made may still hold one that can be written.
        path.write_text(text, encoding="utf-8")


def _of(record: CellRecord, *, restored: bool) -> nbformat.NotebookNode:
    facts: dict[str, Any] = {"restored": restored, "attempt": record.attempt}
    if record.checkpoint is None:
        facts["no_checkpoint"] = record.no_checkpoint
    else:
        facts["checkpoint_ms"] = record.checkpoint_ms
        facts["checkpoint_bytes"] = record.checkpoint_bytes
    if record.tombstones:
        facts["tombstones"] = list(record.tombstones)
    return node_of(facts)


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
