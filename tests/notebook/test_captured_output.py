"""Output of handlers while cells capture theirs: each cell has what its own runs put out.

A journal has all of it, whoever captures what.
"""

import contextlib
import io
import sys

import pytest

TALK = """%%durable_workflow Talk
import sys
from IPython.display import display

async def run(ctx, request):
    print("began")
    await ctx.promise("go")
    def step():
        print("in a step")
        print("an error", file=sys.stderr)
        display({"text/plain": "a picture"}, raw=True)
    await ctx.run_typed("step", step)
"""
LOUD = ["| began", "| in a step", "| an error", "| a picture"]


@pytest.fixture
def talk(shell):
    """Runs that say something, wait, and say more; cells run with streams that are the kernel's."""
    shell.run(TALK)
    return Cells(shell)


class Cells:
    def __init__(self, shell):
        self.shell = shell

    def run(self, source):
        """What the cell shows by itself."""
        shown = io.StringIO()
        kept = sys.stdout
        sys.stdout = shown
        try:
            ran = self.shell.ip.run_cell(source)
        finally:
            sys.stdout = kept
        ran.raise_error()
        return shown.getvalue()

    def names(self):
        return self.shell.ip.user_ns

    def journaled(self):
        shown = repr(self.shell.run("%durable show a").journal)
        return [line.strip() for line in shown.splitlines() if line.strip().startswith("|")]


BEGIN = """h = Talk["a"].run(None)
import time
while "GetPromise" not in str(h.journal): time.sleep(0.01)
"""
FINISH = "%durable approve a go\nh.result()"


def test_a_cell_that_captures_has_what_its_own_run_puts_out(talk):
    shown = talk.run(f"%%capture got\n{BEGIN}")
    got = talk.names()["got"]
    assert (got.stdout, shown) == ("began\n", "")
    assert "in a step" not in talk.run(FINISH)
    # Also what it puts out when the cell is over.
    assert got.stdout == "began\nin a step\n"
    assert got.stderr == "an error\n"
    assert [one.data for one in got.outputs] == [{"text/plain": "a picture"}]
    assert talk.journaled() == LOUD


@pytest.mark.parametrize(
    "captures",
    [
        "%%capture got\n{}",
        "from IPython.utils.capture import capture_output\nwith capture_output() as got:\n    {}",
    ],
)
def test_a_cell_that_captures_has_nothing_of_the_runs_of_others(talk, captures):
    talk.run(BEGIN)
    finish = "get_ipython().run_line_magic('durable', 'approve a go'); h.result(); print('mine')"
    talk.run(captures.format(finish))
    got = talk.names()["got"]
    assert (got.stdout, got.stderr) == ("mine\n", "")
    assert [one.data for one in got.outputs if "a picture" in str(one.data)] == []
    assert talk.journaled() == LOUD


def test_a_cell_that_redirects_has_what_its_own_run_puts_out(talk):
    redirected = "\n".join(f"    {line}" for line in BEGIN.splitlines())
    shown = talk.run(
        f"import contextlib, io\nf = io.StringIO()\nwith contextlib.redirect_stdout(f):\n"
        f"{redirected}\nprint('shown')"
    )
    assert (talk.names()["f"].getvalue(), shown) == ("began\n", "shown\n")
    talk.run(FINISH)
    # A shell without a page prints what is displayed.
    assert talk.names()["f"].getvalue() == "began\nin a step\na picture\n"
    assert talk.journaled() == LOUD


def test_a_cell_that_redirects_has_nothing_of_the_runs_of_others(talk):
    began = talk.run(BEGIN)
    talk.run(
        "import contextlib, io\nf = io.StringIO()\nwith contextlib.redirect_stdout(f):\n"
        "    get_ipython().run_line_magic('durable', 'approve a go'); h.result(); print('mine')"
    )
    assert (began, talk.names()["f"].getvalue()) == ("began\n", "mine\n")
    assert talk.journaled() == LOUD


def test_a_file_that_was_captured_into_is_closed_and_the_run_goes_on(talk, tmp_path):
    redirected = "\n".join(f"    {line}" for line in BEGIN.splitlines())
    talk.run(
        "import contextlib\nwith open('log', 'w') as f, contextlib.redirect_stdout(f):\n"
        f"{redirected}"
    )
    talk.run(FINISH)
    assert (tmp_path / "log").read_text() == "began\n"
    assert talk.journaled() == LOUD


def test_a_bar_is_not_parted_from_its_first_state_by_what_the_cell_shows(talk):
    """The journal of the run itself, mostly, which a cell shows when the bar has just begun."""
    talk.shell.run("import threading\ngo = threading.Event()")
    talk.shell.run(
        "%%durable_service Slow\nasync def work(ctx):\n"
        "    def step():\n        print('\\r  0%', end='')\n        go.wait()\n"
        "        print('\\r 50%', end='')\n        print('\\r100%')\n"
        "    await ctx.run_typed('step', step)"
    )
    shown = talk.run(
        "h = Slow.work()\nimport time\nwhile '0%' not in str(h.journal): time.sleep(0.01)\n"
        "print('shown')\ngo.set()\nh.result()"
    )
    assert shown == "shown\n\r  0%\r 50%\r100%\n"


def test_a_step_that_redirects_has_its_output_to_itself(shell):
    shell.run(
        "%%durable_service Quiet\nimport contextlib, io\nasync def read(ctx):\n"
        "    def step():\n        with contextlib.redirect_stdout(io.StringIO()) as f:\n"
        "            print('to itself')\n        return f.getvalue()\n"
        "    return await ctx.run_typed('step', step)"
    )
    assert shell.run("await Quiet.read()") == "to itself\n"


def test_everything_is_as_it_was_when_the_extension_is_gone(shell):
    shell.run("%%capture\nprint(1)")
    shell.run("%unload_ext nbdurable")
    assert "CapturingStream" not in repr(sys.stdout)
    assert not hasattr(contextlib.redirect_stdout.__enter__, "__wrapped__")
