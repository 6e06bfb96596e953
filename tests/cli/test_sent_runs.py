"""Notebook runs over HTTP: each in a process of its own, with a true end, whoever dies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.command import Up, nbdurable, until_served
from support.http import ask
from support.notebooks import mark, marks, write

from nbdurable.batch.workflow import DIGEST, Desk, workflow_of
from nbdurable.invoker.manifest import manifest_of
from nbdurable.runs import lock
from nbdurable.runs.request import manifest_of_notebooks
from nbdurable.runs.voice import saying

# Long for a kernel that starts on a machine under load; only a test that fails waits for it.
WAIT_S_MAX = 90


def until(holds: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_S_MAX
    while not (found := holds()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def status(key: str) -> str:
    """As `nbdurable show` has it."""
    found = nbdurable("show", f"Notebook/{key}", "--json")
    assert found.exit_code == 0, found.stderr
    return str(json.loads(found.stdout)["invocation"]["status"])


def until_status(key: str, expected: str) -> None:
    until(lambda: status(key) == expected, f"{key} does not become {expected}")


@pytest.fixture
def up(folder: Path, start_up: Callable[..., Up]) -> Up:
    return start_up("--no-token")


def send(up: Up, key: str, request: dict[str, Any]) -> str:
    reply = up.post(f"/Notebook/{key}/run/send", json.dumps(request))
    assert reply.status == 202, reply.body
    return json.loads(reply.body)["invocationId"]


def test_a_run_that_is_sent_has_its_process_and_its_output(folder, up):
    write(folder, ("day = 'none'; rate = 0.0", "parameters"), mark("a"), "day, rate")
    parameters = {"day": "2026-11-22", "rate": 1e-05}
    send(up, "2026-11-22", {"notebook": "report.ipynb", "parameters": parameters})
    until_status("2026-11-22", "completed")
    assert marks(folder) == ["a"]
    out = nbformat.read(folder / "report-runs" / "2026-11-22.ipynb", as_version=4)
    assert out.cells[-1].outputs[0].data["text/plain"] == "('2026-11-22', 1e-05)"
    reply = ask(up.said["ingress"], "GET", "/restate/workflow/Notebook/2026-11-22/output")
    assert (reply.status, reply.json["cells"]) == (200, 4)


def test_calling_one_waits_for_the_process_that_it_will_have(folder, up):
    """Until then it is in no process, and whoever has the journal is about to start one."""
    write(folder, mark("a"))
    called = nbdurable("call", "Notebook/k/run", '{"notebook": "report.ipynb"}')
    assert called.exit_code == 0, called.stderr
    assert json.loads(called.stdout)["cells"] == 1
    attached = nbdurable("attach", "Notebook/k")
    assert (attached.exit_code, attached.stdout) == (0, called.stdout)


def test_what_a_run_has_left_goes_when_it_is_forgotten(folder, up):
    write(folder, mark("a"))
    assert nbdurable("call", "Notebook/k/run", '{"notebook": "report.ipynb"}').exit_code == 0
    left = folder / ".nbdurable" / "runs"
    assert {path.name for path in left.iterdir()} == {"k.lock", "k.log"}

    def is_gone() -> bool:
        # Its process ends a moment after its run does.
        nbdurable("gc", "--older-than", "0s", "--yes")
        return not list(left.iterdir())

    until(is_gone, "its lock and its log stay")


def test_a_cell_that_fails_pauses_the_run_and_resumed_it_goes_on_in_another_process(folder, up):
    """The notebook is corrected meanwhile; what was finished does not run again."""
    write(folder, mark("a"), "1 / 0")
    send(up, "k", {"notebook": "report.ipynb"})
    until_status("k", "paused")
    write(folder, mark("a"), mark("b"))
    assert nbdurable("resume", "Notebook/k").exit_code == 0
    until_status("k", "completed")
    assert marks(folder) == ["a", "b"]


@pytest.mark.kill
def test_a_killed_process_is_replaced_and_goes_on_after_the_last_cell(folder, up):
    kill = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"
    write(
        folder, mark("a"), f"if not os.path.exists('go'):\n    open('go', 'w'); {kill}", mark("c")
    )
    cells = nbformat.read(folder / "report.ipynb", as_version=4)
    cells.cells.insert(0, nbformat.v4.new_code_cell("import os, signal"))
    nbformat.write(cells, folder / "report.ipynb")
    send(up, "k", {"notebook": "report.ipynb"})
    until_status("k", "completed")
    assert marks(folder) == ["a", "c"]


@pytest.mark.kill
def test_the_run_survives_the_death_of_its_owner(folder, up, start_up):
    """Its process takes the journal over, and is the only one at it whoever comes next."""
    wait = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.05)"
    write(folder, mark("a"), wait, mark("c"))
    send(up, "k", {"notebook": "report.ipynb"})
    until(lambda: marks(folder), "it does not begin")
    up.process.kill()
    up.process.wait()
    until_served(folder / ".nbdurable")
    (folder / "go").touch()
    until_status("k", "completed")
    assert marks(folder) == ["a", "c"]


def test_an_approval_is_answered_when_no_process_of_the_run_is_alive(folder, up):
    """The kernel ends at the question, and whoever has the journal starts another at the answer."""
    ask_first = "from nbdurable import durable\nyes = await durable.approval('publish')"
    write(folder, mark("a"), ask_first, mark("c"), "yes")
    send(up, "k", {"notebook": "report.ipynb"})
    until_status("k", "suspended")
    held = until(lambda: lock.take(folder / ".nbdurable", "k"), "its process does not end")
    lock.let_go(held)
    assert nbdurable("approve", "Notebook/k", "publish").exit_code == 0
    until_status("k", "completed")
    assert marks(folder) == ["a", "c"]
    out = nbformat.read(folder / "report-runs" / "k.ipynb", as_version=4)
    assert out.cells[-1].outputs[0].data["text/plain"] == "True"


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"notebook": "nowhere.ipynb"}, "there is no notebook nowhere.ipynb"),
        ({"notebook": "../report.ipynb"}, "is outside of"),
        ({"notebook": "/etc/passwd"}, "is outside of"),
        ({"notebook": "flows.py"}, "is no notebook"),
        ({"notebook": "report.ipynb", "output": "../x.ipynb"}, "is outside of"),
        ({"notebook": "report.ipynb", "parameters": {"dya": 1}}, "did you mean 'day'?"),
        ({"notebok": "report.ipynb"}, "no notebook run can be made of this input"),
    ],
)
def test_what_cannot_be_run_fails_and_says_why(folder, up, request_, says):
    write(folder, ("day = 1", "parameters"), mark("a"))
    send(up, "k", request_)
    until_status("k", "completed")
    reply = ask(up.said["ingress"], "GET", "/restate/workflow/Notebook/k/output")
    assert (reply.status, says in reply.message) == (400, True), reply.body
    assert marks(folder) == []


def test_a_key_that_looks_like_a_later_run_of_another_is_one_of_its_own(folder, up):
    """`papermill` calls the second run of `1` `1.2`; who sends a sweep over 1 and 1.2 does not."""
    write(folder, ("x = 0", "parameters"), mark("ran"), "open('side', 'a').write(f'{x} ')")
    for key in ("1.2", "1"):
        send(up, key, {"notebook": "report.ipynb", "parameters": {"x": float(key)}})
        until_status(key, "completed")
    assert marks(folder) == ["ran", "1.2", "ran", "1.0"]


@pytest.fixture
def broken_kernel(folder, monkeypatch):
    spec = folder / "jupyter" / "kernels" / "broken" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text('{"argv": ["false"], "display_name": "Broken", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    return "broken"


def test_a_notebook_that_never_starts_pauses_its_run_after_a_few_tries(folder, broken_kernel, up):
    write(folder, mark("a"))
    send(up, "k", {"notebook": "report.ipynb", "kernel": broken_kernel})
    until_status("k", "paused")
    shown = nbdurable("show", "Notebook/k").stdout
    assert "its process ended 3 times before a cell did" in shown
    assert "Kernel died" in shown


def test_a_kernel_that_is_not_there_fails_its_run_with_those_that_are(folder, up):
    """Another try would find it as little."""
    write(folder, mark("a"))
    send(up, "k", {"notebook": "report.ipynb", "kernel": "no-such-kernel"})
    until_status("k", "completed")
    assert "there is no kernel 'no-such-kernel'" in nbdurable("show", "Notebook/k").stdout


def test_papermill_and_whoever_starts_runs_mean_the_same_workflow():
    """Else each of them would register a revision that the other replaces."""
    ours = manifest_of_notebooks(saying(None))
    theirs = manifest_of(workflow_of(Desk("k", [])), digest=DIGEST, origin="papermill", keyed=True)
    assert ours == theirs
