"""A write-ahead log that is harmed, missing or another's: what it loses is said, never guessed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from store_facts import Log
from store_journals import journal_id, killed_journal, lsns, opened

from nbdurable.errors import JournalDamagedError
from nbdurable.store.mark import MARK_FILE, lower_mark, read_mark

ALL = list(range(1, 26))
# A commit of `killed_journal` takes some 500 bytes in the log, so each part of one is met.
FLIP_EVERY_BYTES = 19
OURS = ("was acknowledged", "begins with fact")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 facts in base's log, 5 in hot's; all were acknowledged."""
    killed_journal(tmp_path / ".nbdurable")
    return tmp_path / ".nbdurable"


def log_of(folder: Path, database: str) -> Path:
    return folder / f"{database}.duckdb.wal"


@pytest.mark.parametrize("how", ["deleted", "emptied"])
@pytest.mark.parametrize(("database", "last"), [("hot", 20), ("base", 25)])
def test_a_log_that_is_missing_is_missed(folder: Path, database: str, last: int, how: str):
    """DuckDB opens the database without a word, as it was before."""
    log = log_of(folder, database)
    if how == "deleted":
        log.unlink()
    else:
        log.write_bytes(b"")
    with pytest.raises(JournalDamagedError, match=r"acknowledged|begins with fact 21") as said:
        opened(folder)
    assert "doctor" in str(said.value)
    if database == "hot":
        assert f"ends with fact {last}, but 25 was acknowledged" in str(said.value)


def test_both_logs_missing_are_missed_as_well(folder: Path):
    """The databases alone are a journal without a single fact, and whole."""
    for database in ("base", "hot"):
        log_of(folder, database).unlink()
    with pytest.raises(JournalDamagedError, match="ends with fact 0, but 25 was acknowledged"):
        opened(folder)


def test_a_stale_log_put_back_is_refused(folder: Path):
    """As a careless restore of single files does."""
    stale = log_of(folder, "hot").read_bytes()
    store = opened(folder)
    store.close()
    log_of(folder, "hot").write_bytes(stale)
    with pytest.raises(JournalDamagedError, match=r"hot\.duckdb.*is damaged"):
        opened(folder)


def test_an_older_journal_put_back_is_refused_until_somebody_decides(folder: Path, tmp_path: Path):
    """All databases are of one moment, and whole; only what was acknowledged since is missing."""
    backup = tmp_path / "backup"
    shutil.copytree(folder, backup)
    store = opened(folder)
    store.append([Log(25).epoch()])
    store.close()
    for name in ("base.duckdb", "base.duckdb.wal", "hot.duckdb", "hot.duckdb.wal"):
        shutil.copy(backup / name, folder / name)
    with pytest.raises(JournalDamagedError, match="ends with fact 25, but 26 was acknowledged"):
        opened(folder)
    lower_mark(folder, journal_id(folder), 25)
    store = opened(folder)
    assert lsns(store) == ALL
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize("database", ["hot", "base"])
def test_no_flipped_bit_in_a_log_is_taken_for_data_or_for_its_end(folder: Path, database: str):
    """Of two in 25 DuckDB says nothing, and ends the log there: a length that is too large."""
    whole = log_of(folder, database).read_bytes()
    saved = folder.with_name("saved")
    shutil.copytree(folder, saved)
    silent = 0
    for at in range(0, len(whole), FLIP_EVERY_BYTES):
        harmed = bytearray(whole)
        harmed[at] ^= 0x40
        shutil.rmtree(folder)
        shutil.copytree(saved, folder)
        log_of(folder, database).write_bytes(harmed)
        try:
            store = opened(folder)
        except JournalDamagedError as error:
            silent += any(found in str(error) for found in OURS)
            continue
        assert lsns(store) == ALL, f"byte {at} of {len(whole)}"
        store.close()
    print(f"{silent} of {len(whole) // FLIP_EVERY_BYTES} are not noticed by DuckDB")
    assert silent > 0


# -- the witness itself ---------------------------------------------------------------------------


def test_the_witness_says_how_far_was_acknowledged(folder: Path):
    assert read_mark(folder, journal_id(folder)) == 25
    assert (folder / MARK_FILE).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes().replace(b"25", b"99")),
        lambda path: path.write_bytes(b"0" * 32 + path.read_bytes()[32:]),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_a_witness_that_is_harmed_says_nothing(folder: Path, harm):
    """It must never keep anybody from a journal that is whole."""
    harm(folder / MARK_FILE)
    assert read_mark(folder, journal_id(folder)) == 0
    store = opened(folder)
    assert lsns(store) == ALL
    store.append([Log(25).epoch()])
    store.close()


def test_a_witness_of_another_journal_says_nothing(folder: Path):
    assert read_mark(folder, "0" * 32) == 0


def test_a_commit_without_an_acknowledgement_may_be_torn(folder: Path):
    """The one kind of loss that a kill or a power cut may leave: nobody was told of it."""
    lower_mark(folder, journal_id(folder), 24)
    log = log_of(folder, "hot")
    log.write_bytes(log.read_bytes()[:-9])
    store = opened(folder)
    assert lsns(store) == ALL[:-1]
    store.close()


def test_a_torn_commit_that_was_acknowledged_is_said(folder: Path):
    log = log_of(folder, "hot")
    log.write_bytes(log.read_bytes()[:-9])
    with pytest.raises(JournalDamagedError, match="ends with fact 24, but 25 was acknowledged"):
        opened(folder)
