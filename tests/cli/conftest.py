"""A project with services, and `up`, which is a real process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.command import END_S_MAX, FLOWS, Up, until_served
from support.flows import SERVICES, add, ask, fail, greet, nap, run

import nbdurable
from nbdurable.client.sync import SyncClient
from nbdurable.client.views import InvocationView


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, and the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBDURABLE_HOME", raising=False)
    return tmp_path


@pytest.fixture
def start_up(folder: Path) -> Iterator[Callable[..., Up]]:
    """Start `nbdurable up` with `flows.py` on free ports; killed at the end of the test."""
    running: list[subprocess.Popen[str]] = []

    def start(*words: str) -> Up:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "nbdurable", "up", "--json"),
                *("--app", str(FLOWS), "--ingress", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
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


@pytest.fixture(scope="session")
def journal_of_lives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed journal with a run of each kind; see `lived`."""
    path = tmp_path_factory.mktemp("lives") / ".nbdurable"
    with nbdurable.open_sync(path, services=SERVICES) as engine:
        client = engine.client
        client.service_call(greet, "Ada")
        with pytest.raises(nbdurable.TerminalError):
            client.service_call(fail, "no tea")
        client.object_call(add, "ada", 1)
        client.object_call(add, "ada", 2)
        sent = [
            client.service_send(nap, 3),
            client.workflow_send(run, "order-1", 100),
            client.service_send(ask, None),
        ]
        for one in sent:
            until_it_waits(client, one.invocation_id)
    return path


@pytest.fixture
def lived(folder: Path, journal_of_lives: Path) -> Path:
    """A journal that nobody has open: of each kind of run one, the oldest first.

    greet (succeeded), fail, Counter/ada (two calls), nap, Payment/order-1, ask.
    """
    shutil.copytree(journal_of_lives, folder / ".nbdurable")
    return folder


@pytest.fixture(params=["as its owner", "by its owner"])
def reached(lived: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The same journal, that nobody has open, and that somebody has who has none of the code."""
    if request.param == "as its owner":
        yield lived
        return
    with nbdurable.open_sync():
        until_served(lived / ".nbdurable")
        yield lived


def until_it_waits(client: SyncClient, invocation_id: str) -> None:
    """Looked at whenever it changes."""
    waits = threading.Event()

    def look(view: InvocationView, _: object) -> None:
        if view.open_promises or view.open_awakeables or view.is_asleep:
            waits.set()

    end = client.watch(invocation_id, look)
    assert waits.wait(END_S_MAX)
    end()
