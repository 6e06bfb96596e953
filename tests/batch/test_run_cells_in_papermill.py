"""`%%durable_run` and `%%durable_step` in a notebook that papermill runs as a durable run itself.

Their records are the notebook run's: another one, with other parameters, must not be given them.
"""

from __future__ import annotations

import pytest
from nbclient.exceptions import DeadKernelError
from support.projects import Project, restored, side

pytestmark = pytest.mark.slow

# Again in every kernel, as whatever a kernel has to have.
LOAD = ("%load_ext nbdurable\nimport os", "setup")
DAY = ("day = 1", "parameters")
RUN = """%%durable_run report
def load(what):
    open("side", "a").write(f"{what}{day} ")
    return what
first = await ctx.run_typed("first", load, what="first")
if not os.path.exists("go"):
    os.kill(os.getpid(), 9)
second = await ctx.run_typed("second", load, what="second")
f"{first} and {second} of day {day}"
"""
STEP = '%%durable_step fit --out model\nopen("side", "a").write(f"fit{day} ")\nmodel = day'


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBDURABLE_HOME", raising=False)
    return Project(tmp_path)


def test_a_kernel_that_is_killed_in_a_run_cell_repeats_no_step_of_it(project):
    """The notebook's run does the cell again, and the cell's run goes on."""
    project.write(LOAD, DAY, RUN)
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    done = project.run()
    assert project.ran() == ["first1", "second1"]
    assert done.cells[2].outputs[-1].data["text/plain"] == "'first and second of day 1'"


def test_a_kernel_that_goes_on_has_the_magics_of_the_one_before(project):
    """Whoever has loaded the extension once, in whatever cell, may use it in all cells behind."""
    project.write("%load_ext nbdurable", "import os", DAY, RUN)
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    done = project.run()
    assert project.ran() == ["first1", "second1"]
    assert restored(done)[:3] == [True, True, True]
    assert done.cells[3].outputs[-1].data["text/plain"] == "'first and second of day 1'"


def test_an_extension_that_is_gone_is_said_and_the_run_goes_on(project, caplog):
    """It may have been for a cell that has run."""
    (project.folder / "passing.py").write_text("def load_ipython_extension(shell): ...")
    dies = "if not os.path.exists('go'): os.kill(os.getpid(), 9)"
    project.write("%load_ext passing", side("two"), f"{dies}\n{side('three')}")
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    (project.folder / "passing.py").unlink()
    project.run()
    assert project.ran() == ["two", "three"]
    assert "The extension passing was not loaded: ModuleNotFoundError" in caplog.text


def test_other_parameters_get_results_of_their_own(project):
    """Nothing in the cell's text says that it reads `day`."""
    project.write(LOAD, DAY, RUN, STEP, "model, first")
    project.run("one.ipynb")
    assert project.ran() == ["first1", "second1", "fit1"]
    two = project.run("two.ipynb", parameters={"day": 2})
    assert project.ran() == ["first2", "second2", "fit2"]
    assert two.cells[-1].outputs[-1].data["text/plain"] == "(2, 'first')"


def test_a_key_is_the_authors_word_that_nothing_else_matters(project):
    """Yesterday's model may be today's."""
    project.write(LOAD, DAY, STEP.replace("fit", "fit --key v1", 1), "model")
    project.run("one.ipynb")
    two = project.run("two.ipynb", parameters={"day": 2})
    assert project.ran() == ["fit1"]
    assert two.cells[-1].outputs[-1].data["text/plain"] == "1"


def test_a_run_of_a_finished_notebook_begins_anew(project):
    """As papermill does; to keep a result is what `--key` is for."""
    project.write(LOAD, DAY, RUN, side("cell"))
    project.run()
    project.run()
    assert project.ran() == ["first1", "second1", "cell"] * 2
