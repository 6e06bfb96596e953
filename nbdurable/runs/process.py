"""The process of one run: `nbdurable run`, with the run's name, apart from whoever starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import msgspec

from nbdurable.runs.lock import folder_of
from nbdurable.runs.request import RunRequest, file_name, output_of

# Of a log that may be long, what says how it ended.
_TAIL_BYTES: Final = 8_000


def start(journal: Path, key: str, request: RunRequest, lock: int) -> subprocess.Popen[bytes]:
    """Start it apart; it writes its log beside its lock, which it inherits.

    It outlives whoever starts it, and finds the journal's owner by itself, or becomes it.
    """
    with log_of(journal, key).open("wb") as log, _given(request) as given:
        return subprocess.Popen(  # noqa: S603 - our own program, and no shell.
            command(key, request, is_sent=True),
            cwd=_ready(journal, key, request),
            env=_environment(journal),
            stdin=given,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            start_new_session=True,
        )


def run_here(
    journal: Path,
    key: str,
    request: RunRequest,
    *,
    is_sent: bool,
    from_cell: str | None,
    is_fresh: bool,
) -> int:
    """Run it before the eyes of whoever asks for it, and return its exit code."""
    with _given(request) as given:
        return subprocess.run(  # noqa: S603 - our own program, and no shell.
            command(
                key,
                request,
                is_sent=is_sent,
                from_cell=from_cell,
                is_fresh=is_fresh,
                shows_progress=True,
            ),
            cwd=_ready(journal, key, request),
            env=_environment(journal),
            stdin=given,
            check=False,
        ).returncode


def command(
    key: str,
    request: RunRequest,
    *,
    is_sent: bool,
    from_cell: str | None = None,
    is_fresh: bool = False,
    shows_progress: bool = False,
) -> list[str]:
    words = ["--given", f"--run-id={key}", f"--cwd={request.folder}"]
    if is_sent:
        words.append("--sent")
    if request.kernel:
        words.append(f"--kernel={request.kernel}")
    if from_cell is not None:
        words.append(f"--from={from_cell}")
    if is_fresh:
        words.append("--fresh")
    words.append("--progress-bar" if shows_progress else "--no-progress-bar")
    paths = [request.notebook, output_of(request, key)]
    return [sys.executable, "-m", "nbdurable", "run", *words, "--", *paths]


@contextmanager
def _given(request: RunRequest) -> Iterator[IO[bytes]]:
    """Parameters, not among the arguments, which everybody on this machine can read."""
    with tempfile.TemporaryFile() as given:
        given.write(msgspec.json.encode(request.parameters))
        given.seek(0)
        yield given


def _ready(journal: Path, key: str, request: RunRequest) -> Path:
    """The folder that paths count from, once there is one for the output."""
    project = journal.parent
    (project / output_of(request, key)).parent.mkdir(parents=True, exist_ok=True)
    return project


def _environment(journal: Path) -> dict[str, str]:
    return {**os.environ, "NBDURABLE_HOME": str(journal)}


def log_of(journal: Path, key: str) -> Path:
    return folder_of(journal) / f"{file_name(key)}.log"


def tail_of(journal: Path, key: str) -> str:
    """What the process said last."""
    try:
        said = log_of(journal, key).read_bytes()
    except FileNotFoundError:
        return ""
    return said[-_TAIL_BYTES:].decode(errors="replace").strip()
