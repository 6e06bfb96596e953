"""`durable.run`, `sleep`, `approval`, `promise` and `stop` in the cells of a run.

A cell runs again from its top after a crash; what it has finished must not.
"""

from __future__ import annotations

import ast
import signal
import subprocess
import time
from datetime import timedelta

import pytest
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from support.command import nbdurable as command
from support.projects import Project, side, statuses, texts

import nbdurable
from nbdurable import Workflow, durable
from nbdurable.batch.execution import RunSuspendedError
from nbdurable.errors import ArgumentError, ContextMisuseError

IMPORT = "import os\nfrom datetime import timedelta\nfrom nbdurable import durable\n"
CHARGE = (
    "def charge(amount):\n    open('side', 'a').write(f'charge{amount} ')\n"
    "    return {'paid': amount}\n"
)
WAIT_S_MAX = 60
# A clock that is set right meanwhile may go back by a little.
CLOCK_MS = 20
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
    project.write(cells[0], (cells[1].replace("1 / 0", "3 / 0"), "volatile"))
    with pytest.raises(PapermillExecutionError):
        project.run()
    assert project.ran() == ["charge1", "charge5", "charge5", "charge1", "charge5"]
    project.write(cells[0], cells[1].replace("1 / 0", "3 / 1"))
    project.run(fresh=True)
    assert project.ran() == ["charge1", "charge5"]


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


def test_a_step_that_ends_its_cell_is_shown_as_failed(project):
    """The journal says what was wrong, beside the cell that says it."""
    project.write(IMPORT, "await durable.run('bad', lambda: 1 / 0)")
    with pytest.raises(PapermillExecutionError):
        project.run()
    [(_, entries)] = project.runs()
    (bad,) = [entry for entry in entries if entry.name == "bad"]
    assert (bad.status, bad.failure) == ("failed", "[500] ZeroDivisionError: division by zero")


def test_steps_of_a_cell_run_side_by_side(project):
    """A gather of ten requests is ten requests at once: none ends before all have begun."""
    project.write(
        IMPORT + "import asyncio\nall_of_them = asyncio.Barrier(10)\nasync def fetch(n):\n"
        "    await asyncio.wait_for(all_of_them.wait(), 60)\n    return n * n",
        "sum(await asyncio.gather(*(durable.run('fetch', fetch, n) for n in range(10))))",
    )
    assert texts(project.run().cells[1]) == ["285"]


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


def test_a_kernel_that_is_ended_has_nothing_to_complain_of(project, capfd):
    """jupyter_client interrupts it first: it has to be idle by then, not only to have answered."""
    project.write(
        IMPORT + "import time\nkernel = get_ipython().kernel\nanswer = kernel.kernel_info_request\n"
        "async def linger(*request):\n    await answer(*request)\n    time.sleep(0.5)\n"
        "kernel.shell_handlers['kernel_info_request'] = linger",
        "await durable.approval('publish')",
    )
    with pytest.raises(RunSuspendedError):
        project.run(shutdown_kernel="graceful")
    assert "KeyboardInterrupt" not in capfd.readouterr().err


def test_a_wait_that_is_given_up_holds_nothing_up(project):
    """By asyncio in the kernel, or by a timer of the run, which lasts over a suspension."""
    project.write(
        IMPORT + "import asyncio\nfrom nbdurable.errors import TerminalError\n"
        "async def asked(*names):\n    for name in names:\n        try:\n"
        "            await asyncio.wait_for(durable.approval(name), 0.1)\n"
        "        except TimeoutError:\n            print('nobody', name)",
        "await asked('a', 'b')\nawait asyncio.sleep(2)\n'went on'",
        "try:\n    await durable.approval('c').or_timeout(timedelta(seconds=0.3))\n"
        "except TerminalError as error:\n    print(error.status_code, error)",
    )
    done = project.run()
    assert texts(done.cells[1]) == ["nobody a\nnobody b\n", "'went on'"]
    assert texts(done.cells[2]) == [
        "408 await-timeout: promise 'c' was not there within 0:00:00.300000\n"
    ]


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


async def test_in_a_handler_the_words_are_those_of_its_ctx(tmp_path):
    """What is moved from a cell to a handler goes on working, or says why it does not."""
    flow = Workflow("Moved")

    @flow.main()
    async def run(ctx, _request: None) -> list[object]:
        await durable.sleep(timedelta(milliseconds=1))
        await durable.promise("done").resolve(7)
        found = [await durable.run("double", lambda n: n * 2, 4), await durable.promise("done")]
        for call in (lambda: durable.run("keyed", print, key="k"), durable.stop):
            try:
                await call()
            except (ArgumentError, ContextMisuseError) as error:
                found.append(type(error).__name__)
        return found

    async with nbdurable.open(tmp_path / ".nbdurable", services=[flow]) as engine:
        answer = await engine.client.workflow_call(run, "k", None)
        entries = await engine.client.journal((await engine.client.find("Moved/k/run")).id)
    assert answer == [8, 7, "ArgumentError", "ContextMisuseError"]
    assert [entry.kind for entry in entries[1:3]] == ["Sleep", "CompletePromise"]


async def test_outside_of_a_run_the_words_say_where_they_belong():
    """In a plain script there is no journal to find a step in."""
    with pytest.raises(ContextMisuseError, match="nbdurable run"):
        await durable.run("charge", print)


def test_a_map_in_a_cell_goes_on_with_the_items_that_are_left(project):
    """An item that is done stays done, also when another one fails for good."""
    project.write(
        IMPORT + "import time\nfrom nbdurable.errors import MapError\ndef fetch(page):\n"
        "    open('side', 'a').write(f'p{page} ')\n    time.sleep(0.05)\n"
        "    if page == 3 and not os.path.exists('go'): raise ValueError('busy')\n"
        "    return page * 10",
        "rows = await durable.map(range(6), fetch, concurrency=2, rate='100/s')\nrows",
    )
    with pytest.raises(PapermillExecutionError, match=r"fetch\[3\] failed, with . of 6 items done"):
        project.run(go=False)
    first = project.ran()
    assert len(first) == len(set(first))
    done = project.run()
    assert texts(done.cells[1]) == ["[0, 10, 20, 30, 40, 50]"]
    again = project.ran()
    assert sorted(set(first) - {"p3"} | set(again)) == [f"p{page}" for page in range(6)]
    assert len(again) == 7 - len(first)


def test_a_map_in_a_cell_keeps_to_its_rate_and_waits_as_it_is_told(project):
    """Each begins after its turn, which is in the journal, and the turns keep to the rate."""
    project.write(
        IMPORT + "import time\nfrom nbdurable.errors import RetryableError\n"
        "async def fetch(page):\n    open('side', 'a').write(f'{page}@{time.time()} ')\n"
        "    if page == 1 and not os.path.exists('told'):\n        open('told', 'w')\n"
        "        raise RetryableError('slow down', retry_after=timedelta(seconds=0.5))\n"
        "    return page",
        "await durable.map(range(4), fetch, concurrency=1, rate='2/200ms', retry=2)",
    )
    assert texts(project.run().cells[1]) == ["[0, 1, 2, 3]"]
    begun = begun_ms(project)
    turns = recorded_ms(project, "rate of fetch")
    (held_until,) = recorded_ms(project, "retry after, said to fetch")
    assert [page for page, _ in begun] == [0, 1, 1, 2, 3]
    assert all(after - before >= 200 for before, after in zip(turns, turns[2:], strict=False))
    assert all(at >= turn - CLOCK_MS for (_, at), turn in zip(begun, turns, strict=True))
    (_, told), (_, again) = begun[1:3]
    assert held_until >= told + 500 - CLOCK_MS
    assert again >= held_until - CLOCK_MS


def test_an_item_that_was_tried_again_is_done_once(project):
    """A try that raised is not what is looked for later; the map knows which are of one step."""
    project.write(
        IMPORT + "def fetch(page):\n    open('side', 'a').write(f'p{page} ')\n"
        "    if not os.path.exists(f'tried{page}'):\n        open(f'tried{page}', 'w')\n"
        "        raise ValueError('busy')\n    return page",
        "rows = await durable.map(range(2), fetch, concurrency=1, retry=2)\n"
        f"{KILL_UNLESS_GO}\nrows",
    )
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    assert project.ran() == ["p0", "p0", "p1", "p1"]
    assert texts(project.run().cells[1]) == ["[0, 1]"]
    assert project.ran() == []


def test_a_step_that_raised_leaves_its_place_to_no_other(project):
    """Else the next kernel gives an item that failed what was recorded for the one after it."""
    project.write(
        IMPORT + "def load(item):\n    open('side', 'a').write(f'{item} ')\n"
        "    if item == 'a' and not os.path.exists('go'): raise ValueError(item)\n"
        "    return item * 2",
        "loaded, failed = {}, []\nfor item in 'abc':\n    try:\n"
        "        loaded[item] = await durable.run('load', lambda: load(item))\n"
        "    except ValueError:\n        failed.append(item)\n"
        "try:\n    found = await durable.run('fetch', lambda: load('a'))\n"
        "except ValueError:\n    found = await durable.run('fetch', lambda: load('d'))\n"
        f"{KILL_UNLESS_GO}\nloaded, failed, found",
    )
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    assert project.ran() == ["a", "b", "c", "a", "d"]
    found = ast.literal_eval(texts(project.run().cells[1])[0])
    assert found == ({"a": "aa", "b": "bb", "c": "cc"}, [], "aa")
    assert project.ran() == ["a", "a"], "what has finished is not done again"


def test_items_are_tried_again_as_it_says_and_what_fails_may_stand_in_their_place(project):
    """With the options of a step, which mean the same in a handler."""
    project.write(
        IMPORT + "import asyncio, time\nfrom nbdurable import StepOptions, TerminalError\nat = []\n"
        "async def slow(page):\n    at.append(time.monotonic())\n    await asyncio.sleep(9)\n"
        "def fails(page): raise ValueError(f'no {page}') if page else TerminalError('none')",
        "twice = StepOptions(max_attempts=2, initial_retry_interval=timedelta(seconds=0.5),"
        " timeout=timedelta(seconds=0.1))\n"
        "found = await durable.map([1], slow, retry=twice, return_exceptions=True)\n"
        "found += await durable.map([0, 1], fails, retry=1, return_exceptions=True)\n"
        "is_right = all(isinstance(one, TerminalError) for one in found)\n"
        "is_right, str(found[1]), str(found[2]), len(at), at[1] - at[0] > 0.59",
    )
    found = ast.literal_eval(texts(project.run().cells[1])[0])
    assert found == (True, "none", "ValueError: no 1", 2, True)


def test_a_rate_and_a_pause_are_kept_across_a_killed_kernel(project):
    """A guest who is asked to come twice a minute does not come four times for having died."""
    project.write(
        IMPORT + "import time, signal\nfrom nbdurable.errors import RetryableError\n"
        "def fetch(page):\n    open('side', 'a').write(f'{page}@{time.time()} ')\n"
        "    if page == 1 and not os.path.exists('go'):\n        os.kill(os.getpid(), 9)\n"
        "    return page\n"
        "def ask(page):\n    open('side', 'a').write(f'{page}@{time.time()} ')\n"
        "    if page == 5: raise RetryableError('later', retry_after=timedelta(seconds=8))\n",
        "rows = await durable.map(range(3), fetch, concurrency=1, rate='2/8s')\nrows",
        # Killed when it has said for how long it is held up, and before it is.
        "if not os.path.exists('go2'):\n"
        "    from nbdurable.sdk.cells import cell_steps\n"
        "    steps = type(cell_steps())\n    hold = steps.hold\n"
        "    async def hold_and_die(self, *words):\n"
        "        await hold(self, *words)\n        os.kill(os.getpid(), 9)\n"
        "    steps.hold = hold_and_die\n"
        "    await durable.map([5], ask, retry=5)\n"
        "def ask(page):\n    open('side', 'a').write(f'{page}@{time.time()} ')\n"
        "await durable.map([5], ask)",
    )
    with pytest.raises(DeadKernelError):
        project.run(go=False)
    with pytest.raises(DeadKernelError):
        project.run()
    (project.folder / "go2").touch()
    project.run()
    begun = begun_ms(project)
    assert [page for page, _ in begun] == [0, 1, 1, 2, 5, 5]
    (zero, one, again, two), (*fetched, told, later) = (
        recorded_ms(project, "rate of fetch"),
        [at for _, at in begun],
    )
    assert again - zero >= 8_000
    assert two - one >= 8_000
    turns = zip(fetched, (zero, one, again, two), strict=True)
    assert all(at >= turn - CLOCK_MS for at, turn in turns)
    (held_until,) = recorded_ms(project, "retry after, said to ask")
    assert told + 8_000 - CLOCK_MS <= held_until <= later + CLOCK_MS
    names = [name for name, _ in steps_of(project)]
    assert names.count("map fetch over 3") == 1
    assert names.count("rate of fetch") == 4


def begun_ms(project: Project) -> list[tuple[int, float]]:
    """Which pages were asked for, and when."""
    marks = [mark.split("@") for mark in project.ran()]
    return [(int(page), float(at_s) * 1_000) for page, at_s in marks]


def recorded_ms(project: Project, name: str) -> list[int]:
    """The times that a map has recorded under this name, in the order in which it did."""
    [(_, entries)] = project.runs()
    return [int(entry.value) for entry in entries if entry.name == name]


def wait_for_mark(project: Project, mark: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + WAIT_S_MAX
    side_file = project.folder / "side"
    while not side_file.exists() or mark not in side_file.read_text():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.kill
def test_steps_go_on_when_the_owner_of_the_journal_ends_in_their_middle(project):
    """The function runs on in the kernel; whoever has the journal then records its result."""
    project.write(
        IMPORT + CHARGE + "import asyncio\nasync def slow():\n"
        "    open('side', 'a').write('slow ')\n"
        "    while not os.path.exists('go'): await asyncio.sleep(0.02)\n    return 'slept'",
        "first = await durable.run('charge', charge, 1)\nrest = await asyncio.gather(\n"
        "    durable.run('slow', slow), durable.sleep(timedelta(seconds=3)))\n"
        "await durable.run('charge', charge, 2)\nfirst, rest",
    )
    command_line = project.command("--engine", "nbdurable", "--no-progress-bar")
    with nbdurable.open_sync(project.folder / ".nbdurable"):
        process = subprocess.Popen(command_line, stderr=subprocess.PIPE)
        wait_for_mark(project, "slow", process)
    with process:
        (project.folder / "go").touch()
        process.communicate()
    assert process.returncode == 0
    assert project.ran() == ["charge1", "slow", "charge2"]
    assert texts(project.output().cells[1]) == ["({'paid': 1}, ['slept', None])"]
    [(run, _)] = project.runs()
    assert (run.succeeded, run.attempt) == (True, 2)


@pytest.mark.kill
def test_a_step_that_papermill_did_not_live_to_record_is_the_only_one_done_again(project):
    """At least once, and for the others exactly once."""
    project.write(
        IMPORT + CHARGE,
        "await durable.run('charge', charge, 1)\nimport signal\n"
        "def die(n):\n    open('side', 'a').write('die ')\n"
        "    if not os.path.exists('go'):\n        os.kill(os.getppid(), signal.SIGKILL)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n    return n\n"
        "await durable.run('die', die, 5)",
    )
    command_line = project.command("--engine", "nbdurable", "--no-progress-bar")
    killed = subprocess.run(command_line, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    done = project.run()
    assert project.ran() == ["charge1", "die", "die"]
    assert texts(done.cells[1]) == ["5"]
