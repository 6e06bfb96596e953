"""One process owns a journal; everyone else is told who, and a forked child owns nothing."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from store_facts import Log

from nbdurable.errors import JournalHeldError
from nbdurable.store.duck import DuckStore
from nbdurable.store.lock import OwnerLock, program_of

HELD_SINCE_MS = 1_700_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".nbdurable"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": path},
    )


def test_the_owner_says_who_it_is_to_this_user_only(folder: Path):
    store = DuckStore(folder, now_ms=lambda: HELD_SINCE_MS)
    store.open()
    path = folder / "owner.json"
    note = json.loads(path.read_text())
    assert (note["pid"], note["started_at_ms"]) == (os.getpid(), HELD_SINCE_MS)
    assert note["program"] == sys.argv
    assert set(note) == {"pid", "host", "started_at_ms", "program", "boot_id"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store.lock.announce(url="http://127.0.0.1:1", token="t")  # noqa: S106 - a made-up one.
    assert json.loads(path.read_text())["url"] == "http://127.0.0.1:1"
    store.close()
    assert not path.exists()


def test_a_kernel_is_known_by_its_notebook_and_what_it_has_started_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """A process that a cell starts inherits the notebook's name with the environment."""
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/ada/report.ipynb")
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", pytest)
    assert program_in(folder) == ["notebook", "report.ipynb"]
    monkeypatch.delitem(sys.modules, "ipykernel.kernelapp")
    assert program_in(folder) == sys.argv


def program_in(folder: Path) -> list[str]:
    store = DuckStore(folder, now_ms=lambda: HELD_SINCE_MS)
    store.open()
    note = json.loads((folder / "owner.json").read_text())
    store.close()
    return note["program"]


def test_a_second_process_is_told_who_holds_the_journal_and_what_to_do(folder: Path):
    store = DuckStore(folder, now_ms=lambda: HELD_SINCE_MS)
    store.open()
    script = """
import sys
from pathlib import Path
from nbdurable.errors import JournalHeldError
from nbdurable.store.duck import DuckStore
try:
    DuckStore(Path(sys.argv[1])).open()
except JournalHeldError as error:
    print(error)
"""
    said = run(script, folder).stdout
    assert f"process {os.getpid()} on " in said
    assert f"({program_of(sys.argv)})" in said
    assert "since 2023-11-1" in said
    assert "or end it (shut that kernel down) and try again" in said
    assert "IO Error" not in said
    store.append([Log().epoch()])
    store.close()


@pytest.mark.parametrize(
    ("words", "program"),
    [
        (["/opt/bin/nbdurable", "up"], "nbdurable up"),
        (["/lib/pytest/__main__.py", "-q"], "pytest -q"),
        (["notebook", "report.ipynb"], "notebook report.ipynb"),
        ([], ""),
        (["run.py", "x" * 100], f"run.py {'x' * 73}"),
    ],
)
def test_a_program_is_named_as_one_would_call_it(words: list[str], program: str):
    assert program_of(words) == program


def test_a_second_engine_in_this_process_is_told_so(folder: Path):
    store = DuckStore(folder)
    store.open()
    with pytest.raises(
        JournalHeldError, match=rf"already open in this process \(pid {os.getpid()}"
    ):
        DuckStore(folder).open()
    store.append([Log().epoch()])
    store.close()
    again = DuckStore(folder)
    again.open()
    assert again.last_lsn() == 1
    again.close()


def test_a_holder_that_has_not_announced_itself_yet_still_refuses(folder: Path):
    folder.mkdir()
    lock = OwnerLock(folder, lambda: 0)
    lock.acquire()
    with pytest.raises(JournalHeldError, match="a process that is just taking it"):
        OwnerLock(folder, lambda: 0).acquire()
    lock.release()
    other = OwnerLock(folder, lambda: 0)
    other.acquire()
    other.release()


def test_a_killed_owner_leaves_a_note_but_no_lock(folder: Path):
    script = """
import os, sys
from pathlib import Path
from store_facts import Log
from nbdurable.store.duck import DuckStore
store = DuckStore(Path(sys.argv[1]))
store.open()
store.append([Log().epoch()])
os._exit(0)
"""
    run(script, folder)
    assert (folder / "owner.json").exists()
    store = DuckStore(folder)
    store.open()
    assert store.last_lsn() == 1
    store.close()


FORK = """
import os, sys
from pathlib import Path
from store_facts import Log
from nbdurable.errors import StoreError
from nbdurable.store.duck import DuckStore

store, log = DuckStore(Path(sys.argv[1])), Log()
store.open()
store.append([log.epoch(), log.epoch()])
child = os.fork()
if child == 0:
    for call in (
        lambda: store.append([log.epoch()]),
        lambda: store.read_rows(1, 2),
        lambda: list(store.load()),
        store.last_lsn,
        store.absorb,
        store.reopen,
        store.close,
    ):
        try:
            call()
        except StoreError as error:
            assert "forked from the owner" in str(error), error
        else:
            print("not refused", call, flush=True)
    store = None
    # Not os._exit: an interpreter that shuts down frees whatever it still can.
    sys.exit(0)
_, status = os.waitpid(child, 0)
print("child", status, flush=True)
store.append([log.epoch()])
store.absorb()
store.append([log.epoch()])
print(sorted(path.name for path in Path(sys.argv[1]).iterdir()), flush=True)
os._exit(0)
"""


def test_a_forked_child_can_do_nothing_to_the_journal_not_even_by_ending(folder: Path):
    """It could commit through its parent's descriptors, and checkpoint by shutting down."""
    done = run(FORK, folder)
    assert done.stdout.splitlines()[0] == "child 0", done.stderr
    assert "hot.duckdb.wal" in done.stdout
    assert "not refused" not in done.stdout
    # Never freeing DuckDB's objects has a price: its binding reports them as leaked.
    assert all("nanobind" in line or line.startswith(" - ") for line in done.stderr.splitlines())
    store = DuckStore(folder)
    store.open()
    assert [row.lsn for row in store.read_rows(1, 9)] == [1, 2, 3, 4]
    store.close()


FORK_OUTLIVES = """
import os, sys
from pathlib import Path
from nbdurable.store.duck import DuckStore

store = DuckStore(Path(sys.argv[1]))
store.open()
reading, writing = os.pipe()
if os.fork() == 0:
    # Said by the child, when what is done after a fork has been done.
    os.write(writing, b"!")
    print("forked", flush=True)
    sys.stdin.read()  # Ends when the test has closed its side.
    os._exit(0)
os.read(reading, 1)
os._exit(0)
"""


def test_a_child_that_outlives_its_parent_does_not_keep_the_journal(folder: Path):
    """A lock belongs to whoever has the descriptor, so the child must have given it up."""
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", FORK_OUTLIVES, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": path},
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        assert parent.stdout.readline() == b"forked\n"
        parent.wait()
        store = DuckStore(folder)
        store.open()
        store.append([Log().epoch()])
        store.close()
        parent.stdin.close()
