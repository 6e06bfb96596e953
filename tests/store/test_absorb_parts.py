"""What is too much for one transaction is absorbed in parts, and comes to the same."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from store_facts import ONE, TWO, Log, contents
from store_journals import opened
from test_duck_files import rewrite

from nbdurable.core.records import Row
from nbdurable.errors import JournalDamagedError
from nbdurable.store import absorb
from nbdurable.store.duck import DuckStore

# Of thousands of values that one handler sets, in one commit. DuckDB may have 256 MiB.
VALUES, VALUE_BYTES = 6_000, 30_000


def group(log: Log) -> list[Row]:
    """State set and cleared, a run that ends, one that is purged, and one that lives again."""
    rows = [log.created(ONE), log.created(TWO)]
    for number in range(20):
        rows += [log.set(str(number % 7), b"%d" % number * 40), log.run(TWO)]
    rows += [log.clear("3"), log.completed(ONE), log.purged(ONE), log.created(ONE)]
    rows += [log.set(str(number), b"again" * 40) for number in range(3)]
    rows += [log.completed(TWO), log.journal_purged(TWO), log.clear_all(), log.set("z", b"1")]
    return rows


def everything(store: DuckStore) -> tuple[object, ...]:
    """With its snapshot at its end, as opening leaves it: it decides the order of what ended."""
    store.extend_snapshot()
    return list(store.load()), list(store.load_state()), store.read_rows(1, 999)


@pytest.fixture
def whole(tmp_path: Path) -> tuple[object, ...]:
    """What one transaction makes of it."""
    store = opened(tmp_path / "whole")
    store.append(group(Log()))
    store.absorb()
    found = everything(store)
    store.close()
    return found


def in_parts_of(fact_count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absorb, "LOG_BYTES_MAX", 0)
    monkeypatch.setattr(absorb, "PART_FACTS", fact_count)


@pytest.mark.parametrize("fact_count", [1, 2, 7, 40, 1_000])
def test_parts_come_to_the_same_as_the_whole(
    tmp_path: Path, whole, fact_count: int, monkeypatch: pytest.MonkeyPatch
):
    in_parts_of(fact_count, monkeypatch)
    store = opened(tmp_path / "parts")
    store.append(group(Log()))
    store.absorb()
    assert everything(store) == whole
    store.close()


@pytest.mark.parametrize("parts_done", [1, 2, 5])
def test_what_was_absorbed_in_part_when_it_was_killed_is_absorbed_to_the_end(
    tmp_path: Path, whole, parts_done: int, monkeypatch: pytest.MonkeyPatch
):
    """Base has some of hot's facts then, and hot still has all."""
    in_parts_of(7, monkeypatch)
    fold, left = absorb.fold_into_base, parts_done

    def killed(writer, last_lsn: int) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        fold(writer, last_lsn)

    store = opened(tmp_path / "parts")
    store.append(group(Log()))
    with monkeypatch.context() as patched:
        patched.setattr(absorb, "fold_into_base", killed)
        with pytest.raises(KeyboardInterrupt):
            store.absorb()
    # As the disk is at that moment.
    shutil.copytree(store.folder, tmp_path / "killed")
    store.close()
    store = opened(tmp_path / "killed")
    assert everything(store) == whole
    store.close()
    # And with a copy that is another than base has.
    rewrite("base", 1, at_ms=7, seal=True)(tmp_path / "parts")
    harmed = contents(tmp_path / "parts")
    with pytest.raises(JournalDamagedError, match=r"hot\.duckdb.*1 of its facts are others"):
        opened(tmp_path / "parts")
    assert contents(tmp_path / "parts") == harmed


@pytest.mark.slow
def test_a_commit_larger_than_memory_can_hold_twice_is_absorbed(tmp_path: Path):
    """Else the journal could never be opened again: opening it absorbs first of all."""
    chance = random.Random(1)
    store, log = opened(tmp_path / "j"), Log()
    store.append([log.set(str(n), chance.randbytes(VALUE_BYTES)) for n in range(VALUES)])
    store.absorb()
    assert sum(row.value_bytes for row in store.load_state()) == VALUES * VALUE_BYTES
    store.close()
