"""When absorbing waits, and for what: base is checkpointed while commits go on to hot."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from store_facts import ONE, Log

from nbdurable.errors import StoreError
from nbdurable.store import absorb, duck, reader
from nbdurable.store.absorb import Checkpointer, checkpoint
from nbdurable.store.duck import ABSORB_LATE_FACTOR, DuckStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckStore]:
    store = DuckStore(tmp_path / "j", absorb_commits=2, checkpoint_bytes=1)
    store.open()
    yield store
    store.close()


def base_log(store: DuckStore) -> Path:
    return store.folder / "base.duckdb.wal"


def append(store: DuckStore, log: Log, commit_count: int = 1) -> None:
    for _ in range(commit_count):
        store.append([log.epoch()])


def test_commits_and_reads_go_on_while_base_is_checkpointed(
    store: DuckStore, monkeypatch: pytest.MonkeyPatch
):
    """And absorbing is asked for late meanwhile, because it would wait."""
    began, may_end = threading.Event(), threading.Event()

    def slow_checkpoint(writer, database: str) -> bool:
        if database == "base":
            began.set()
            may_end.wait()
        return checkpoint(writer, database)

    monkeypatch.setattr(reader, "checkpoint", slow_checkpoint)
    log = Log()
    append(store, log)
    store.absorb()
    began.wait()
    append(store, log, 2 * ABSORB_LATE_FACTOR - 1)
    assert not store.wants_absorb()
    append(store, log)
    assert store.wants_absorb()
    assert [row.lsn for row in store.read_rows(1, 999)] == list(range(1, log.last_lsn + 1))
    may_end.set()
    store.absorb()
    assert [row.lsn for row in store.read_rows(1, 999)] == list(range(1, log.last_lsn + 1))


def test_what_has_grown_is_absorbed_in_helpings_between_which_commits_go_on(tmp_path: Path):
    """However much it is, no commit waits for all of it."""
    store, log = DuckStore(tmp_path / "j", absorb_bytes=4_000), Log()
    store.open()
    store.append([log.set(str(number % 3), b"%d" % number * 90) for number in range(60)])
    helpings = 0
    while store.wants_absorb():
        store.absorb_some()
        store.append([log.set("last", b"%d" % helpings)])
        helpings += 1
        assert [row.lsn for row in store.read_rows(1, 999)] == list(range(1, log.last_lsn + 1))
    assert helpings > 3
    store.close()
    store.open()
    assert [row.lsn for row in store.read_rows(1, 999)] == list(range(1, log.last_lsn + 1))
    assert {row.name: row.lsn for row in store.load_state()} == {
        "0": 58,
        "1": 59,
        "2": 60,
        "last": log.last_lsn,
    }
    store.close()


def test_a_helping_that_finds_no_memory_is_taken_again_when_others_have_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What failed is what is told, whatever the transaction that it failed in refuses after it."""
    store, log = DuckStore(tmp_path / "j", absorb_bytes=4_000), Log()
    store.open()
    store.append([log.set(str(number % 3), b"%d" % number * 90) for number in range(60)])
    fold, failures = absorb.fold_into_base, [duckdb.OutOfMemoryException("no memory")]

    def failing(writer, last_lsn: int) -> None:
        if failures:
            writer.execute("begin transaction")
            with pytest.raises(duckdb.ConversionException):
                writer.execute("select cast('no number' as integer)")
            raise failures.pop()
        fold(writer, last_lsn)

    monkeypatch.setattr(absorb, "fold_into_base", failing)
    while store.wants_absorb():
        store.absorb_some()
    assert not failures
    assert [row.lsn for row in store.read_rows(1, 999)] == list(range(1, log.last_lsn + 1))
    store.close()


def test_a_log_of_base_is_kept_until_it_is_worth_a_checkpoint(tmp_path: Path):
    store, log = DuckStore(tmp_path / "j"), Log()
    store.open()
    store.append([log.created(ONE, b"x" * 1_000)])
    store.absorb()
    assert base_log(store).stat().st_size > 1_000
    assert base_log(store).stat().st_mode & 0o077 == 0
    store.close()
    assert not base_log(store).exists()


def test_a_calm_moment_leaves_no_log_that_is_worth_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is in a log is in memory as well, and nobody commits for as long as it takes."""
    monkeypatch.setattr(duck, "CALM_BYTES", 1_000)
    store, log = DuckStore(tmp_path / "j"), Log()
    store.open()
    store.append([log.created(ONE, b"x" * 1_000)])
    store.absorb()
    store.append([log.set("count", b"x" * 1_000)])
    while store.wants_snapshot():
        store.extend_snapshot()
    store._checkpointer.wait()
    assert not base_log(store).exists()
    assert store._absorbed_lsn == log.last_lsn
    # Also what has come since the snapshot was extended for the last time.
    store.append([log.set("count", b"x" * 1_000)])
    assert store.wants_snapshot()
    store.extend_snapshot()
    assert store._absorbed_lsn == log.last_lsn
    while store.wants_snapshot():
        store.extend_snapshot()
    store._checkpointer.wait()
    # What is little is left where it is.
    store.append([log.set("count", b"x")])
    assert not store.wants_snapshot()
    assert [row.lsn for row in store.read_rows(1, 99)] == [1, 2, 3, 4]
    store.close()


def test_what_is_done_in_calm_does_not_wait_for_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nor does, then, the commit that comes meanwhile: it is on the same thread."""
    began, may_end = threading.Event(), threading.Event()

    def slow_checkpoint(writer, database: str) -> bool:
        if database == "base":
            began.set()
            may_end.wait(10)
        return checkpoint(writer, database)

    monkeypatch.setattr(duck, "CALM_BYTES", 1_000)
    monkeypatch.setattr(reader, "checkpoint", slow_checkpoint)
    store, log = DuckStore(tmp_path / "j"), Log()
    store.open()
    store.append([log.created(ONE, b"x" * 1_000)])
    store.absorb()
    store.extend_snapshot()
    assert began.wait(10)
    store.append([log.set("count", b"x" * 1_000)])
    store.extend_snapshot()
    assert store._checkpointer.is_busy
    assert store._absorbed_lsn == log.last_lsn - 1
    may_end.set()
    store._checkpointer.wait()
    store.extend_snapshot()
    assert store._absorbed_lsn == log.last_lsn
    store.close()


def test_what_a_checkpoint_meets_is_told_to_the_next_absorb(
    store: DuckStore, monkeypatch: pytest.MonkeyPatch
):
    """Nobody waits for it, yet a disk that is full must stop the engine, not be forgotten."""

    def failing_checkpoint(writer, database: str) -> bool:
        if database == "base":
            raise OSError(28, "No space left on device")
        return checkpoint(writer, database)

    log = Log()
    append(store, log)
    with monkeypatch.context() as patched:
        patched.setattr(reader, "checkpoint", failing_checkpoint)
        store.absorb()
        append(store, log)
        with pytest.raises(StoreError, match="No space left"):
            store.absorb()
    store.reopen()
    assert [row.lsn for row in store.read_rows(1, 99)] == [1, 2]


def test_a_checkpointer_tells_what_it_has_met_once():
    def fail() -> None:
        raise ValueError("no")

    checkpointer = Checkpointer()
    checkpointer.wait()
    checkpointer.start(fail)
    with pytest.raises(ValueError, match="no"):
        checkpointer.wait()
    checkpointer.wait()
    assert not checkpointer.is_busy


KILLED = """
import os, sys
from pathlib import Path
from store_facts import Log
from nbdurable.store.duck import ABSORB_LATE_FACTOR, DuckStore
store, log = DuckStore(Path(sys.argv[1])), Log()
store.open()
for _ in range(3):
    store.append([log.epoch(), log.set("n", str(log.last_lsn).encode())])
    store.absorb()
os._exit(0)
"""


def test_facts_that_only_the_log_of_base_has_are_there_after_a_kill(tmp_path: Path):
    path = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    script = [sys.executable, "-c", KILLED, str(tmp_path / "j")]
    subprocess.run(script, check=True, env={"PYTHONPATH": path})
    store = DuckStore(tmp_path / "j")
    assert base_log(store).exists()
    store.open()
    assert not base_log(store).exists()
    assert [row.lsn for row in store.read_rows(1, 99)] == [1, 2, 3, 4, 5, 6]
    assert [row.lsn for row in store.load_state()] == [6]
    store.close()
