"""A harmed journal is made anew of what can be read, after a copy; else it is left as it was."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import duckdb
import pytest
from store_facts import ONE, Log, contents
from store_journals import journal_id, killed_run, lsns, opened, run_apart
from test_duck_files import DAMAGES, flip, overwrite, rewrite

from nbdurable.core.ids import digest_of
from nbdurable.engine.recovery import recover
from nbdurable.errors import JournalDamagedError, JournalHeldError, JournalVersionError
from nbdurable.store.mark import MARK_FILE, read_mark
from nbdurable.store.repair import Examined, examine, repair

AT_MS = 1_795_666_395_000


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 facts absorbed, 5 in hot's log; all were acknowledged."""
    path = tmp_path_factory.mktemp("killed") / ".nbdurable"
    killed_run(path)
    return path


@pytest.fixture
def folder(tmp_path: Path, killed: Path) -> Path:
    return shutil.copytree(killed, tmp_path / ".nbdurable")


def remove(*names: str):
    def damage(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return damage


# What is harmed, and the last fact that is left by a repair. Nothing of these was ever purged, so
# that all can be folded again from the first fact on.
REPAIRED = {
    "the log of hot is missing": (remove("hot.duckdb.wal"), 20),
    "the log of hot is torn": (overwrite("hot.duckdb.wal", lambda found: found[:-9]), 24),
    "the log of hot has a flipped bit": (overwrite("hot.duckdb.wal", flip(0.5)), 22),
    "hot is missing": (remove("hot.duckdb", "hot.duckdb.wal"), 20),
    "hot is garbage": (DAMAGES["hot is garbage"][1], 20),
    "a fact of hot has another time": (rewrite("hot", 23, at_ms=7), 22),
    "a fact of base has another time": (rewrite("base", 15, at_ms=7), 14),
    "format.json is missing": (remove("format.json"), 25),
    "format.json is no JSON": (overwrite("format.json", lambda found: b"{"), 25),
    "all is harmed a little": (
        lambda folder: [
            rewrite("base", 15, at_ms=7)(folder),
            remove("format.json", "hot.duckdb.wal")(folder),
        ],
        14,
    ),
}


def repaired(folder: Path) -> tuple[Examined, Path]:
    found = examine(folder, AT_MS)
    copy = repair(folder, found, AT_MS)
    assert copy is not None
    return found, copy


@pytest.mark.parametrize("harm", REPAIRED)
def test_what_can_be_read_is_a_journal_again(folder: Path, harm: str):
    """Of the facts that are left, each is as it was, and so is the state that they fold to."""
    do, last_lsn = REPAIRED[harm]
    do(folder)
    harmed = contents(folder)
    found, copy = repaired(folder)
    assert found.harms
    assert (found.kept.last_lsn, found.given_up_count) == (last_lsn, 25 - last_lsn)
    assert contents(copy).items() <= harmed.items()
    assert set(harmed) - set(contents(copy)) == {"lock"}
    log = Log()
    facts = [log.created(ONE), *(log.edited(str(number), b"v" * 50) for number in range(19))]
    facts += [log.edited(str(number), b"w" * 50) for number in range(5)]
    store = opened(folder)
    assert store.read_rows(1, 99) == facts[:last_lsn]
    names = [*map(str, range(19)), *map(str, range(5))]
    last_set = dict(zip(names, range(2, last_lsn + 1), strict=False))
    assert {row.name: row.lsn for row in store.load_state()} == last_set
    assert recover(store).state.last_lsn == last_lsn
    store.append([Log(last_lsn).epoch()])
    store.close()
    assert not examine(folder, AT_MS).is_repairable


@pytest.mark.parametrize("harm", [*REPAIRED, *DAMAGES])
def test_to_examine_changes_nothing(folder: Path, harm: str):
    do = REPAIRED[harm][0] if harm in REPAIRED else DAMAGES[harm][1]
    do(folder)
    harmed = contents(folder)
    found = examine(folder, AT_MS)
    assert found.harms
    assert contents(folder) == harmed
    beside = {path.name for path in folder.parent.iterdir()} - {"other"}
    assert beside == {".nbdurable"}


@pytest.mark.parametrize("position", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_harmed_block_of_base_is_met_and_what_is_before_it_is_kept(folder: Path, position: float):
    """Blocks are read by no opening that does not need them; an examination reads all."""
    shutil.rmtree(folder)
    store, log, chance = opened(folder), Log(), random.Random(1)
    values = [log.edited(str(number), chance.randbytes(20_000)) for number in range(100)]
    store.append(values)
    store.close()
    store = opened(folder)
    whole = store.read_rows(1, 100)
    store.close()
    overwrite("base.duckdb", flip(position))(folder)
    found = examine(folder, AT_MS)
    if not found.is_repairable:
        assert found.is_hopeless or not found.harms
        return
    repaired(folder)
    store = opened(folder)
    assert store.read_rows(1, 100) == whole[: found.kept.last_lsn]
    store.close()


def test_of_nothing_nothing_is_made(folder: Path):
    """And it is left as it was: an empty journal in its place would look as if all were well."""
    DAMAGES["base is garbage"][1](folder)
    (folder / "hot.duckdb").unlink()
    found = examine(folder, AT_MS)
    assert found.is_hopeless
    assert not found.is_repairable


def test_what_follows_a_gap_is_not_folded_without_it(folder: Path):
    """Base lost its log: of hot's facts, which it continues, nobody knows what they build on."""
    (folder / "base.duckdb.wal").unlink()
    found = examine(folder, AT_MS)
    assert any("begins with fact 21" in harm for harm in found.harms)
    assert found.is_hopeless


def test_where_facts_were_forgotten_a_harmed_fact_is_not_made_up_for(tmp_path: Path):
    """State has outlived the facts that set it, so that nothing can fold it again."""
    store, log = opened(tmp_path / "j"), Log()
    store.append([log.created(ONE), log.set("n", b"1"), log.completed(ONE), log.purged(ONE)])
    store.append([log.epoch(number) for number in range(2, 9)])
    store.close()
    rewrite("base", 9, at_ms=7)(tmp_path / "j")
    found = examine(tmp_path / "j", AT_MS)
    assert any("fact 9" in harm for harm in found.harms)
    assert found.is_hopeless


def test_a_journal_that_is_whole_is_left_alone(folder: Path):
    before = contents(folder)
    assert examine(folder, AT_MS).harms == []
    assert not examine(folder, AT_MS).is_repairable
    assert contents(folder) == before


def test_a_journal_of_a_newer_version_is_not_repaired(folder: Path):
    note = json.loads((folder / "format.json").read_text())
    (folder / "format.json").write_text(json.dumps(note | {"format": 99}))
    with pytest.raises(JournalVersionError):
        examine(folder, AT_MS)


def test_what_has_changed_since_it_was_examined_is_not_repaired(folder: Path):
    """Somebody has agreed to give up one fact, not more."""
    whole = (folder / "hot.duckdb.wal").read_bytes()
    (folder / "hot.duckdb.wal").write_bytes(whole[:-9])
    found = examine(folder, AT_MS)
    (folder / "hot.duckdb.wal").write_bytes(whole[: len(whole) // 2])
    harmed = contents(folder)
    assert repair(folder, found, AT_MS) is None
    assert contents(folder) == harmed
    assert list(folder.parent.glob("*aside*")) == []


def test_a_journal_in_use_is_not_examined(folder: Path):
    store = opened(folder)
    with pytest.raises(JournalHeldError):
        examine(folder, AT_MS)
    store.close()


# -- large payloads -------------------------------------------------------------------------------

LARGE = b"large " * 10_000


@pytest.fixture
def with_files(tmp_path: Path) -> Path:
    """One file that a fact of a run names, and one that only state names: its fact was purged."""
    folder = tmp_path / "large"
    store, log = opened(folder), Log()
    store.append([log.created(ONE), log.set("n", LARGE * 2), log.completed(ONE), log.purged(ONE)])
    store.append([log.created(ONE, LARGE)])
    store.close()
    return folder


@pytest.mark.parametrize("how", ["missing", "harmed"])
def test_a_large_payload_that_is_lost_is_named_with_its_run(with_files: Path, how: str):
    path = with_files / "blobs" / digest_of(LARGE)
    path.unlink() if how == "missing" else path.write_bytes(b"else")
    found = examine(with_files, AT_MS)
    assert found.lost_files == {path.name: ONE}
    assert (found.harms, found.is_repairable) == ([], False)


def test_a_lost_payload_is_put_back_from_an_earlier_copy(with_files: Path):
    shutil.copytree(with_files, with_files.with_name("large-aside-20260101T000000Z"))
    for content in (LARGE, LARGE * 2):
        (with_files / "blobs" / digest_of(content)).unlink()
    assert set(examine(with_files, AT_MS).lost_files.values()) == {ONE, None}
    repaired(with_files)
    assert (with_files / "blobs" / digest_of(LARGE)).read_bytes() == LARGE
    store = opened(with_files)
    assert store.read_payload(2) == LARGE * 2
    store.close()


def test_projections_that_are_made_anew_are_as_they_were(with_files: Path):
    """State that no fact can say any more, the snapshot, the names of files."""

    def projections() -> list[list[tuple]]:
        with duckdb.connect(with_files / "base.duckdb", read_only=True) as connection:
            return [
                connection.execute(f"from {table} order by all").fetchall()
                for table in ("fact", "state", "snapshot", "blob", "meta")
            ]

    store = opened(with_files)
    log = Log(5)
    store.append([log.completed(ONE)])
    store.close()
    before = projections()
    (with_files / "hot.duckdb").write_bytes(b"garbage" * 9_000)
    repaired(with_files)
    assert projections() == before


# -- kills ----------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from nbdurable.store import repair as repairs

countdown = int(sys.argv[2])
folder = Path(sys.argv[1])
found = repairs.examine(folder, 0)

def counted(deed):
    def wrapper(*arguments, **named):
        global countdown
        countdown -= 1
        if countdown == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return deed(*arguments, **named)
    return wrapper

for name in ("rename", "unlink"):
    setattr(Path, name, counted(getattr(Path, name)))
repairs.repair(folder, found, 0)
print("done")
"""


@pytest.mark.kill
@pytest.mark.slow
def test_a_repair_that_is_killed_is_done_by_the_next_one(folder: Path):
    """At every other change of a name. What the first one would have kept, the second keeps."""
    log = folder / "hot.duckdb.wal"
    log.write_bytes(log.read_bytes()[:-9])
    saved = folder.with_name("saved")
    shutil.copytree(folder, saved)
    kill_count = 0
    for number in range(1, 1_000):
        if run_apart(KILLED, folder, 2 * number, check=False) == "done\n":
            break
        kill_count += 1
        try:
            store = opened(folder)
        except JournalDamagedError:
            repaired(folder)
            assert list(folder.parent.glob("*-repair-*")) == []
            store = opened(folder)
        assert lsns(store) == list(range(1, 25)), f"killed at {2 * number}"
        store.close()
        for path in [folder, *folder.parent.glob("*aside*"), *folder.parent.glob("*-repair-*")]:
            shutil.rmtree(path)
        shutil.copytree(saved, folder)
    assert kill_count > 3


def test_the_witness_is_lowered_to_what_is_left(folder: Path):
    (folder / "hot.duckdb.wal").unlink()
    repaired(folder)
    assert read_mark(folder, journal_id(folder)) == 20
    assert (folder / MARK_FILE).exists()
