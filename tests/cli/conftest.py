"""A project with services, and `up`, which is a real process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.command import FLOWS, Up


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with `flows.py`, and the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBDURABLE_HOME", raising=False)
    (tmp_path / "flows.py").write_text(FLOWS)
    return tmp_path


@pytest.fixture
def start_up(folder: Path) -> Iterator[Callable[..., Up]]:
    """Start `nbdurable up --app flows.py` on free ports; killed at the end of the test."""
    running: list[subprocess.Popen[str]] = []

    def start(*words: str) -> Up:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "nbdurable", "up", "--json"),
                *("--app", "flows.py", "--ingress", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
                *words,
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        return Up(process, json.loads(line))

    yield start
    for process in running:
        process.kill()
        process.communicate()
