"""`durable.run`, `sleep`, `approval`, `promise` and `stop` in the cells of a run.

A cell runs again from its top after a crash; what it has finished must not.
"""

from __future__ import annotations

import pytest
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from support.command import nbdurable as command
from support.projects import Project, side, statuses, texts

import nbdurable
from nbdurable.batch.execution import RunSuspendedError

IMPORT = "import os\nfrom datetime import timedelta\nfrom nbdurable import durable\n"
CHARGE = (
    "def charge(amount):\n    open('side', 'a').write(f'charge{amount} ')\n"
    "    return {'paid': amount}\n"
)
KILL_UNLESS_GO = "if not os.path.exists('go'): os.kill(os.getpid(), 9)"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBDURABLE_HOME", raising=False)
    return Project(tmp_path)


def steps_of(project: Project) -> list[tuple[str, str]]:
    [(_, entries)] = project.runs()
    return [(entry.name, entry.status) for entry in entries if entry.kind == "Run"]


def test_a_cell_that_runs_again_keeps_the_steps_it_has_finished(project):
    """A card must not be charged twice because the kernel died behind it."""
    project.write(
        IMPORT + CHARGE,
        side("cell") + "\nfirst = await durable.run('charge', charge, 1)\n"
        "again = await durable.run('charge', charge, 1)\n"
        "keyed = await durable.run('charge', charge, 2, key='order-7')\n"
        f"{KILL_UNLESS_GO}\nfirst, again, keyed",
    )
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    assert project.ran() == ["cell", "charge1", "charge1", "charge2"]
    done = project.run()
    assert project.ran() == ["cell"]
    assert texts(done.cells[1]) == ["({'paid': 1}, {'paid': 1}, {'paid': 2})"]
    assert [step for step in steps_of(project) if step[0] == "charge"] == [("charge", "done")] * 3


def test_an_edit_keeps_steps_and_volatile_and_fresh_do_not(project):
    """Whoever fixes the line behind a step does not want the step again; some do."""
    fresh = "await durable.run('look', charge, 5, fresh=True)\n"
    cells = [IMPORT + CHARGE, "await durable.run('charge', charge, 1)\n" + fresh + "1 / 0"]
    project.write(*cells)
    with pytest.raises(PapermillExecutionError):
        project.run()
    project.write(cells[0], cells[1].replace("1 / 0", "2 / 0"))
    with pytest.raises(PapermillExecutionError):
        project.run()
    project.write(cells[0], (cells[1].replace("1 / 0", "2 / 1"), "volatile"))
    project.run()
    assert project.ran() == ["charge1", "charge5", "charge5", "charge1", "charge5"]


def test_results_of_any_kind_come_back_in_another_kernel(project):
    """A frame, a class of the notebook, a failure that is a result."""
    project.write(
        IMPORT + "import pandas as pd\nclass Order:\n    def __init__(self, n): self.n = n\n"
        "def refuse(): side('refuse'); raise durable_errors.TerminalError('no money', 402)\n"
        "from nbdurable import errors as durable_errors\n"
        "def side(text): open('side', 'a').write(text + ' ')\n"
        "def frame(): side('frame'); return pd.DataFrame({'a': [1, 2]})\n"
        "def order(): side('order'); return Order(3)",
        "table = await durable.run('frame', frame)\nmade = await durable.run('order', order)\n"
        "try:\n    await durable.run('refuse', refuse)\n"
        "except durable_errors.TerminalError as error:\n    said = f'{error} {error.status_code}'\n"
        f"{KILL_UNLESS_GO}\nint(table.a.sum()), made.n, said",
    )
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    done = project.run()
    assert project.ran() == ["frame", "order", "refuse"]
    assert texts(done.cells[1]) == ["(3, 3, 'no money 402')"]


def test_a_step_that_raised_is_done_again_with_its_cell(project):
    """An error is no result; the tag tries the cell again, in the same attempt."""
    project.write(
        IMPORT + "def flaky():\n    open('side', 'a').write('try ')\n"
        "    n = len(open('side').read().split())\n    assert n > 2, n\n    return n",
        ("await durable.run('flaky', flaky)", "retries=3"),
    )
    done = project.run()
    assert (project.ran(), texts(done.cells[1])) == (["try"] * 3, ["3"])
    assert [step for step in steps_of(project) if step[0] == "flaky"] == [
        *[("flaky", "failed")] * 2,
        ("flaky", "done"),
    ]


def test_steps_of_a_cell_run_side_by_side(project):
    """A gather of ten requests is ten requests at once."""
    project.write(
        IMPORT + "import asyncio\nat_once = 0\nmost = 0\nasync def fetch(n):\n"
        "    global at_once, most\n    at_once += 1; most = max(most, at_once)\n"
        "    await asyncio.sleep(0.3)\n    at_once -= 1\n    return n * n",
        "found = await asyncio.gather(*(durable.run('fetch', fetch, n) for n in range(10)))\n"
        "sum(found), most",
    )
    assert texts(project.run().cells[1]) == ["(285, 10)"]


def test_a_short_sleep_and_an_early_answer_are_waited_for_in_place(project):
    """A new kernel for a second would cost more than it."""
    project.write(
        IMPORT,
        "import time\nbegun = time.monotonic()\nawait durable.sleep(timedelta(seconds=1.2))\n"
        "time.monotonic() - begun > 1.1",
        "await durable.promise('done').resolve({'by': 'me'})\nawait durable.promise('done')",
    )
    done = project.run()
    assert [texts(cell) for cell in done.cells[1:]] == [["True"], ["{'by': 'me'}"]]


def test_stop_ends_a_notebook_on_purpose(project):
    """There is nothing to report today, which is no failure."""
    project.write(IMPORT, "durable.stop('nothing sold')", side("after"))
    done = project.run()
    assert done.cells[1].outputs[0].text == "nothing sold\n"
    assert statuses(done)[2] == "pending"
    assert project.ran() == []
    [(run, _)] = project.runs()
    assert run.succeeded


def test_an_approval_suspends_and_an_answer_without_any_kernel_goes_on(project):
    """Exit code 75, no process, a true notebook; the same command says what it still waits for."""
    project.write(
        IMPORT + CHARGE + "x = [1]",
        side("ask") + "\nawait durable.run('charge', charge, 1)\nprint('draft', x)\n"
        "ok = await durable.approval('publish', title='Publish it?')\nprint('answered', ok)",
        side("after") + "\nx",
    )
    with pytest.raises(RunSuspendedError, match="until somebody answers 'publish'") as suspended:
        project.run()
    assert suspended.value.exit_code == 75
    waiting = project.output()
    assert statuses(waiting) == ["completed", "suspended", "pending"]
    assert [output.text for output in waiting.cells[1].outputs] == ["draft [1]\n"]
    assert waiting.metadata.nbdurable.suspended_until == "somebody answers 'publish'"
    assert not waiting.metadata.papermill.exception
    assert project.ran() == ["ask", "charge1"]
    [(run, _)] = project.runs()
    assert (run.status, run.open_promises) == ("suspended", ("publish",))

    # No kernel is started to find out that nobody has answered.
    with pytest.raises(RunSuspendedError, match="nbdurable approve"):
        project.run()
    assert project.ran() == []
    assert command("approve", f"Notebook/{run.key}/run").exit_code == 0
    done = project.run()
    assert (project.ran(), statuses(done)) == (["ask", "after"], ["completed"] * 3)
    assert done.cells[1].outputs[0].text == "draft [1]\nanswered True\n"
    assert not (project.folder / ".nbdurable" / "runs").exists(), "and no other process began it"


def test_a_long_sleep_suspends_and_an_edit_of_its_cell_goes_on_at_once(project):
    """Somebody has changed their mind about tomorrow."""
    sleeping = side("sleep") + "\nawait durable.sleep(timedelta(hours=8))\n'slept'"
    project.write(IMPORT, sleeping)
    with pytest.raises(RunSuspendedError, match=r"until 2.* UTC"):
        project.run()
    with pytest.raises(RunSuspendedError):
        project.run()
    assert project.ran() == ["sleep"]
    project.write(IMPORT, side("no") + "\n'did not sleep'")
    done = project.run()
    assert (project.ran(), texts(done.cells[1])) == (["no"], ["'did not sleep'"])


def test_whoever_owns_the_journal_goes_on_when_an_answer_comes(project):
    """Nobody has to give the command again: `nbdurable up`, or a notebook that is open."""
    (project.folder / "cells").mkdir()
    project.write(
        (IMPORT + "amount = 0", "parameters"),
        "open('here', 'a').write('ask ')\nok = await durable.approval('publish')",
        "open('here', 'a').write(f'after {ok} {amount}')",
    )
    with nbdurable.open_sync(project.folder / ".nbdurable") as owner:
        with pytest.raises(RunSuspendedError):
            project.run(parameters={"amount": 7}, cwd="cells")
        [run] = owner.client.invocations()
        owner.client.resolve_promise("Notebook", run.key, "publish", value=True)
        assert owner.client.attach(run.id) == {"cells": 4, "restored": 2, "stopped": False}
    assert (project.folder / "cells" / "here").read_text() == "ask ask after True 7"


def test_the_command_says_75_and_why(project):
    """A script that calls it must tell a wait from a failure."""
    project.write(IMPORT, "await durable.promise('shipped')")
    suspended = command("run", "in.ipynb", "out.ipynb", "--no-progress-bar", "--log-level", "ERROR")
    assert suspended.exit_code == 75
    assert "is suspended until somebody answers 'shipped'" in suspended.stderr


def test_outside_of_a_run_the_words_say_where_they_belong():
    """In a plain script there is no journal to find a step in."""
    import asyncio

    from nbdurable import durable
    from nbdurable.errors import ContextMisuseError

    with pytest.raises(ContextMisuseError, match="nbdurable run"):
        asyncio.run(durable.run("charge", print))
