"""The Jupyter server's extension: what it does for a click, and for whom it does nothing."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import nbdurable
from nbdurable import TerminalError, Workflow, WorkflowContext
from nbdurable.client.answers import at
from nbdurable.jupyter import Command, command, is_ours
from nbdurable.wiring import this_person

TOKEN = "a-token-of-this-test"  # noqa: S105 - of a server that lives as long as the test.
BASE = "/user/ada/"
WHO = "ada (Jupyter)"
BY = f"--by={WHO}"
START_S_MAX = 60

pay = Workflow("Pay")


@pay.main()
async def run(ctx: WorkflowContext, amount: int) -> str:
    return f"{amount} is {await ctx.promise('approved').value()}"


def a_journal(folder: Path) -> str:
    """A run that waits, in a journal that no process has open; the run's id."""
    with nbdurable.open_sync(services=[pay], path=folder / ".nbdurable") as engine:
        client = engine.opened.client
        sent = client.wait(client.workflow_send(run, "a", 100))
        while not client.wait(client.invocation(sent.invocation_id)).open_promises:
            time.sleep(0.01)
    return sent.invocation_id


class Server(NamedTuple):
    port: int
    root: Path

    def post(self, body: Any, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", f"{BASE}nbdurable/do", json.dumps(body), named)
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        try:
            return reply.status, json.loads(text)
        except ValueError:
            return reply.status, text


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As a hub starts one: below a base URL, with a token."""
    own, root = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("root")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {
        "port": port,
        "ip": "127.0.0.1",
        "base_url": BASE,
        "root_dir": root,
        "allow_root": True,
        "open_browser": False,
    }
    words = [f"--ServerApp.{name}={value}" for name, value in options.items()]
    env = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        "JUPYTER_TOKEN": TOKEN,
    }
    env.pop("NBDURABLE_HOME", None)
    with (own / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", *words],
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_it_answers(port)
        yield Server(port, root)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_it_answers(port: int) -> None:
    deadline = time.monotonic() + START_S_MAX
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "the server never answered"
            time.sleep(0.1)
        else:
            return


def approval(run_id: str, journal: Path) -> dict[str, Any]:
    return {
        "type": "answer",
        "id": "approved",
        "value": True,
        "comment": "because it is cheap",
        "run": run_id,
        "journal": str(journal),
    }


@pytest.mark.slow
def test_an_approval_reaches_a_journal_that_nobody_has_open(server: Server, tmp_path: Path) -> None:
    folder = server.root / "project"
    run_id = a_journal(folder)
    click = approval(run_id, folder / ".nbdurable")
    granted = {"authorization": f"token {TOKEN}"}

    # Who is nobody, and who is known by a cookie only and shows no XSRF token, is refused.
    assert server.post(click)[0] == 403
    assert server.post(click, authorization="token wrong")[0] == 403
    assert server.post(click, cookie="username-127-0-0-1=ada")[0] == 403

    status, told = server.post(click, **granted)
    assert (status, told) == (200, {"said": "approved 'approved' of Pay/a"})
    # It is answered once, and whoever clicks again is told.
    status, told = server.post(click, **granted)
    assert status == 409
    assert "answered once" in told["said"]

    with nbdurable.open_sync(services=[pay], path=folder / ".nbdurable") as engine:
        client = engine.opened.client
        assert client.wait(client.attach(run_id)) == "100 is True"
        answered = client.wait(client.journal(run_id))[1].answered
        assert answered is not None
        assert answered.by == at(this_person(), "Jupyter"), "a token is nobody's name"
        assert answered.comment == "because it is cheap"

    # Whatever is typed into a page is no failure of the server's.
    for typed in ("\0", "\ud800", "x" * 300_000):
        awkward = {**click, "type": "reject", "message": typed}
        assert server.post(awkward, **granted)[0] == 409
        assert server.post({**click, "value": typed}, **granted)[0] == 409

    # A journal elsewhere is none of this server's.
    elsewhere = approval(a_journal(tmp_path), tmp_path / ".nbdurable")
    assert server.post(elsewhere, **granted)[0] == 400
    assert server.post(["no", "object"], **granted)[0] == 400


@pytest.mark.slow
def test_an_owner_in_another_process_is_asked(server: Server) -> None:
    """Its kernel may be computing: the answer goes to its engine, which is not."""
    folder = server.root / "owned"
    run_id = a_journal(folder)
    owner = nbdurable.open_sync(services=[pay], path=folder / ".nbdurable")
    with owner as engine, nbdurable.serve(engine.opened):
        rejected = {**approval(run_id, folder / ".nbdurable"), "type": "reject"}
        status, told = server.post(
            {**rejected, "message": "too much"}, authorization=f"token {TOKEN}"
        )
        assert (status, told) == (200, {"said": "rejected 'approved' of Pay/a"})
        client = engine.opened.client
        with pytest.raises(TerminalError, match="too much"):
            client.wait(client.attach(run_id))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    (tmp_path / "project" / ".nbdurable").mkdir(parents=True)
    (tmp_path / "project" / ".nbdurable" / "format.json").write_text("{}")
    return tmp_path / "project" / ".nbdurable"


def test_each_click_is_one_command(journal: Path, tmp_path: Path) -> None:
    """What a person typed is on no command line: other people of the machine can read those."""
    where = {"run": "inv_1abc", "journal": str(journal)}
    of = ["--journal", str(journal), "--", "inv_1abc"]
    reject = {**where, "type": "reject", "id": "p"}
    answer = {**where, "type": "answer", "id": "p", "value": {"n": 1}, "comment": "so be it"}
    assert command(answer, tmp_path, WHO) == Command(
        ["approve", "--value", "-", BY, *of, "p"], '{"n": 1}', "so be it"
    )
    assert command({**reject, "message": "--no"}, tmp_path, WHO) == Command(
        ["reject", "--message", "-", BY, *of, "p"], "--no"
    )
    assert command({**reject, "message": ""}, tmp_path, WHO) == Command(["reject", BY, *of, "p"])
    asked = {"pause": [], "resume": [], "restart": [], "cancel": ["--yes"], "kill": ["--yes"]}
    for name, words in asked.items():
        click = {**where, "type": "deed", "name": name}
        assert command(click, tmp_path, WHO) == Command([name, *words, *of])
    anew = {**where, "type": "deed", "name": "restart", "from_entry": 7}
    assert command(anew, tmp_path, WHO) == Command(["restart", "--from-entry=7", *of])


@pytest.mark.parametrize(
    "changed",
    [
        {"run": "--help"},
        {"run": "inv_1 --yes"},
        {"run": None},
        {"journal": "project/.nbdurable"},
        {"journal": "/etc"},
        {"journal": 7},
        {"type": "deed", "name": "purge"},
        {"type": "answer", "id": 1},
        {"type": "reject", "id": "p\0", "message": "no"},
        {"type": "reject", "id": "p" * 5_000, "message": "no"},
        {"type": "answer", "id": "\ud800", "value": 1},
        {"type": "answer", "id": "p", "value": 1, "comment": "\ud800"},
        {"type": "answer", "id": "p", "value": 1, "comment": "no\0"},
        {"type": "answer", "id": "p", "value": 1, "comment": 7},
        {"journal": "/\0"},
        {"type": "up"},
    ],
)
def test_what_no_click_says_is_no_command(
    journal: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    said = {"type": "deed", "name": "kill", "run": "inv_1abc", "journal": str(journal)}
    assert command(said, tmp_path, WHO) is not None
    assert command({**said, **changed}, tmp_path, WHO) is None


def test_a_link_out_of_the_servers_folder_leads_nowhere(journal: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / ".nbdurable").symlink_to(journal)
    assert not is_ours(root / ".nbdurable", root)
    assert not is_ours(root / ".." / "project" / ".nbdurable", root)
    assert is_ours(journal, tmp_path)


def test_the_journal_that_everybody_shares_is_ours(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setenv("NBDURABLE_HOME", str(journal))
    assert is_ours(journal, root)
