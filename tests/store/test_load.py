"""What opening reads of a journal: in parts, and of what has ended no more than it must."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_facts import ONE, TWO, Log
from store_journals import opened

from nbdurable.core.ids import InvocationId
from nbdurable.core.records import Row
from nbdurable.engine.recovery import recover
from nbdurable.store import duck
from nbdurable.store.memory import MemoryStore

THREE = InvocationId("inv_1three")


def facts() -> list[Row]:
    """Of one that has ended with a long journal, one that lost its journal, one that lives."""
    log = Log()
    rows = [log.epoch(1), log.created(ONE), log.started(ONE)]
    rows += [log.edited(str(number), b"%d" % number) for number in range(20)]
    rows += [log.set("n", b"1"), log.completed(ONE)]
    rows += [log.created(TWO), log.completed(TWO), log.journal_purged(TWO)]
    rows += [log.epoch(2), log.created(THREE), log.started(THREE), log.run(THREE)]
    return rows


def fake() -> MemoryStore:
    """Says what all of it folds to; its load is as if everything had its place in the snapshot."""
    store = MemoryStore()
    store.open()
    store.append(facts())
    store.absorb()
    return store


@pytest.mark.parametrize("part_facts", [1, 2, 5, 100])
@pytest.mark.parametrize("snapshot", ["none", "whole"])
def test_parts_come_to_the_same_as_the_whole(
    tmp_path: Path, part_facts: int, snapshot: str, monkeypatch: pytest.MonkeyPatch
):
    """Sorting a million facts at once took more memory than DuckDB may have."""
    store = opened(tmp_path / "j")
    store.append(facts())
    store.absorb()
    while snapshot == "whole" and store.wants_snapshot():
        store.extend_snapshot()
    whole = list(store.load())
    monkeypatch.setattr(duck, "LOAD_FACTS", part_facts)
    assert list(store.load()) == whole
    assert recover(store).state == recover(fake()).state
    assert (whole == list(fake().load())) is (snapshot == "whole")
    store.close()


def test_of_what_has_ended_its_journal_is_not_read(tmp_path: Path):
    """It may be long, and says nothing that its beginning and its end do not."""
    store = opened(tmp_path / "j")
    store.append(facts())
    store.absorb()
    kinds = [row.kind for row in store.load() if row.invocation_id in (ONE, TWO)]
    store.close()
    assert kinds == [
        "InvocationCreated",
        "InvocationCompleted",
        "InvocationCreated",
        "InvocationCompleted",
        "JournalPurged",
    ]


def test_what_is_known_of_those_whose_facts_are_gone_is_loaded(tmp_path: Path):
    """A journal may begin with lsns of any size, and end with facts that were purged."""
    store, log = opened(tmp_path / "j"), Log()
    store.append([log.epoch(1), log.created(ONE), log.completed(ONE), log.purged(ONE)])
    store.absorb()
    assert [row.lsn for row in store.load()] == [1]
    assert recover(store).state.last_lsn == 4
    store.close()
