"""The process of one run: `nbdurable run`, with the run's name, apart from whoever starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from nbdurable.runs.lock import folder_of
from nbdurable.runs.request import RunRequest, file_name, output_of

# Of a log that may be long, what says how it ended.
_TAIL_BYTES: Final = 8_000


def start(journal: Path, key: str, request: RunRequest, lock: int) -> subprocess.Popen[bytes]:
    """Start it in the project's folder; it writes its log beside its lock, which it inherits.

    It outlives whoever starts it, and finds the journal's owner by itself, or becomes it.
    """
    project = journal.parent
    output = output_of(request, key)
    (project / output).parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "NBDURABLE_HOME": str(journal)}
    with log_of(journal, key).open("wb") as log, tempfile.TemporaryFile() as said:
        # Not among the arguments, which everybody on this machine can read.
        said.write(msgspec.json.encode(request.parameters))
        said.seek(0)
        return subprocess.Popen(  # noqa: S603 - our own program, and no shell.
            command(key, request),
            cwd=project,
            env=environment,
            stdin=said,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            start_new_session=True,
        )


def command(key: str, request: RunRequest) -> list[str]:
    kernel = [f"--kernel={request.kernel}"] if request.kernel else []
    return [
        *(sys.executable, "-m", "nbdurable", "run", "--sent", f"--run-id={key}", *kernel),
        *("--no-progress-bar", f"--cwd={request.folder}"),
        *("--", request.notebook, output_of(request, key)),
    ]


def log_of(journal: Path, key: str) -> Path:
    return folder_of(journal) / f"{file_name(key)}.log"


def tail_of(journal: Path, key: str) -> str:
    """What the process said last."""
    try:
        said = log_of(journal, key).read_bytes()
    except FileNotFoundError:
        return ""
    return said[-_TAIL_BYTES:].decode(errors="replace").strip()
