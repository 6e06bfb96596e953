"""User code opens and closes a file of the journal, in the process that owns it.

That drops DuckDB's lock on the file, whatever it is opened for: a copy, a hash, a look.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from store_facts import Log
from store_journals import environment, lsns, opened

from nbdurable.errors import JournalHeldError
from nbdurable.store.duck import DuckStore

# It owns a journal, reads all of its files as a backup would, and goes on when it is told to.
OWNER = """
import os, sys
from pathlib import Path
from store_facts import Log
from nbdurable.errors import NbdurableError
from nbdurable.store.duck import DuckStore

folder = Path(sys.argv[1])
store, log = DuckStore(folder), Log()
store.open()
store.append([log.epoch()])
store.absorb()
store.append([log.epoch(), log.epoch()])
for path in folder.iterdir():
    if path.is_file():
        path.read_bytes()
print("read", flush=True)
sys.stdin.readline()
try:
    store.append([log.epoch()])
    print("acknowledged", flush=True)
except NbdurableError as error:
    print(type(error).__name__, error, flush=True)
os._exit(0)
"""


class Owner:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        assert process.stdout.readline() == "read\n"

    def goes_on(self) -> str:
        """What came of its next commit."""
        return self._process.communicate("\n")[0]


@contextmanager
def owning(folder: Path) -> Iterator[Owner]:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        yield Owner(process)
        process.kill()


def test_another_owner_is_refused_all_the_same(tmp_path: Path):
    """Our own lock is on a file of its own, and of another kind: closing does not drop it."""
    with owning(tmp_path / "j") as owner:
        with pytest.raises(JournalHeldError, match="is held by process"):
            DuckStore(tmp_path / "j").open()
        assert owner.goes_on() == "acknowledged\n"
    store = opened(tmp_path / "j")
    assert lsns(store) == [1, 2, 3, 4]
    store.close()


def test_who_checkpoints_from_outside_is_noticed_before_the_next_acknowledgement(tmp_path: Path):
    """It removes the log that the owner goes on writing to, and nobody could ever read that."""
    with owning(tmp_path / "j") as owner:
        with duckdb.connect(tmp_path / "j" / "hot.duckdb") as shell:
            shell.execute("checkpoint")
        said = owner.goes_on()
    assert said.startswith("JournalGoneError")
    assert "hot.duckdb.wal is not there any more" in said
    store, log = opened(tmp_path / "j"), Log(3)
    assert lsns(store) == [1, 2, 3]
    store.append([log.epoch()])
    store.close()


def test_who_only_looks_from_outside_changes_nothing(tmp_path: Path):
    with owning(tmp_path / "j") as owner:
        with duckdb.connect(tmp_path / "j" / "hot.duckdb", read_only=True) as shell:
            assert shell.execute("select max(lsn) from fact").fetchall() == [(3,)]
        assert owner.goes_on() == "acknowledged\n"
    store = opened(tmp_path / "j")
    assert lsns(store) == [1, 2, 3, 4]
    store.close()
