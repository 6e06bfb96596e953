"""A journal that cannot be opened: a copy aside, and how far it can be read."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from store_facts import contents
from store_journals import killed_journal
from test_duck_files import DAMAGES

from nbdurable.errors import JournalHeldError
from nbdurable.store.duck import DuckStore
from nbdurable.store.rescue import copy_aside, readable

AT_MS = 1_795_666_395_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / ".nbdurable"
    killed_journal(path)
    return path


def test_a_copy_is_the_journal_as_it_was_found(folder: Path) -> None:
    before = contents(folder)
    copy = copy_aside(folder, AT_MS)
    assert copy == folder.with_name(".nbdurable-aside-20261126T041315Z")
    assert contents(copy).items() <= before.items()
    assert {"base.duckdb", "hot.duckdb", "hot.duckdb.wal", "format.json"} <= set(contents(copy))
    assert contents(folder) == before
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700


def test_a_second_copy_of_the_same_second_is_a_copy_of_its_own(folder: Path) -> None:
    first, second = copy_aside(folder, AT_MS), copy_aside(folder, AT_MS)
    assert second.name == f"{first.name}-2"
    assert contents(first) == contents(second)


def test_a_journal_in_use_is_not_copied(folder: Path) -> None:
    """What is on the disk is not all of it, and copying would free the owner's locks."""
    store = DuckStore(folder)
    store.open()
    with pytest.raises(JournalHeldError):
        copy_aside(folder, AT_MS)
    store.close()
    assert list(folder.parent.glob("*aside*")) == []


def test_a_whole_journal_can_be_read_whole(folder: Path) -> None:
    base, hot = readable(copy_aside(folder, AT_MS))
    assert (base.problem, hot.problem) == (None, None)
    assert base.last_lsn is not None
    assert hot.last_lsn is not None
    assert hot.last_lsn > base.last_lsn
    assert hot.log_bytes > 0


def test_without_a_log_that_is_damaged_it_is_said_how_far_the_rest_goes(folder: Path) -> None:
    _, whole = readable(copy_aside(folder, AT_MS))
    _, damage = DAMAGES["the log has a flipped bit"]
    damage(folder)
    copy = copy_aside(folder, AT_MS + 1_000)
    before = contents(copy)
    base, hot = readable(copy)
    assert base.problem is None
    assert hot.problem is not None
    assert hot.is_without_log
    assert (hot.last_lsn or 0) < (whole.last_lsn or 0)
    assert contents(copy) == before


@pytest.mark.parametrize("name", ["base", "hot"])
def test_of_garbage_nothing_can_be_read(folder: Path, name: str) -> None:
    """Not even without its log: to give that up would be in vain."""
    _, damage = DAMAGES[f"{name} is garbage"]
    damage(folder)
    found = {one.file: one for one in readable(copy_aside(folder, AT_MS))}[f"{name}.duckdb"]
    assert found.problem is not None
    assert (found.is_without_log, found.fact_count, found.last_lsn) == (False, 0, None)
