"""A journal that an older nbdurable wrote opens here, and is then like one that was made here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from store_facts import CART, ONE, TWO, Log, contents

from nbdurable.core.ids import InvocationId, digest_of
from nbdurable.core.records import Row
from nbdurable.engine.recovery import recover
from nbdurable.errors import JournalDamagedError
from nbdurable.store.blobs import MARK
from nbdurable.store.duck import DuckStore
from nbdurable.store.memory import MemoryStore
from nbdurable.store.sql import QUERIES, parse

FORMAT_1 = parse((Path(__file__).parent / "format_1.sql").read_text())
THREE = InvocationId("inv_1three")
VALUE_LSN = 5
LARGE = b"large " * 10_000


def facts() -> list[Row]:
    """One that has ended, one that has lost its journal, one that lives; state and a promise."""
    log = Log()
    return [
        log.epoch(1),
        log.link_opened("here"),
        log.created(ONE),
        log.started(ONE),
        log.set("n", b"1"),
        log.completed(ONE),
        log.created(TWO),
        log.promise("p", b"2"),
        log.completed(TWO),
        log.created(THREE, LARGE),
        log.started(THREE),
        log.journal_purged(TWO),
        log.completed(THREE),
        log.purged(ONE),
        log.epoch(2),
        log.created(ONE),
        log.set("n", b"3"),
    ]


def journal_of_format_1(folder: Path, absorbed_lsn: int = 12) -> list[Row]:
    """As a kill has left it: some facts absorbed, the others in hot's write-ahead log.

    Not past the purge, which takes facts out of base when it is absorbed.
    """
    folder.mkdir()
    (folder / "format.json").write_text(
        json.dumps({"format": 1, "journal_id": "0" * 32, "created_at_ms": 5, "created_by": "old"})
    )
    rows = [stored(row, folder / "blobs") for row in facts()]
    connection = duckdb.connect(":memory:")
    connection.execute("pragma disable_checkpoint_on_shutdown")
    for database in ("base", "hot"):
        file = folder / f"{database}.duckdb"
        connection.execute(QUERIES[f"attach_{database}"], {"path": str(file)})
        connection.execute(FORMAT_1[f"create_{database}"])
    connection.execute("insert into base.meta values (1, ?, 5, ?)", ["0" * 32, absorbed_lsn])
    connection.execute("insert into hot.meta values (1, ?, 5)", ["0" * 32])
    insert = "insert into {}.fact values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    for row in rows[:absorbed_lsn]:
        connection.execute(insert.format("base"), row)
    if absorbed_lsn >= VALUE_LSN:
        value = [CART.service, CART.key, "n", b"1", VALUE_LSN, digest_of(b"1"), True, 1]
        connection.execute("insert into base.state values (?, ?, ?, ?, ?, ?, ?, ?)", value)
    connection.execute("checkpoint base")
    connection.execute("checkpoint hot")
    for row in rows[absorbed_lsn:]:
        connection.execute(insert.format("hot"), row)
    connection.close()
    return facts()


def stored(row: Row, blobs: Path) -> Row:
    """Its payload is a file if it is large."""
    if row.payload != LARGE:
        return row
    blobs.mkdir(exist_ok=True)
    (blobs / digest_of(LARGE)).write_bytes(LARGE)
    return row._replace(payload=MARK + digest_of(LARGE).encode())


def tables(folder: Path) -> list[tuple]:
    """Every column of both databases."""
    connection = duckdb.connect(":memory:")
    for database in ("base", "hot"):
        connection.execute(f"attach '{folder / database}.duckdb' as {database} (read_only)")
    found = connection.execute(
        "select database_name, table_name, column_index, column_name, data_type, is_nullable,"
        " column_default from duckdb_columns() where database_name in ('base', 'hot') order by all"
    ).fetchall()
    indexes = connection.execute("select count(*) from duckdb_indexes()").fetchall()
    constraints = connection.execute("select count(*) from duckdb_constraints()").fetchall()
    connection.close()
    return [*found, *indexes, *constraints]


@pytest.mark.parametrize("absorbed_lsn", [0, 5, 12, 13])
def test_a_journal_of_format_1_opens_with_all_it_held(tmp_path: Path, absorbed_lsn: int):
    """Wherever its last absorb was. The fake, which was given the same facts, says what it held."""
    rows = journal_of_format_1(tmp_path / "j", absorbed_lsn)
    fake = MemoryStore()
    fake.open()
    fake.append(rows)
    fake.absorb()
    store = DuckStore(tmp_path / "j", created_by="nbdurable 9")
    store.open()
    assert store.last_lsn() == 17
    assert list(store.load()) == list(fake.load())
    assert store.read_rows(1, 99) == fake.read_rows(1, 99)
    assert recover(store).state == recover(fake).state
    store.close()
    # Long after, no file is swept away that is still named.
    store = DuckStore(tmp_path / "j", now_ms=lambda: 2**50)
    store.open()
    assert store.read_payload(10) == LARGE
    store.close()
    note = json.loads((tmp_path / "j" / "format.json").read_text())
    assert note == {
        "format": 2,
        "journal_id": "0" * 32,
        "created_at_ms": 5,
        "created_by": "nbdurable 9",
    }


def test_a_migrated_journal_has_the_tables_of_a_new_one(tmp_path: Path):
    journal_of_format_1(tmp_path / "old")
    for name in ("old", "new"):
        store = DuckStore(tmp_path / name)
        store.open()
        store.close()
    assert tables(tmp_path / "old") == tables(tmp_path / "new")


def test_the_databases_are_kept_as_they_were(tmp_path: Path):
    """Whoever must go back to the older nbdurable puts them where the new ones are."""
    rows = journal_of_format_1(tmp_path / "j")
    store = DuckStore(tmp_path / "j")
    store.open()
    store.close()
    kept = tmp_path / "j" / "format-1"
    assert {path.name for path in kept.iterdir()} == {"base.duckdb", "hot.duckdb", "format.json"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in (kept, *kept.iterdir()))
    connection = duckdb.connect(":memory:")
    for database in ("base", "hot"):
        connection.execute(f"attach '{kept / database}.duckdb' as {database} (read_only)")
    found = "select lsn from {}.fact order by lsn"
    lsns = [
        [lsn for (lsn,) in connection.execute(found.format(database)).fetchall()]
        for database in ("base", "hot")
    ]
    connection.close()
    assert lsns == [[row.lsn for row in rows[:12]], [row.lsn for row in rows[12:]]]
    assert json.loads((kept / "format.json").read_text())["format"] == 1


def test_a_damaged_journal_of_format_1_is_refused_as_it_is(tmp_path: Path):
    journal_of_format_1(tmp_path / "j")
    (tmp_path / "j" / "hot.duckdb").unlink()
    before = contents(tmp_path / "j")
    with pytest.raises(JournalDamagedError, match=r"hot\.duckdb"):
        DuckStore(tmp_path / "j").open()
    after = contents(tmp_path / "j")
    assert {name: after[name] for name in before} == before
    assert "format-1" not in {path.name for path in (tmp_path / "j").iterdir()}


# Migrates one copy after the other, each in a child that kills itself before its n-th statement to
# DuckDB, or before the n-th thing that it does to a file itself; until one comes to its end.
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from nbdurable.store import migrate
from nbdurable.store.duck import DuckStore

old, work = Path(sys.argv[1]), Path(sys.argv[2])
left = 0

def one_more():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

class Connection:
    def __init__(self, connection):
        self.connection = connection
    def __getattr__(self, name):
        return getattr(self.connection, name)
    def execute(self, *query):
        one_more()
        return self.connection.execute(*query)

class Instance(migrate.Instance):
    def __init__(self, folder):
        super().__init__(folder)
        self._connection = Connection(self._connection)
    def cursor(self):
        return Connection(super().cursor())

def before(does):
    def killed_before(*words, **named):
        one_more()
        return does(*words, **named)
    return killed_before

def watched():
    migrate.Instance = Instance
    Path.rename, os.fsync, shutil.rmtree = map(before, (Path.rename, os.fsync, shutil.rmtree))

for number in range(1, 1_000):
    folder = work / str(number)
    shutil.copytree(old, folder)
    child = os.fork()
    if child == 0:
        # Nothing of DuckDB is loaded by then that would not survive a fork.
        watched()
        left = number
        store = DuckStore(folder)
        store.open()
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(number, flush=True)
    if ended == 0:
        break
    assert ended == -signal.SIGKILL, ended
"""


@pytest.mark.kill
@pytest.mark.slow
def test_a_kill_anywhere_in_a_migration_is_made_up_for_by_the_next_opening(tmp_path: Path):
    journal_of_format_1(tmp_path / "old")
    fake = MemoryStore()
    fake.open()
    fake.append(facts())
    fake.absorb()
    path = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    script = [sys.executable, "-c", KILLED, str(tmp_path / "old"), str(tmp_path)]
    killing = subprocess.run(
        script, env={"PYTHONPATH": path}, check=True, capture_output=True, text=True
    )
    *kills, _ = map(int, killing.stdout.split())
    formats: set[int] = set()
    for number in kills:
        folder = tmp_path / str(number)
        formats.add(json.loads((folder / "format.json").read_text())["format"])
        store = DuckStore(folder)
        store.open()
        assert list(store.load()) == list(fake.load()), f"killed at {number}"
        assert store.read_rows(1, 99) == fake.read_rows(1, 99), f"killed at {number}"
        store.close()
        kept = folder / "format-1"
        assert {file.name for file in kept.iterdir()} == {
            "base.duckdb", "hot.duckdb", "format.json"
        }  # fmt: skip
        assert json.loads((kept / "format.json").read_text())["format"] == 1
        assert json.loads((folder / "format.json").read_text())["format"] == 2
    assert len(kills) > 30
    assert formats == {1, 2}, "there was none after the last step"
    assert tables(tmp_path / str(kills[-1])) == tables(tmp_path / str(kills[0]))
