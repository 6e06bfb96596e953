"""The folder of a journal: who can read it, what is refused, what a refusal leaves as it was."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from store_facts import ONE, TWO, Log, contents
from store_journals import closed_journal, journal_id, killed_journal

import nbdurable.store as store_package
from nbdurable.core.ids import digest_of
from nbdurable.core.records import Row, checksum, decode
from nbdurable.engine.recovery import recover
from nbdurable.errors import (
    JournalDamagedError,
    JournalGoneError,
    JournalHeldError,
    JournalVersionError,
    NbdurableError,
    StoreError,
)
from nbdurable.store import files
from nbdurable.store.duck import DuckStore
from nbdurable.store.files import network_file_system
from nbdurable.store.mark import lower_mark
from nbdurable.store.sql import QUERIES, parse


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".nbdurable"


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


# -- who can read it --------------------------------------------------------------------------


def test_nobody_else_can_read_a_journal_whatever_the_umask(folder: Path):
    """DuckDB makes files with the umask: new ones, and a new log after every checkpoint."""
    before = os.umask(0)
    try:
        store, log = DuckStore(folder), Log()
        store.open()
        for _ in range(2):
            store.append([log.epoch()])
            assert "hot.duckdb.wal" in modes(folder)
            assert set(modes(folder).values()) == {0o600, 0o700}
            store.absorb()
            assert {name for name, mode in modes(folder).items() if mode != 0o600} == {"blobs"}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        store.close()
    finally:
        os.umask(before)


def test_a_journal_is_not_committed_to_git_by_accident(folder: Path):
    closed_journal(folder)
    assert (folder / ".gitignore").read_text() == "*\n"


def test_format_json_says_what_the_journal_is(folder: Path):
    store = DuckStore(folder, created_by="nbdurable 9", now_ms=lambda: 77)
    store.open()
    store.close()
    note = json.loads((folder / "format.json").read_text())
    assert len(note.pop("journal_id")) == 32
    assert note == {"format": 2, "created_at_ms": 77, "created_by": "nbdurable 9"}


def test_a_folder_of_other_things_is_not_taken_over(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("x")
    before = tmp_path.stat().st_mode
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        DuckStore(tmp_path).open()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert tmp_path.stat().st_mode == before


def test_a_token_alone_is_in_no_journals_way(folder: Path):
    """Whoever serves a journal makes it, and may do so just when the folder is deleted."""
    folder.mkdir()
    (folder / "token").write_text("secret")
    store = DuckStore(folder)
    store.open()
    store.close()
    assert (folder / "token").read_text() == "secret"


def test_closing_leaves_nothing_behind_that_only_a_process_can_read(folder: Path):
    """No log, no note of an owner: the folder can be copied, moved, or read by any DuckDB."""
    closed_journal(folder)
    names = {path.name for path in folder.iterdir()}
    databases = {"base.duckdb", "hot.duckdb"}
    assert names == databases | {".gitignore", "acknowledged", "blobs", "format.json", "lock"}


def test_a_moved_journal_keeps_everything(folder: Path, tmp_path: Path):
    closed_journal(folder)
    moved = tmp_path / "elsewhere's"
    folder.rename(moved)
    store = DuckStore(moved)
    store.open()
    assert store.last_lsn() == 100
    assert len(store.read_rows(1, 100)) == len(list(store.load_state())) == 100
    store.close()


def test_opening_and_closing_a_clean_journal_writes_no_database(folder: Path):
    closed_journal(folder)
    before = contents(folder)
    store = DuckStore(folder)
    store.open()
    assert len(list(store.load())) == 100
    store.close()
    assert contents(folder) == before


# -- what is refused --------------------------------------------------------------------------


def test_a_newer_format_is_refused_with_its_number_and_nothing_is_modified(folder: Path):
    killed_journal(folder)
    note = json.loads((folder / "format.json").read_text())
    (folder / "format.json").write_text(json.dumps(note | {"format": 3, "created_by": "nbd 8.0"}))
    before = contents(folder)
    with pytest.raises(JournalVersionError, match=r"format 3, made by nbd 8\.0.*up to 2.*newer"):
        DuckStore(folder).open()
    assert contents(folder) == before


def overwrite(name: str, change):
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return damage


def flip(position: float):
    def change(found: bytes) -> bytes:
        at = int(len(found) * position)
        return found[:at] + bytes([found[at] ^ 0x10]) + found[at + 1 :]

    return change


def swap_in_other_base(folder: Path) -> None:
    other = folder.with_name("other")
    killed_journal(other)
    shutil.copy(other / "base.duckdb", folder / "base.duckdb")


def older_base(folder: Path) -> None:
    """A backup of base alone: what hot continues is not there."""
    before = (folder / "base.duckdb").read_bytes()
    store, log = DuckStore(folder), Log(25)
    store.open()
    store.append([log.epoch()])
    store.close()
    store.open()
    store.append([log.epoch()])
    saved = (folder / "hot.duckdb.wal").read_bytes()
    hot = (folder / "hot.duckdb").read_bytes()
    store.close()
    (folder / "base.duckdb").write_bytes(before)
    (folder / "hot.duckdb").write_bytes(hot)
    (folder / "hot.duckdb.wal").write_bytes(saved)


def rewrite(database: str, lsn: int, *, seal: bool = False, **columns: object):
    """Change a fact as no crash would; sealed, its checksum is right again."""

    def damage(folder: Path) -> None:
        with duckdb.connect(folder / f"{database}.duckdb") as connection:
            of = {"lsn": lsn}
            found = connection.execute("from fact where lsn = $lsn", of).fetchall()
            row = Row._make(found[0])._replace(**columns)
            values = columns | ({"crc": checksum(row)} if seal else {})
            sets = ", ".join(f"{name} = ${name}" for name in values)
            query = f"update fact set {sets} where lsn = $lsn"
            connection.execute(query, of | values)

    return damage


NEWER_FACT = {"kind": "Dreamt", "body": '{"type":"Dreamt"}'}

DAMAGES = {
    "base is garbage": ("base.duckdb", overwrite("base.duckdb", lambda found: b"garbage" * 9_000)),
    "base is empty": ("base.duckdb", overwrite("base.duckdb", lambda found: b"")),
    "base is cut": ("base.duckdb", overwrite("base.duckdb", lambda found: found[:9_000])),
    "base has a flipped bit": ("base.duckdb", overwrite("base.duckdb", flip(0.02))),
    "base is missing": ("base.duckdb", lambda folder: (folder / "base.duckdb").unlink()),
    "base is of another journal": ("base.duckdb", swap_in_other_base),
    "base is older than hot": ("hot.duckdb", older_base),
    "hot is missing": ("hot.duckdb", lambda folder: (folder / "hot.duckdb").unlink()),
    "hot is garbage": ("hot.duckdb", overwrite("hot.duckdb", lambda found: b"garbage" * 9_000)),
    "the log has a flipped bit": ("hot.duckdb", overwrite("hot.duckdb.wal", flip(0.5))),
    "a fact of hot has another checksum": ("hot.duckdb", rewrite("hot", 23, crc=7)),
    "a fact of hot has another time": ("hot.duckdb", rewrite("hot", 25, at_ms=7)),
    "a fact of hot has another body": ("hot.duckdb", rewrite("hot", 21, **NEWER_FACT)),
    "format.json is no JSON": ("format.json", overwrite("format.json", lambda found: b"{")),
    "format.json is another's": ("format.json", overwrite("format.json", lambda found: b"[1]")),
    "format.json is missing": ("format.json", lambda folder: (folder / "format.json").unlink()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_said_with_its_file_and_the_way_out_and_nothing_is_modified(
    folder: Path, damage: str
):
    """Whoever repairs it needs the files as they were found."""
    killed_journal(folder)
    file, do = DAMAGES[damage]
    do(folder)
    before = contents(folder)
    with pytest.raises(JournalDamagedError, match=rf"{file}.*is damaged.*aside.*backup.*away"):
        DuckStore(folder).open()
    assert contents(folder) == before


def test_a_wrong_fact_of_hot_is_named(folder: Path):
    killed_journal(folder)
    rewrite("hot", 23, at_ms=7)(folder)
    with pytest.raises(JournalDamagedError, match=r"fact 23 \(Command: SetState\)"):
        DuckStore(folder).open()


def test_a_fact_of_hot_from_a_newer_version_is_refused_and_nothing_is_modified(folder: Path):
    """Absorbed, it could never be given back to the version that knows it as it was."""
    killed_journal(folder)
    rewrite("hot", 23, seal=True, **NEWER_FACT)(folder)
    before = contents(folder)
    with pytest.raises(
        JournalVersionError, match=r"fact 23 \(Dreamt\).*Nothing was modified.*newer"
    ):
        DuckStore(folder).open()
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (rewrite("base", 1, crc=7), JournalDamagedError),
        (rewrite("base", 1, at_ms=7), JournalDamagedError),
        (rewrite("base", 1, seal=True, **NEWER_FACT), JournalVersionError),
    ],
)
def test_a_wrong_fact_of_base_is_refused_by_recovery_and_no_fact_is_lost(
    folder: Path, damage, error: type[NbdurableError]
):
    """Base is decoded once, by recovery; by then hot was absorbed, which changes no fact."""
    killed_journal(folder)
    damage(folder)
    store = DuckStore(folder)
    store.open()
    with pytest.raises(error, match=r"fact 1 \("):
        recover(store)
    rows = store.read_rows(1, 99)
    store.close()
    assert [row.lsn for row in rows] == list(range(1, 26))
    assert [decode(row).lsn for row in rows[1:]] == list(range(2, 26))
    was = Log().set("0", b"v" * 50)
    rewrite("base", 1, at_ms=was.at_ms, kind=was.kind, body=was.body, crc=was.crc)(folder)
    store.open()
    assert [decode(row).lsn for row in store.load()] == list(range(1, 26))
    store.close()


def newer_format(folder: Path) -> None:
    note = json.loads((folder / "format.json").read_text())
    (folder / "format.json").write_text(json.dumps(note | {"format": 3}))


REFUSALS = {name: do for name, (_, do) in DAMAGES.items()} | {
    "hot has a newer fact": rewrite("hot", 23, seal=True, **NEWER_FACT),
    "the format is newer": newer_format,
}


def put_back(folder: Path, saved: dict[str, tuple[int, bytes]]) -> None:
    for name in contents(folder).keys() - saved.keys():
        (folder / name).unlink()
    for name, (_, content) in saved.items():
        (folder / name).write_bytes(content)


def descriptors(folder: Path) -> list[str]:
    """What this process has open of the folder."""
    own = Path("/proc/self/fd")
    names = [str(path.readlink()) for path in own.iterdir() if path.is_symlink()]
    return [name for name in names if name.startswith(str(folder))]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refused_journal_opens_at_once_when_the_cause_is_gone(folder: Path, refusal: str):
    """In a notebook the process stays, and so does the exception with all its frames."""
    killed_journal(folder)
    saved = contents(folder)
    REFUSALS[refusal](folder)
    store = DuckStore(folder)
    for _ in range(2):
        with pytest.raises((JournalDamagedError, JournalVersionError)) as kept:
            store.open()
        if Path("/proc/self/fd").exists():
            assert descriptors(folder) == []
    put_back(folder, saved)
    for again in (DuckStore(folder), store):
        again.open()
        assert [row.lsn for row in again.load()] == list(range(1, 26))
        again.close()
    assert kept.value is not None


@pytest.mark.parametrize("position", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_no_flipped_bit_in_base_is_ever_taken_for_data(folder: Path, position: float):
    """Blocks are verified when they are read, so some damage shows only then; none is guessed."""
    closed_journal(folder, value_bytes=20_000)
    reference = DuckStore(folder)
    reference.open()
    expected = reference.read_rows(1, 100)
    reference.close()
    overwrite("base.duckdb", flip(position))(folder)
    before = contents(folder)
    store = DuckStore(folder)
    try:
        store.open()
        found = store.read_rows(1, 100)
        store.close()
    except JournalDamagedError:
        store.close()
    else:
        assert found == expected
    after = contents(folder)
    after.pop("owner.json", None)
    assert after == before


def test_a_torn_commit_at_the_end_of_the_log_is_no_damage(folder: Path):
    """It was never acknowledged; what came before it was."""
    killed_journal(folder)
    lower_mark(folder, journal_id(folder), 24)
    overwrite("hot.duckdb.wal", lambda found: found[:-9])(folder)
    store, log = DuckStore(folder), Log(24)
    store.open()
    assert store.last_lsn() == 24
    store.append([log.epoch()])
    store.reopen()
    assert [row.lsn for row in store.read_rows(1, 99)] == list(range(1, 26))
    store.close()


@pytest.mark.parametrize("left", ["nothing", "base", "both unfinished"])
def test_a_journal_whose_making_was_killed_is_made_again(folder: Path, left: str):
    store = DuckStore(folder)
    store.open()
    store.close()
    hot, base = folder / "hot.duckdb", folder / "base.duckdb"
    hot.rename(folder / "hot.duckdb.new")
    if left != "base":
        base.rename(folder / "base.duckdb.new")
    if left == "nothing":
        (folder / "base.duckdb.new").unlink()
        (folder / "hot.duckdb.new").unlink()
    store.open()
    store.append([Log().epoch()])
    store.close()
    assert not list(folder.glob("*.new*"))


def test_a_database_that_another_program_has_open_is_said_to_be_open_there(folder: Path):
    """DuckDB's own sentence about locks would send people to the wrong place."""
    closed_journal(folder)
    script = f"""
import duckdb, sys
held = duckdb.connect({str(folder / "base.duckdb")!r})
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(JournalHeldError, match=rf"open in process {other.pid}"):
            DuckStore(folder).open()
        other.communicate(b"")


# -- large payloads ---------------------------------------------------------------------------


def test_a_missing_or_changed_blob_is_named(folder: Path):
    store, log = DuckStore(folder), Log()
    store.open()
    store.append([log.set("large", b"x" * 100_000)])
    (blob,) = (folder / "blobs").iterdir()
    assert (stat.S_IMODE(blob.stat().st_mode), blob.stat().st_size) == (0o600, 100_000)
    blob.write_bytes(b"y" * 100_000)
    with pytest.raises(JournalDamagedError, match=rf"{blob.name} is damaged: its content"):
        store.read_payload(1)
    blob.unlink()
    with pytest.raises(JournalDamagedError, match=rf"{blob.name} is damaged: it is missing"):
        store.read_rows(1, 1)
    store.close()


@pytest.mark.parametrize("harm", ["lost", "changed"])
def test_a_harmed_blob_harms_only_whoever_reads_it(folder: Path, harm: str):
    """Neither the opening nor the recovery, and no other invocation."""
    store, log = DuckStore(folder), Log()
    rows = [log.created(ONE, b"x" * 100_000), log.created(TWO, b"y" * 100_000), log.set("n", b"1")]
    store.open()
    store.append(rows)
    blob = folder / "blobs" / digest_of(b"x" * 100_000)
    if harm == "lost":
        blob.unlink()
    else:
        blob.write_bytes(b"z" * 100_000)
    store.reopen()
    assert recover(store).state.invocations.keys() == {ONE, TWO}
    for read in (
        lambda: store.read_payload(1),
        lambda: store.read_payloads([1, 2]),
        lambda: store.read_journals([ONE], 1, 9),
        lambda: store.read_rows(1, 9),
    ):
        with pytest.raises(JournalDamagedError, match=rf"{blob.name} is damaged.*aside.*backup"):
            read()
    assert store.read_journals([TWO], 1, 9) == rows[1:2]
    assert store.read_payload(2) == b"y" * 100_000
    assert store.read_journals([ONE], 2, 9) == rows[2:]
    store.append([log.run(TWO)])
    store.close()


def test_a_blob_that_cannot_be_read_is_no_damage_and_no_error_of_the_system(folder: Path):
    store, log = DuckStore(folder), Log()
    store.open()
    store.append([log.created(ONE, b"x" * 100_000)])
    blob = folder / "blobs" / digest_of(b"x" * 100_000)
    blob.unlink()
    blob.mkdir()
    for read in (lambda: store.read_payload(1), lambda: store.read_journals([ONE], 1, 9)):
        with pytest.raises(StoreError, match="Is a directory"):
            read()
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize(("value_bytes", "count"), [(1_000_000, 350), (32_768, 12_000)])
def test_a_journal_larger_than_duckdbs_memory_is_absorbed_and_loaded(
    folder: Path, value_bytes: int, count: int
):
    """Of rows that large, a checkpoint and a sort each needed more than the 256 MiB they get."""
    store, log = DuckStore(folder), Log()
    store.open()
    while log.last_lsn < count:
        store.append([log.created(ONE, os.urandom(value_bytes)) for _ in range(50)])
        if store.wants_absorb():
            store.absorb()
    store.reopen()
    assert len(list(store.load())) == log.last_lsn
    for lsn in range(1, log.last_lsn + 1, 50):
        rows = store.read_rows(lsn, lsn + 49)
        assert sum(len(row.payload or b"") for row in rows) == 50 * value_bytes
    store.close()


# -- deleted while in use ---------------------------------------------------------------------


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def replace(folder: Path) -> None:
    other = folder.with_name("other")
    closed_journal(other)
    folder.rename(folder.with_name("moved"))
    other.rename(folder)


def unlink_log(folder: Path) -> None:
    (folder / "hot.duckdb.wal").unlink()


def swap_lock(folder: Path) -> None:
    (folder / "lock").unlink()
    (folder / "lock").touch()


@pytest.mark.parametrize("do", [remove, replace, unlink_log, swap_lock])
def test_a_journal_deleted_under_its_owner_is_noticed_before_a_commit_is_acknowledged(
    folder: Path, do
):
    """The deleted file goes on working for whoever has it open, and nobody would ever know."""
    store, log = DuckStore(folder), Log()
    store.open()
    store.append([log.epoch()])
    do(folder)
    with pytest.raises(JournalGoneError, match=rf"process {os.getpid()} was using it.*start again"):
        store.append([log.created(ONE)])
    with pytest.raises(StoreError):
        store.append([log.created(ONE)])
    store.close()


def test_reopening_does_not_make_a_deleted_journal_anew(folder: Path):
    store = DuckStore(folder)
    store.open()
    remove(folder)
    with pytest.raises(JournalGoneError):
        store.reopen()
    store.close()
    assert not folder.exists()


def test_a_log_deleted_before_reopening_is_missed_by_its_acknowledged_facts(folder: Path):
    store, log = DuckStore(folder), Log()
    store.open()
    store.append([log.epoch()])
    unlink_log(folder)
    with pytest.raises(JournalDamagedError, match="ends with fact 0, but 1 was acknowledged"):
        store.reopen()
    store.close()


def test_no_error_of_duckdb_ever_leaves_the_store(folder: Path):
    """Whoever catches ours has caught everything."""
    store, log = DuckStore(folder), Log()
    store.open()
    with pytest.raises(NbdurableError):
        store.append([log.epoch()._replace(crc="no number"), log.epoch()])
    store.reopen()
    assert store.last_lsn() == 0
    with pytest.raises(NbdurableError):
        store.append([Log().epoch()._replace(crc="no number")])
    store.reopen()
    store.append([Log().epoch()])
    assert store.last_lsn() == 1
    store.close()
    with pytest.raises(NbdurableError, match="not open"):
        store.read_rows(1, 2)


# -- rooms of their own -----------------------------------------------------------------------

MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 21 0:40 / /home rw shared:5 - nfs4 server:/home rw,vers=4.2
31 30 0:41 / /home/ada/local rw - xfs /dev/sdb rw
32 21 0:42 / /mnt/my\040share rw - fuse.sshfs ada@host: rw
33 21 0:43 / /mnt/c rw - 9p drvfs rw
34 21 0:44 / /over rw - overlay overlay rw
35 21 0:45 / /win rw - cifs //srv/x rw
36 35 0:46 / /win rw - tmpfs tmpfs rw
37 21 0:47 / /odd rw - somethingnew none rw
"""


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/data/.nbdurable", None),
        ("/home/ada/project/.nbdurable", "nfs4"),
        ("/homework/.nbdurable", None),
        ("/home/ada/local/.nbdurable", None),
        ("/mnt/my share/x", "fuse.sshfs"),
        ("/mnt/c/x", None),
        ("/over/x", None),
        ("/win/x", None),
        ("/odd/x", None),
    ],
)
def test_the_innermost_mount_says_whether_a_folder_is_on_the_network(folder, expected):
    assert network_file_system(folder, MOUNTS) == expected


def test_a_journal_on_a_network_file_system_is_refused_with_the_way_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """Two machines could own it at once, and neither would ever know."""
    monkeypatch.setattr(files, "network_file_system", lambda *_: "nfs4")
    with pytest.raises(StoreError, match=r"network file system \(nfs4\).*NBDURABLE_HOME") as said:
        DuckStore(folder).open()
    assert "Nothing was created" in str(said.value)
    assert not folder.exists()


def test_every_query_says_why_it_is_there_and_names_its_columns():
    for query in QUERIES.values():
        assert "select *" not in query
        assert query == query.strip() != ""
    with pytest.raises(AssertionError, match="does not say why"):
        parse("-- name: bare\nselect 1;")


def test_no_sql_is_written_among_python():
    """It is read as a whole, by people who look for what is asked of DuckDB."""
    for file in Path(store_package.__file__).parent.glob("*.py"):
        assert re.findall(r'execute\(\s*f?"(?!explain " \+)', file.read_text()) == [], file.name


def test_a_folder_may_be_called_anything(tmp_path: Path):
    store, log = DuckStore(tmp_path / 'Ada\'s "$path" ;--'), Log()
    for _ in range(2):
        store.open()
        store.append([log.epoch()])
        store.close()
    store.open()
    assert store.last_lsn() == 2
    store.close()


def test_the_fake_can_be_used_without_loading_duckdb():
    """The simulator and most of the tests start in a tenth of the time."""
    script = "import nbdurable.store.memory, sys; sys.exit('duckdb' in sys.modules)"
    path = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": path})
