"""`papermill --engine nbdurable`, with real kernels.

What ran is counted in a side file, because a notebook's word for it is what is being tested.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import papermill
import pytest
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from support.projects import KERNEL, Project, restored, side, statuses, texts

import nbdurable
from nbdurable.batch.client import DurableClient
from nbdurable.batch.execution import JournalRefusedError
from nbdurable.batch.manager import TrueManager
from nbdurable.wiring import DurableEngine

KILL_UNLESS_GO = "if not os.path.exists('go'): os.kill(os.getpid(), 9)"
WAIT_S_MAX = 60


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBDURABLE_HOME", raising=False)
    return Project(tmp_path)


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="papermill")
    return caplog


def test_finished_cells_do_not_run_again_after_the_kernel_was_killed(project, said):
    """The promise: what was finished is put back, and what it defined is there."""
    project.write(
        "#! A report",
        ("amount = 1", "parameters"),
        side("load") + "\nrows = list(range(amount))\nprint('loaded', len(rows))\nrows",
        side("show") + "\nfrom IPython.display import HTML, display\n"
        "display(HTML('<b>bold</b>'))\ntotal = lambda: sum(rows) + amount\n40 + 2",
        side("slow") + f"\n{KILL_UNLESS_GO}\nprint(total(), len(rows))",
        "#! The end",
        side("last") + "\ntotal()",
    )
    with pytest.raises(DeadKernelError):
        project.run(go=False, parameters={"amount": 4})
    killed = project.output()
    assert project.ran() == ["load", "show", "slow"]
    assert statuses(killed) == [*["completed"] * 5, "failed", "pending", "pending"]
    assert killed.metadata.papermill.exception is True
    assert killed.cells[5].metadata.papermill.exception is True
    assert killed.cells[7].metadata.papermill.start_time is None

    done = project.run(parameters={"amount": 4})
    assert project.ran() == ["slow", "last"]
    assert "4 of 6 cells restored, not run" in said.text
    assert restored(done) == [None, True, True, True, True, False, None, False]
    assert statuses(done) == ["completed"] * 8
    assert done.metadata.papermill.exception is None
    assert [cell.get("execution_count") for cell in done.cells] == [None, 1, 2, 3, 4, 5, None, 6]
    assert [texts(cell) for cell in done.cells[3:5]] == [
        ["loaded 4\n", "[0, 1, 2, 3]"],
        ["<IPython.core.display.HTML object>", "42"],
    ]
    assert done.cells[4].outputs[0].data["text/html"] == "<b>bold</b>"
    assert [texts(done.cells[index]) for index in (5, 7)] == [["10 4\n"], ["10"]]
    assert done.cells[3].outputs == killed.cells[3].outputs
    assert project.output() == done

    [(run, entries)] = project.runs()
    steps = [(entry.name.split(":")[0], entry.status) for entry in entries if entry.kind == "Run"]
    assert run.target == f"Notebook/{done.metadata.nbdurable.run_id}/run"
    assert steps == [
        *((f"cell {number}", "done") for number in (2, 3, 4, 5)),
        *(("cell 6", "failed"), ("cell 6", "done"), ("cell 8", "done")),
    ]
    assert oct((project.folder / ".nbdurable" / "checkpoints").stat().st_mode)[-3:] == "700"


def test_plain_papermill_calls_completed_what_never_ran(project):
    """Why the statuses are ours: the day this fails, papermill has learnt to tell the truth."""
    project.write("import os", KILL_UNLESS_GO, "1 + 1")
    with pytest.raises(DeadKernelError):
        project.run(go=False, engine=None)
    assert statuses(project.output()) == ["completed", "completed", "completed"]
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    assert statuses(project.output()) == ["completed", "failed", "pending"]


def test_the_notebook_is_not_disturbed_by_its_checkpoints(project):
    """`_`, `Out`, counts and names are what they are without them."""
    project.write(
        "40 + 2",
        "_ + 1, sorted(Out), sorted(name for name in globals() if 'nbdurable' in name)",
        "__, In[-1]",
    )
    plain = project.run("plain.ipynb", engine=None)
    ours = project.run()
    assert [cell.outputs for cell in ours.cells] == [cell.outputs for cell in plain.cells]
    assert [c.execution_count for c in ours.cells] == [c.execution_count for c in plain.cells]


def test_a_failure_looks_as_in_plain_papermill_and_the_fixed_notebook_goes_on(project, said):
    """The same exception, outputs and markers; then only the cell that was wrong."""
    cells = [side("a") + "\nx = 5", side("b") + "\nx / 0", side("c") + "\nx"]
    project.write(*cells)
    errors = []
    for engine, output in ((None, "plain.ipynb"), ("nbdurable", "out.ipynb")):
        with pytest.raises(PapermillExecutionError) as error:
            project.run(output, engine=engine)
        errors.append(error.value)
    assert str(errors[0]) == str(errors[1])
    plain, ours = project.output("plain.ipynb"), project.output()
    assert [cell.source for cell in ours.cells] == [cell.source for cell in plain.cells]
    assert [cell.get("outputs") for cell in ours.cells] == [c.get("outputs") for c in plain.cells]
    code = [cell for cell in ours.cells if cell.cell_type == "code"]
    assert [c.metadata.papermill.status for c in code] == ["completed", "failed", "pending"]
    assert project.ran() == ["a", "b", "a", "b"]
    [(run, _)] = project.runs()
    assert (run.status, run.failure) == ("paused", "cell 2: ZeroDivisionError: division by zero")

    # As it is, it fails again, and again without the first cell.
    with pytest.raises(PapermillExecutionError):
        project.run()
    assert project.ran() == ["b"]
    project.write(cells[0], side("b") + "\nx / 5", cells[2])
    done = project.run()
    assert project.ran() == ["b", "c"]
    assert (texts(done.cells[1]), texts(done.cells[2])) == (["1.0"], ["5"])
    assert "1 of 3 cells restored, not run; cell 2 was edited" in said.text


def test_editing_a_finished_cell_runs_from_there(project):
    """And taking the edit back runs from there too: files may be those of the edited one."""
    first = [side("a") + "\nx = 1", side("b") + "\ny = x + 1", side("c") + f"\n{KILL_UNLESS_GO}"]
    edited = [first[0], side("B") + "\ny = x + 10", first[2]]
    for cells, expected in ((first, ["a", "b", "c"]), (edited, ["B", "c"]), (first, ["b", "c"])):
        project.write(*cells, "y")
        with pytest.raises(DeadKernelError):
            project.run(go=False)
        assert project.ran() == expected
    done = project.run()
    assert (project.ran(), texts(done.cells[3])) == (["c"], ["2"])


def test_setup_cells_run_again_and_what_cannot_be_saved_is_a_tombstone(project, said):
    """A setup cell sees what it saw first, and does not undo what came after it."""
    project.write(
        "path = 'a.db'",
        (side("setup") + "\nimport sqlite3\ndb = sqlite3.connect(path)\nrows = []", "setup"),
        side("fill") + "\nrows.append(7)\ncursor = db.cursor()\npath = 'b.db'",
        side("kill") + f"\n{KILL_UNLESS_GO}",
        "db.execute('select 1').fetchone(), rows, path, os.path.exists('a.db')",
        "cursor.execute('select 1')",
    )
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    assert project.ran() == ["setup", "fill", "kill"]
    with pytest.raises(PapermillExecutionError, match="LostVariableError") as error:
        project.run()
    assert "cursor (sqlite3.Cursor, from cell 3) could not be saved" in error.value.evalue
    assert project.ran() == ["setup", "kill"]
    code = [cell for cell in project.output().cells if cell.cell_type == "code"]
    assert texts(code[4]) == ["((1,), [7], 'b.db', True)"]
    assert [cell.get("execution_count") for cell in code] == [1, 2, 3, 4, 5, 6]
    assert restored(project.output())[1:4] != [None] * 3
    assert "2 of 6 cells restored, not run; 1 setup cell runs again" in said.text
    assert "Not restored: cursor" in said.text


def test_a_run_that_is_over_begins_anew(project, said):
    """As plain papermill would, and it says so."""
    project.write(side("a") + "\n1")
    first, second = project.run(), project.run()
    assert project.ran() == ["a", "a"]
    run_id = first.metadata.nbdurable.run_id
    assert second.metadata.nbdurable.run_id == f"{run_id}.2"
    assert f"Run {run_id} is over; this is a new one: {run_id}.2" in said.text
    assert restored(second) == [False]


def test_parameters_and_output_tell_runs_apart_and_run_id_names_one(project):
    """Another day's report is another run; unfinished ones wait for their own command."""
    project.write(("day = 0", "parameters"), "import os", f"{KILL_UNLESS_GO}\nday")
    for day in (1, 2):
        with pytest.raises(DeadKernelError):
            project.run(f"{day}.ipynb", go=False, parameters={"day": day})
    done = project.run("1.ipynb", parameters={"day": 1})
    assert (restored(done), texts(done.cells[3])) == ([True, True, True, False], ["1"])
    named = project.run("3.ipynb", run_id="monday")
    assert (named.metadata.nbdurable.run_id, restored(named)) == ("monday", [False] * 3)
    by_key = {run.key: run.status for run, _ in project.runs()}
    assert sorted(by_key.values()) == ["completed", "completed", "paused"]
    assert by_key["monday"] == "completed"


def test_missing_notebooks_and_unknown_kernels_fail_as_in_plain_papermill(project):
    """And leave no run behind."""
    project.write("1")
    for engine in (None, "nbdurable"):
        with pytest.raises(FileNotFoundError, match="missing"):
            papermill.execute_notebook("missing.ipynb", "out.ipynb", engine_name=engine)
        with pytest.raises(NoSuchKernel, match="cobol"):
            project.run(engine=engine, kernel_name="cobol")
        with pytest.raises(FileNotFoundError, match="nowhere"):
            project.run("nowhere/out.ipynb", engine=engine)
    assert statuses(project.output()) == ["pending"]
    assert project.runs() == []


def test_an_unknown_parameter_is_a_warning_as_in_plain_papermill(project, said):
    """The notebook gets it all the same."""
    project.write(("known = 1", "parameters"), "known, unknown")
    warned = []
    for engine in (None, "nbdurable"):
        done = project.run(engine=engine, parameters={"unknown": 2})
        assert texts(done.cells[-1]) == ["(1, 2)"]
        warned.append([r.getMessage() for r in said.records if r.levelno == logging.WARNING])
        said.clear()
    assert warned[0] == warned[1] == ["Passed unknown parameter: unknown"]


def test_a_checkpoint_that_fails_costs_no_result(project, said):
    """The cell is done; only, a later kernel has to begin before it."""
    project.write(
        side("a") + "\nx = 1",
        side("b") + "\nimport nbdurable.batch.checkpoint as c\n"
        "def full(*a, **k): raise OSError(28, 'No space left on device')\nc.save = full",
        side("c"),
        side("d") + f"\n{KILL_UNLESS_GO}\nx",
    )
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    killed = project.output()
    assert statuses(killed) == [*["completed"] * 3, "failed"]
    assert "No space left" in killed.cells[2].metadata.nbdurable.no_checkpoint
    assert project.ran() == ["a", "b", "c", "d"]
    done = project.run()
    assert (project.ran(), texts(done.cells[3])) == (["b", "c", "d"], ["1"])
    assert (
        "1 of 4 cells restored, not run; finished, but run again: cells 2 to 3 (OSErr" in said.text
    )


def test_a_value_that_kills_the_kernel_when_saved_does_not_kill_the_notebook(project):
    """It loses its kernel twice; then checkpoints are left alone from there on."""
    project.write(
        side("a") + "\nx = 1",
        side("b")
        + "\nimport os\nclass Deadly:\n    def __reduce__(self): os.kill(os.getpid(), 9)\n"
        "deadly = Deadly()",
        side("c") + "\nx",
    )
    for expected in (["a", "b"], ["b"]):
        with pytest.raises(DeadKernelError):
            project.run()
        assert statuses(project.output()) == ["completed", "completed", "failed"]
        assert project.ran() == expected
    done = project.run()
    assert (project.ran(), texts(done.cells[2])) == (["b", "c"], ["1"])


def test_a_damaged_checkpoint_is_planned_around(project, said):
    """The one before it serves, and the user hears why."""
    project.write(
        side("a") + "\nx = 'first'",
        # Longer than what the record of a cell takes.
        side("b") + "\ny = 'second' * 2000",
        side("c") + f"\n{KILL_UNLESS_GO}\nx + y[:6]",
    )
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    for blob in (project.folder / ".nbdurable" / "checkpoints").iterdir():
        if b"second" in blob.read_bytes():
            blob.unlink()
    project.ran()
    done = project.run()
    assert (project.ran(), texts(done.cells[2])) == (["b", "c"], ["'firstsecond'"])
    assert "1 of 3 cells restored, not run" in said.text
    assert "is missing" in said.text


def test_a_kernel_without_nbdurable_runs_from_the_start_and_says_why(project, said, monkeypatch):
    """No checkpoint, no restore; the cells are journaled all the same."""
    program = (
        "import sys; sys.modules['nbdurable'] = None\n"
        "from ipykernel.kernelapp import launch_new_instance as launch; launch()"
    )
    spec = {
        "argv": [
            *(sys.executable, "-c", program),
            *("-f", "{connection_file}"),
        ],
        "display_name": "Bare",
        "language": "python",
    }
    kernel = project.folder / "jupyter" / "kernels" / "bare"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(project.folder / "jupyter"))
    project.write(
        side("a"), side("b") + f"\n{KILL_UNLESS_GO}\n1", kernel={**KERNEL, "name": "bare"}
    )
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    assert statuses(project.output()) == ["completed", "failed"]
    done = project.run()
    assert (project.ran(), texts(done.cells[1])) == (["a", "b", "a", "b"], ["1"])
    assert "0 of 2 cells restored, not run; finished, but run again: cell 1" in said.text
    assert "nbdurable is not installed in the kernel's environment" in said.text


def test_sys_exit_ends_a_notebook_on_purpose(project):
    """Papermill calls that a success; so the run is over, not paused."""
    project.write(side("a"), "import sys; sys.exit(0)", side("b"))
    plain, ours = project.run("plain.ipynb", engine=None), project.run()
    assert statuses(ours) == statuses(plain) == ["completed", "failed", "pending"]
    assert [run.headline for run, _ in project.runs()] == ["succeeded"]


def test_widgets_of_restored_cells_are_shown_again(project):
    """Their state is in the notebook's metadata, which a new kernel knows nothing of."""
    project.write("from ipywidgets import IntSlider\nIntSlider(4)", "import os", KILL_UNLESS_GO)
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    done = project.run()
    [shown] = done.cells[0].outputs
    model_id = shown.data["application/vnd.jupyter.widget-view+json"].model_id
    states = done.metadata.widgets["application/vnd.jupyter.widget-state+json"].state
    assert (restored(done), states[model_id].state["value"]) == ([True, True, False], 4)


def test_a_time_limit_is_a_failure_and_the_run_can_go_on(project):
    """Papermill's own option and exception.

    The first cell is there from a run before: it must not be the one that takes too long.
    """
    project.write("import os, time, signal", KILL_UNLESS_GO, "1")
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    project.write("import os, time, signal", "if not os.path.exists('went'): time.sleep(60)", "1")
    with pytest.raises(TimeoutError):
        project.run(execution_timeout=1)
    assert statuses(project.output()) == ["completed", "failed", "pending"]
    (project.folder / "went").touch()
    assert restored(project.run(execution_timeout=30)) == [True, False, False]


def test_a_run_joins_whoever_has_the_journal(project):
    """A notebook of the same project is open in JupyterLab."""
    project.write("x = 20", "x * 2")
    with nbdurable.open_sync(project.folder / ".nbdurable") as kernel:
        done = project.run()
        assert statuses(done) == ["completed"] * 2
        assert texts(done.cells[1]) == ["40"]
        [run] = kernel.client.invocations()
        assert (run.service, run.status, run.succeeded) == ("Notebook", "completed", True)


def test_a_journal_that_cannot_be_joined_is_refused_in_one_sentence(project, monkeypatch):
    """The output notebook is not touched, and there is no traceback of ours."""
    monkeypatch.setattr("nbdurable.sharing.joined.JOIN_S_MAX", 0.1)
    project.write("1")
    (project.folder / "out.ipynb").write_text("mine")
    owner = DurableEngine(project.folder / ".nbdurable")
    owner.start()
    try:
        with pytest.raises(JournalRefusedError, match=str(os.getpid())):
            project.run()
        command = project.command("--engine", "nbdurable")
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        owner.close()
    assert refused.returncode == 1
    assert (refused.stderr.count("Error: "), "Traceback" in refused.stderr) == (1, False)
    assert str(os.getpid()) in refused.stderr
    assert (project.folder / "out.ipynb").read_text() == "mine"


def test_papermill_starts_with_the_engine_and_the_engine_without_papermill():
    """Papermill imports every engine whenever it is imported; ours costs nothing until used."""
    program = (
        "import nbdurable.batch.engine, sys\n"
        "light = not {'papermill', 'duckdb', 'nbdurable.wiring'} & set(sys.modules)\n"
        "import papermill.engines as e\n"
        "light = light and not {'duckdb', 'nbdurable.wiring'} & set(sys.modules)\n"
        "print(light, e.papermill_engines.get_engine('nbdurable').__name__)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["True", "NbdurableEngine"]


@contextlib.contextmanager
def papermill_in(project: Project, until_status: list[str]):
    """A papermill process whose output notebook has come to these statuses, and its kernel."""
    command = project.command("--engine", "nbdurable", "--no-progress-bar")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + WAIT_S_MAX
        while (
            not (project.folder / "out.ipynb").exists()
            or statuses(project.output()) != until_status
            or not (project.folder / "side").exists()
            or "slow" not in (project.folder / "side").read_text()
        ):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        yield process, project.output().metadata.nbdurable.kernel_pid


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


SLOW = (
    side("a") + "\nx = {'a': [1, 2]}\nx",
    "#! prose",
    side("slow") + "\nimport time\nif not os.path.exists('go'): time.sleep(120)\nx",
    side("b"),
)
SLOW_STATUS = ["completed", "completed", "running", "pending"]


@pytest.mark.kill
def test_finished_cells_do_not_run_again_after_papermill_was_killed(project, said):
    """Nothing was able to say goodbye; the notebook on disk is true all the same."""
    project.write(*SLOW)
    with papermill_in(project, SLOW_STATUS) as (process, kernel_pid):
        process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(kernel_pid, signal.SIGKILL)
    assert statuses(project.output()) == SLOW_STATUS
    assert project.ran() == ["a", "slow"]
    done = project.run()
    assert project.ran() == ["slow", "b"]
    assert (restored(done), statuses(done)) == ([True, None, False, False], ["completed"] * 4)
    assert [texts(done.cells[index]) for index in (0, 2)] == [["{'a': [1, 2]}"]] * 2
    assert "1 of 3 cells restored, not run" in said.text


@pytest.mark.kill
def test_two_runs_share_a_journal_and_neither_runs_the_others_cells(project):
    """Each has a kernel of its own; the one that owns the journal may end before the other."""
    project.write(*SLOW)
    with papermill_in(project, SLOW_STATUS) as (process, _):
        assert project.ran() == ["a", "slow"]
        with pytest.raises(JournalRefusedError, match="is being run by another papermill call"):
            project.run(go=False)
        other = project.run("other.ipynb")
        assert statuses(other) == ["completed"] * 4
        assert project.ran() == ["a", "slow", "b"]
        assert statuses(project.output()) == SLOW_STATUS
        process.send_signal(signal.SIGINT)
        process.communicate()
    done = project.run()
    assert restored(done) == [True, None, False, False]
    assert project.ran() == ["slow", "b"]


@pytest.mark.kill
def test_a_run_goes_on_when_the_owner_of_its_journal_ends(project):
    """Somebody restarts a kernel of the project; hours of a cell elsewhere must not be lost."""
    project.write(
        side("a") + "\nx = [1]",
        side("slow") + "\nimport time\nwhile not os.path.exists('go'): time.sleep(0.02)\nx += [2]",
        side("b") + "\nx",
    )
    with (
        nbdurable.open_sync(project.folder / ".nbdurable"),
        contextlib.ExitStack() as stack,
    ):
        status = ["completed", "running", "pending"]
        process, _ = stack.enter_context(papermill_in(project, status))
        papermill_goes_on = stack.pop_all()
    with papermill_goes_on:
        (project.folder / "go").touch()
        process.communicate()
    assert process.returncode == 0
    assert project.ran() == ["a", "slow", "b"]
    done = project.output()
    assert (statuses(done), restored(done)) == (["completed"] * 3, [False] * 3)
    assert texts(done.cells[2]) == ["[1, 2]"]
    assert [cell.execution_count for cell in done.cells] == [1, 2, 3]
    [(run, _)] = project.runs()
    assert (run.succeeded, run.attempt) == (True, 2)


@pytest.mark.kill
def test_interrupting_papermill_stops_the_kernel_and_leaves_a_run_to_resume(project):
    """Ctrl-C: the exit code is papermill's, the status is true, nothing lives on."""
    project.write(*SLOW)
    with papermill_in(project, SLOW_STATUS) as (process, kernel_pid):
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 1
    assert not is_alive(kernel_pid)
    assert statuses(project.output()) == ["completed", "completed", "failed", "pending"]
    [(run, _)] = project.runs()
    assert (run.status, run.failure) == ("paused", "cell 3: interrupted")
    project.ran()
    assert restored(project.run()) == [True, None, False, False]
    assert project.ran() == ["slow", "b"]


def test_the_journal_is_closed_while_the_kernel_ends(project):
    """Either takes its time, and neither needs the other."""
    project.write(
        "import atexit, fcntl\n"
        "def leave():\n"
        "    with open('.nbdurable/lock') as lock:\n"
        "        fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "        open('side', 'a').write('closed ')\n"
        "atexit.register(leave)"
    )
    project.run(shutdown_kernel="graceful")
    assert project.ran() == ["closed"]
    ((run, _),) = project.runs()
    assert run.succeeded


def test_an_interrupt_while_the_kernel_ends_is_what_papermill_says(project, monkeypatch):
    """The run is over by then, and its journal may be closed or not."""
    ended = DurableClient._cleanup_kernel

    def interrupted(client):
        ended(client)
        raise KeyboardInterrupt

    monkeypatch.setattr(DurableClient, "_cleanup_kernel", interrupted)
    project.write(side("a"))
    with pytest.raises(KeyboardInterrupt):
        project.run()
    ((run, _),) = project.runs()
    assert run.succeeded


def test_a_cell_begins_once_its_kernel_is_connected(project, monkeypatch):
    """Else connecting would be part of its times, and of its time limit."""
    connected, begun = project.folder / "connected", []
    connect, start = DurableClient._connect, TrueManager.cell_start

    def connect_slowly(client):
        # A kernel answers in order.
        busy = "__import__('time').sleep(0.5); open('connected', 'w').close()"
        client.kc.execute(busy, silent=True, store_history=False)
        connect(client)

    def noted(manager, *args, **options):
        begun.append(connected.exists())
        return start(manager, *args, **options)

    monkeypatch.setattr(DurableClient, "_connect", connect_slowly)
    monkeypatch.setattr(TrueManager, "cell_start", noted)
    project.write(side("cell"))
    project.run()
    assert (begun, project.ran()) == ([True], ["cell"])
