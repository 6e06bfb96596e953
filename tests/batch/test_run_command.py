"""`nbdurable run`: what is wrong is found before a kernel starts, and the same command goes on."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from support.command import nbdurable

from nbdurable.batch.command import NotebookRefusedError, check, parameters_of
from nbdurable.batch.preflight import parameter_faults, reads_as_here, syntax_faults, tag_faults

KERNEL = {"name": "python3", "language": "python", "display_name": "Python 3"}
QUIET = ("--no-progress-bar", "--log-level", "ERROR")


def write(folder: Path, *cells: str | tuple[str, ...]) -> str:
    """A notebook of sources, each with its tags behind it."""
    nodes = []
    for cell in cells:
        source, *tags = (cell,) if isinstance(cell, str) else cell
        nodes.append(nbformat.v4.new_code_cell(source, metadata={"tags": tags}))
    meta = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=nodes, metadata=meta), folder / "in.ipynb")
    return "in.ipynb"


def code(source: str, *tags: str) -> dict[str, object]:
    return {"cell_type": "code", "source": source, "metadata": {"tags": list(tags)}}


def ran(folder: Path) -> list[str]:
    side = folder / "side"
    return side.read_text().split() if side.exists() else []


def mark(text: str) -> str:
    return f"open('side', 'a').write('{text} ')"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBDURABLE_HOME", raising=False)
    return tmp_path


def test_a_syntax_error_in_the_last_cell_is_found_before_the_first_runs(folder):
    """A run of a day must not end at a bracket."""
    write(folder, mark("a"), "x = 1", "y = (")
    refused = nbdurable("run", "in.ipynb", *QUIET)
    assert refused.exit_code == 2
    assert "cell 3, line 1: '(' was never closed" in refused.stderr
    assert not ran(folder)
    assert not (folder / "in-out.ipynb").exists()


def test_a_notebook_that_is_well_is_looked_at_without_a_word(folder, caplog):
    """Papermill says which one it opens; said twice, it looks like two."""
    caplog.set_level("INFO", "papermill")
    check(write(folder, mark("a")), {}, None, None)
    assert caplog.messages == []


@pytest.mark.parametrize(
    "words",
    [
        ("run", "in.ipynb", *QUIET),
        ("sweep", "in.ipynb", "-v", "rate", "1"),
        ("schedule", "add", "nightly", "in.ipynb", "@daily"),
    ],
)
def test_no_command_builds_a_grammar_that_no_notebook_needs(folder, words):
    """It is two thirds of the time in which papermill is imported."""
    assert find_spec("rfc3987_syntax"), "JupyterLab brings it no more: nothing need be left out"
    write(folder, "y = (")
    command = [sys.executable, "-X", "importtime", "-m", "nbdurable", *words]
    looked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "was never closed" in looked.stderr
    assert "jsonschema._format" in looked.stderr
    assert "rfc3987_syntax.syntax_helpers" not in looked.stderr


def test_a_notebook_that_is_not_there_is_said_with_the_nearest_that_is(folder):
    write(folder, "1")
    refused = nbdurable("run", "im.ipynb", *QUIET)
    assert refused.exit_code == 2
    assert "there is no notebook im.ipynb; did you mean 'in.ipynb'?" in refused.stderr
    (folder / "notes.ipynb").write_text("remember the milk")
    assert "notes.ipynb is no notebook" in nbdurable("run", "notes.ipynb", *QUIET).stderr
    (folder / "old.ipynb").mkdir()
    assert "is a folder; name a notebook in it" in nbdurable("run", "old.ipynb", *QUIET).stderr


def test_a_kernel_that_is_not_there_is_said_with_those_that_are(folder):
    write(folder, "1")
    refused = nbdurable("run", "in.ipynb", "--kernel", "julia", *QUIET)
    assert refused.exit_code == 2
    assert "there is no kernel 'julia'; choose one with --kernel (here are: " in refused.stderr
    assert "python3" in refused.stderr


def test_a_notebook_that_names_no_kernel_runs_with_the_one_given(folder):
    """Programs that write notebooks often leave it out."""
    notebook = nbformat.read(write(folder, "x = 1", ("y = 2", "parameters"), "x + y"), 4)
    notebook.metadata = {}
    nbformat.write(notebook, "in.ipynb")
    refused = nbdurable("run", "in.ipynb", *QUIET)
    assert refused.exit_code == 2
    assert "in.ipynb names no kernel; say which with --kernel" in refused.stderr
    assert (
        nbdurable("run", "in.ipynb", "--kernel", "python3", "-p", "y", "5", *QUIET).exit_code == 0
    )
    assert nbformat.read("in-out.ipynb", 4).cells[-1].outputs[0].data["text/plain"] == "6"


def test_magics_awaits_and_cells_that_may_fail_are_no_faults():
    """What IPython runs is not to be refused for not being plain Python."""
    cells = [
        code("%matplotlib inline\n!ls\nx = !ls"),
        code("%%bash\nfor f in *; do echo $f; done"),
        code("await something()"),
        code("len?"),
        code("this is no python", "raises-exception"),
        code("neither is this", "skip-execution"),
    ]
    assert syntax_faults(cells, "in.ipynb") == []
    assert syntax_faults([*cells, code("a b")], "in.ipynb") == [
        "cell 7, line 1: invalid syntax: a b"
    ]


def test_a_kernel_of_another_python_is_not_judged_by_this_one():
    assert not reads_as_here(["/usr/bin/python2"], "python")
    assert not reads_as_here([], "python")
    assert not reads_as_here(["python"], "R")
    assert reads_as_here(["python", "-m", "ipykernel_launcher"], "python")


def test_parameters_are_compared_with_those_of_the_notebook(folder):
    """Papermill warns and goes on with a name that nothing reads."""
    source = "trees: int = 4\nrate: float = 0.5\nname = 'a'\nlabel: str = 'b'\nflag: bool = True"
    notebook = write(folder, (source, "parameters"))
    right = {"trees": 5, "rate": 1, "name": 7, "label": "c", "flag": False}
    check(notebook, right, None, None)
    wrong = {"tree": 5, "trees": "many", "label": 5, "flag": 1, "rate": True}
    with pytest.raises(NotebookRefusedError) as refused:
        check(notebook, wrong, None, None)
    for sentence in (
        "the notebook has no parameter 'tree'; did you mean 'trees'?",
        "parameter 'trees' is int, and 'many' is str",
        "parameter 'label' is str, and 5 is int",
        "parameter 'flag' is bool, and 1 is int",
        "parameter 'rate' is float, and True is bool",
    ):
        assert sentence in str(refused.value)


def test_a_notebook_without_a_parameters_cell_takes_any():
    """Papermill puts them on top of it, and there is nothing to compare them with."""
    assert parameter_faults([], {"anything": 1}) == []


def test_a_tag_that_wants_a_number_gets_one():
    cells = [code("1", "retries=3", "timeout=60"), code("2", "retries=often"), code("3", "team=a")]
    assert tag_faults(cells) == [
        "cell 2: the tag 'retries=often' wants a whole number, as in retries=3"
    ]


def test_parameters_win_in_papermills_order(folder):
    """base64, files, YAML, -p, -r: the later one wins, and -p guesses the type."""
    (folder / "given.yaml").write_text("a: 2\nb: 2\nc: 2\nd: 2\n")
    flags = {
        "inject_input_path": False,
        "inject_output_path": False,
        "inject_paths": True,
        "parameters_base64": ("YTogMQplOiAx",),  # a: 1, e: 1.
        "parameters_file": ("given.yaml",),
        "parameters_yaml": ("{b: 3, c: 3, d: 3, day: 2026-11-22}",),
        "parameters": (("c", "4"), ("d", "4")),
        "parameters_raw": (("d", "5"),),
    }
    assert parameters_of("in.ipynb", "out.ipynb", flags) == {
        "PAPERMILL_INPUT_PATH": "in.ipynb",
        "PAPERMILL_OUTPUT_PATH": "out.ipynb",
        "a": 2,
        "b": 3,
        "c": 4,
        "d": "5",
        "e": 1,
        "day": "2026-11-22",
    }


def test_the_same_command_goes_on_where_a_cell_failed(folder):
    """The whole of it, with a real kernel: parameters, the default output, a name, a resume."""
    write(
        folder,
        ("day: str = ''", "parameters"),
        mark("first"),
        "import os; assert os.path.exists('go'), 'not yet'",
        mark("last") + "; print(day)",
    )
    command = ("run", "in.ipynb", "-r", "day", "5", "--run-id", "nightly", *QUIET)
    failed = nbdurable(*command)
    assert failed.exit_code == 1
    assert "not yet" in failed.stderr
    assert "The same command goes on from it (in-out.ipynb)" in failed.stderr
    (folder / "go").touch()
    done = nbdurable(*command)
    assert (done.exit_code, ran(folder)) == (0, ["first", "last"])
    written = nbformat.read(folder / "in-out.ipynb", as_version=4)
    assert written.cells[-1].outputs[0].text == "5\n"
    assert written.metadata.nbdurable.run_id == "nightly"


def test_a_cell_that_raises_runs_again_as_often_as_its_tag_says(folder):
    """One record, one output: that of the time it went well."""
    flaky = mark("try") + "\nn = len(open('side').read().split())\nassert n > 2, n\nprint(n)"
    write(folder, (flaky, "retries=3"), (mark("bad") + "\nraise ValueError('no')", "retries=1"))
    assert nbdurable("run", "in.ipynb", *QUIET).exit_code == 1
    assert ran(folder) == ["try", "try", "try", "bad", "bad"]
    cells = nbformat.read(folder / "in-out.ipynb", as_version=4).cells
    outputs = [
        out
        for cell in cells
        if "retries=3" in cell.metadata.get("tags", [])
        for out in cell.outputs
    ]
    assert [out.text for out in outputs if out.output_type == "stream"] == ["3\n"]


def test_a_cell_takes_no_longer_than_its_tag_says(folder):
    """The tag is for one cell; the others take what papermill was told."""
    write(folder, "import time; time.sleep(1.5)", ("time.sleep(60)", "timeout=1"))
    late = nbdurable("run", "in.ipynb", *QUIET)
    assert late.exit_code == 1
    assert "timed out" in late.stderr
    cells = nbformat.read(folder / "in-out.ipynb", as_version=4).cells
    assert [cell.metadata.papermill.status for cell in cells] == ["completed", "failed"]


def test_pipes_are_refused_with_the_reason(folder):
    refused = nbdurable("run", "-", *QUIET)
    assert refused.exit_code == 2
    assert "give files, not pipes" in refused.stderr


def test_a_run_can_end_early_go_on_and_run_cells_again(folder):
    """Also when it is over: what lies before is taken from the run that was."""
    write(
        folder,
        mark("a") + "; n = [1]",
        (mark("b") + "; n.append(len(n) + 1); print(n)", "grow"),
        mark("c") + "; print(sum(n))",
    )
    command = ("run", "in.ipynb", *QUIET)

    def outcome(*words):
        done = nbdurable(*command, *words)
        notebook = nbformat.read(folder / "in-out.ipynb", as_version=4)
        status = [cell.metadata.papermill.status for cell in notebook.cells]
        texts = [cell.outputs[0].text for cell in notebook.cells if cell.outputs]
        marks = ran(folder)
        (folder / "side").unlink(missing_ok=True)
        return done.exit_code, marks, status, texts

    done, pending = "completed", "pending"
    early = (0, ["a", "b"], [done, done, pending], ["[1, 2]\n"])
    assert outcome("--until", "grow") == early
    assert outcome("--until", "2") == (0, [], *early[2:])
    assert outcome("--only", "2") == (0, ["b"], *early[2:])
    assert outcome("--from", "3") == (0, ["c"], [done] * 3, ["[1, 2]\n", "3\n"])
    # The run is over by now.
    assert outcome("--from", "grow") == (0, ["b", "c"], [done] * 3, ["[1, 2]\n", "3\n"])
    assert outcome("--only", "3") == (0, ["c"], [done] * 3, ["[1, 2]\n", "3\n"])


def test_cells_that_cannot_be_named_or_run_alone_are_refused(folder):
    """Before a kernel starts, and with what to do."""
    write(folder, "a = 1", "b = 2")
    for words, why in (
        (("--from", "9"), "no cell has the number, id or tag '9'"),
        (("--only", "2"), "cell 1 before it has not finished"),
        (("--only", "2", "--from", "1"), "say which"),
        (("--from", "2", "--until", "1"), "cell 1 comes before cell 2"),
    ):
        refused = nbdurable("run", "in.ipynb", *QUIET, *words)
        assert (refused.exit_code, why in refused.stderr) == (2, True), refused.stderr
        assert "Traceback" not in refused.stderr
    assert not (folder / "in-out.ipynb").exists()
