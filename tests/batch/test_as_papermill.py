"""Where nothing dies, a notebook run by this engine is what papermill makes of it."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from support.command import nbdurable as command
from support.projects import KERNEL, Project, side, statuses, texts

# What differs from run to run, whoever runs it.
TIMES = {"start_time", "end_time", "duration"}
ENGINES = (None, "nbdurable")
# A kernel that is no Python: it says what it is told, backwards.
ECHO = """
from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

class Echo(Kernel):
    implementation = implementation_version = banner = "echo"
    language_info = {"name": "echo", "mimetype": "text/plain", "file_extension": ".txt"}

    async def do_execute(self, code, silent, *args, **kwargs):
        if not silent:
            content = {"name": "stdout", "text": code[::-1]}
            self.send_response(self.iopub_socket, "stream", content)
            if "die" in code and not __import__("os").path.exists("go"):
                __import__("os")._exit(1)
        return {"status": "ok", "execution_count": self.execution_count,
                "payload": [], "user_expressions": {}}

IPKernelApp.launch_instance(kernel_class=Echo)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBDURABLE_HOME", raising=False)
    return Project(tmp_path)


def metadata_of(notebook, output: str) -> dict[str, object]:
    """Papermill's of the notebook and of each cell, without times."""

    def timeless(meta):
        return {name: value for name, value in meta.items() if name not in TIMES}

    whole = timeless(notebook.metadata.papermill)
    assert whole.pop("output_path") == output
    rest = {
        name: value for name, value in notebook.metadata.items() if name[:2] not in ("pa", "nb")
    }
    cells = [(cell.metadata.tags, timeless(cell.metadata.papermill)) for cell in notebook.cells]
    return {"notebook": whole, "rest": rest, "cells": cells}


def shown(notebook) -> list[object]:
    return [(c.source, c.get("outputs"), c.get("execution_count")) for c in notebook.cells]


def test_outputs_and_metadata_are_papermills(project):
    """Streams, results, displays, prose, what is skipped, parameters."""
    project.write(
        "#! A report",
        ("x = 1", "parameters"),
        "import sys\nprint('out', x); print('err', file=sys.stderr); x",
        "from IPython.display import HTML, display\ndisplay(HTML('<b>b</b>')); _",
        ("print('hidden')", "remove-output"),
        ("raise SystemError('never')", "skip-execution"),
        "",
    )
    made = {}
    for engine, output in zip(ENGINES, ("plain.ipynb", "ours.ipynb"), strict=True):
        done = project.run(output, engine=engine, parameters={"x": 5})
        assert done == project.output(output)
        made[engine] = shown(done), metadata_of(done, output)
    assert made[None] == made["nbdurable"]


def test_a_failure_leaves_papermills_marker_and_the_rest_pending(project):
    """The cell that papermill puts on top of a notebook that failed, and its link."""
    project.write("x = 1", "1 / 0", "x")
    tops = []
    for engine in ENGINES:
        with pytest.raises(PapermillExecutionError):
            project.run(engine=engine)
        tops.append([cell.source for cell in project.output().cells])
    assert tops[0] == tops[1]
    assert len(tops[0]) == 5


def test_what_is_logged_is_what_papermill_logs(project, caplog):
    """`--log-output`: lines as they come, and where each cell begins and ends."""
    caplog.set_level(logging.INFO, logger="papermill")
    project.write("print('one')", "import sys; print('two', file=sys.stderr)\n3")
    logged = []
    for engine in ENGINES:
        caplog.clear()
        project.run(engine=engine, log_output=True)
        lines = [r.getMessage() for r in caplog.records if r.name == "papermill"]
        logged.append([line for line in lines if not line.startswith("Durable run")])
    assert logged[0] == logged[1]
    assert any("one" in line for line in logged[0])


def test_cells_run_where_cwd_says_and_the_journal_is_where_papermill_was_started(project):
    """And so are paths of notebooks."""
    (project.folder / "data").mkdir()
    project.write("import os\nprint(os.path.basename(os.getcwd()))")
    for engine in ENGINES:
        assert project.run(engine=engine, cwd="data").cells[0].outputs[0].text == "data\n"
    assert (project.folder / ".nbdurable").is_dir()
    assert not (project.folder / "data" / ".nbdurable").exists()


def test_cells_after_one_that_may_fail_run_and_papermill_says_so_at_the_end(project):
    """That is what papermill makes of `raises-exception`; nothing is paused by it."""
    project.write(("1 / 0", "raises-exception"), side("b") + "\n2")
    said, made = [], []
    for engine in ENGINES:
        with pytest.raises(PapermillExecutionError) as failed:
            project.run(engine=engine)
        said.append(str(failed.value))
        made.append(shown(project.output()))
    assert (said[0], made[0]) == (said[1], made[1])
    assert project.ran() == ["b", "b"]
    [(run, _)] = project.runs()
    assert run.succeeded


def test_a_cell_that_may_fail_is_restored_with_its_failure(project):
    """It has finished, and what it showed is part of the report."""
    project.write(
        (side("a") + "\n1 / 0", "raises-exception"),
        "import os\nif not os.path.exists('go'): os.kill(os.getpid(), 9)",
    )
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    with pytest.raises(PapermillExecutionError, match="ZeroDivisionError"):
        project.run()
    assert project.ran() == ["a"]
    code = [cell for cell in project.output().cells if cell.cell_type == "code"]
    assert [cell.metadata.nbdurable.restored for cell in code] == [True, False]
    assert code[0].outputs[0].ename == "ZeroDivisionError"


def test_a_kernel_that_is_no_python_is_journaled_and_says_what_it_does_not_keep(project, caplog):
    """Outputs are recorded; variables cannot be, so its cells run again from the start."""
    caplog.set_level(logging.INFO, logger="papermill")
    kernel = project.folder / "jupyter" / "kernels" / "echo"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-c", ECHO, "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Echo", "language": "echo"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(project.folder / "jupyter"))
        project.write("abc", "die", "xyz", kernel={**KERNEL, "name": "echo", "language": "echo"})
        with pytest.raises(Exception, match=r"[Kk]ernel died"):
            project.run(go=False)
        assert "the kernel is not Python: its variables are not kept" in caplog.text
        done = project.run()
    assert [texts(cell) for cell in done.cells] == [["cba"], ["eid"], ["zyx"]]
    assert statuses(done) == ["completed"] * 3
    assert "finished, but run again: cell 1 (the kernel is not Python)" in caplog.text


def test_a_remote_notebook_without_an_output_is_refused(project):
    """Where its output would go is no folder of this machine; and pipes are never found again."""
    for words in (("s3://bucket/in.ipynb",), ("https://example.org/in.ipynb",)):
        refused = command("run", *words)
        assert refused.exit_code == 2
        assert "say where its output goes" in refused.stderr
    assert list(Path().iterdir()) == []
