"""A harmed journal made anew of what can be read of it, after a copy of all that was found.

Never in place, and never by guessing: the facts that can be trusted are copied into new databases
in a folder of their own; the ordinary code opens these, which checks and folds everything; only
then do they take the place of the harmed ones. Base goes first: killed in between, the old hot
holds copies that base knows, or is harmed as before, and a second repair goes on from there.

What is acknowledged and cannot be read is given up by that. It is said before, with its time, and
stays in the copy.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb

from nbdurable.core.ids import digest_of
from nbdurable.core.machine import EngineMachine
from nbdurable.engine.recovery import recover
from nbdurable.errors import JournalDamagedError
from nbdurable.store import files
from nbdurable.store.absorb import one
from nbdurable.store.duck import DuckStore
from nbdurable.store.files import BASE_FILE, BLOBS_FOLDER, FORMAT_FILE, HOT_FILE, Format, wal_of
from nbdurable.store.instance import MEMORY_LIMIT, Instance, create_databases
from nbdurable.store.lock import (
    LOCK_FILE,
    OWNER_FILE,
    OwnerLock,
    sync_folder,
    write_private,
)
from nbdurable.store.mark import lower_mark, read_mark
from nbdurable.store.migrate import fill_snapshot
from nbdurable.store.rescue import ASIDE, copy_files
from nbdurable.store.salvage import Facts, Part, aside, facts_of, readable_part, values_of
from nbdurable.store.sql import QUERIES
from nbdurable.store.troubles import translate

_NOTHING: Final = Facts(0, 0, None, None, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a journal would be made anew of.

    Attributes:
        is_base_whole: Then its facts and its state stay as they are; else all is absorbed again.
        last_lsn: Of the last fact that is kept.

    Units: last_at_ms – milliseconds since the epoch; None when no fact is kept.
    """

    begun: Format
    is_base_whole: bool
    base_last_lsn: int
    last_lsn: int
    last_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What was found of a journal that nobody has open.

    Attributes:
        harms: What is wrong with its databases, a sentence each; empty when they are whole.
        kept: None when nothing need be made anew, or nothing can.
        acknowledged: The last lsn that somebody was told of; 0 when nobody knows.
        file_count: Of the large payloads that are named, by facts or by the state.
        lost_files: Of large payloads, and whose they are; None for those of no invocation.
        found_files: Of those, the ones that an earlier copy has, and where.
    """

    harms: list[str] = field(default_factory=list)
    kept: Kept | None = None
    acknowledged: int = 0
    file_count: int = 0
    lost_files: dict[str, str | None] = field(default_factory=dict)
    found_files: dict[str, Path] = field(default_factory=dict)

    @property
    def is_hopeless(self) -> bool:
        return bool(self.harms) and self.kept is None

    @property
    def is_repairable(self) -> bool:
        return self.kept is not None or bool(self.found_files)

    @property
    def given_up_count(self) -> int:
        """Of facts that were acknowledged; there may be more when nobody knows of any."""
        last_lsn = self.acknowledged if self.kept is None else self.kept.last_lsn
        return max(0, self.acknowledged - last_lsn)


def examine(folder: Path, now_ms: int) -> Examined:
    """Read all of a journal, and change nothing.

    Raises:
        JournalHeldError: Somebody has it open.
        JournalVersionError: A newer version wrote it.
    """
    with _held(folder, now_ms), _scratch(folder) as scratch:
        return _examine(folder, scratch)[0]


def look(folder: Path, now_ms: int) -> tuple[Examined, EngineMachine | None]:
    """The same, and what its facts fold to; None where that cannot be said.

    Folded in a copy that is gone afterwards, since to open a journal is to absorb its log.

    Raises:
        JournalHeldError: Somebody has it open.
        JournalVersionError: A newer version wrote it.
    """
    with _held(folder, now_ms), _scratch(folder) as scratch:
        found, _ = _examine(folder, scratch)
        if found.harms:
            return found, None
        copy = scratch / "journal"
        unneeded = shutil.ignore_patterns(LOCK_FILE, OWNER_FILE, BLOBS_FOLDER, files.SPILL_FOLDER)
        shutil.copytree(folder, copy, ignore=unneeded)
        store = DuckStore(copy)
        store.open()
        try:
            return found, recover(store)
        finally:
            store.close()


def repair(folder: Path, expected: Examined, now_ms: int) -> Path | None:
    """Copy it aside, and carry out what was examined. Returns the copy.

    None, and nothing was done, when it is not any more as it was when it was examined.

    Raises:
        JournalHeldError: Somebody has it open.
        JournalDamagedError: What can be read does not make a journal; nothing was changed.
    """
    with _held(folder, now_ms):
        copy = copy_files(folder, now_ms)
        with _scratch(folder) as scratch:
            found, parts = _examine(folder, scratch)
            if found != expected:
                shutil.rmtree(copy)
                return None
            if found.kept is not None:
                made = scratch / "journal"
                _make_anew(folder, made, found.kept, parts)
                _put_in_place(made, folder)
                lower_mark(folder, found.kept.begun.journal_id, found.kept.last_lsn)
            for name, source in found.found_files.items():
                write_private(folder / BLOBS_FOLDER / name, source.read_bytes())
    return copy


def _examine(folder: Path, scratch: Path) -> tuple[Examined, dict[str, Part]]:
    parts: dict[str, Part] = {}
    for database, file in files.DATABASES.items():
        (scratch / database).mkdir()
        parts[database] = readable_part(folder / file, scratch / database)
    harms: list[str] = []
    begun = _format_of(folder, parts, harms)
    if begun is None:
        return Examined(harms=harms), parts
    harms += _refusals(folder, begun) if not harms else []
    base, absorbed_lsn, state_files = _base_of(parts["base"], begun, harms)
    is_whole = base is not None and base.problem is None and state_files is not None
    hot = _NOTHING
    base_last_lsn = absorbed_lsn if is_whole else _prefix_of(base)
    if _is_of(parts["hot"], begun):
        assert parts["hot"].path is not None
        hot = facts_of(parts["hot"].path, base_last_lsn + 1, is_dense=True)
        if hot.problem is not None and (is_whole or hot.fact_count):
            harms.append(f"{HOT_FILE}: {hot.problem}")
    acknowledged = read_mark(folder, begun.journal_id)
    last_lsn = hot.last_lsn if hot.fact_count else base_last_lsn
    last_at_ms = hot.last_at_ms or (None if base is None else base.last_at_ms)
    if acknowledged > last_lsn and not harms:
        harms.append(f"it ends with fact {last_lsn}, but {acknowledged} was acknowledged")
    kept = Kept(
        begun=begun._replace(version=files.FORMAT_VERSION),
        is_base_whole=is_whole,
        base_last_lsn=base_last_lsn,
        last_lsn=last_lsn,
        last_at_ms=last_at_ms,
    )
    named = dict.fromkeys(state_files or ()) | (base or _NOTHING).files | hot.files
    lost = {name: run for name, run in named.items() if not _is_there(folder, name)}
    return Examined(
        harms=harms,
        kept=kept if harms and last_lsn else None,
        acknowledged=acknowledged,
        file_count=len(named),
        lost_files=lost,
        found_files={name: at for name in lost if (at := _elsewhere(folder, name)) is not None},
    ), parts


def _format_of(folder: Path, parts: dict[str, Part], harms: list[str]) -> Format | None:
    """What `format.json` says, or else what the databases say of themselves."""
    problem = f"{FORMAT_FILE} is missing"
    try:
        begun = files.read_format(folder)
        if begun is not None:
            return begun
    except JournalDamagedError as error:
        problem = str(error)
    harms.append(problem)
    for part in parts.values():
        if part.path is not None:
            with aside(part.path) as connection:
                ((journal_id, created_at_ms),) = connection.execute(
                    QUERIES["aside_journal"]
                ).fetchall()
            return Format(files.FORMAT_VERSION, str(journal_id), int(created_at_ms))
    return None


def _refusals(folder: Path, begun: Format) -> list[str]:
    """What opening it would say."""
    instance = Instance(folder)
    try:
        instance.verify(begun)
    except JournalDamagedError as error:
        return [str(error).partition(f" {files.NOTHING_MODIFIED}")[0].rstrip(".")]
    finally:
        instance.close()
    return []


def _base_of(
    part: Part, begun: Format, harms: list[str]
) -> tuple[Facts | None, int, set[str] | None]:
    """Its facts, how far it has absorbed, and the files its state names; None if that is harmed."""
    if not _is_of(part, begun):
        return None, 0, None
    assert part.path is not None
    with aside(part.path) as connection:
        (absorbed_lsn,) = one(connection, "aside_absorbed")
    base = facts_of(part.path, 1, is_dense=False)
    if base.problem is None and base.last_lsn > absorbed_lsn:
        base = base._replace(problem=f"it has fact {base.last_lsn} but ends at {absorbed_lsn}")
    problem, state_files = values_of(part.path)
    harms += [f"{BASE_FILE}: {found}" for found in (base.problem, problem) if found is not None]
    return base, absorbed_lsn, state_files if problem is None else None


def _prefix_of(base: Facts | None) -> int:
    """The last of base's facts that are without a gap from the first one on: nothing was purged."""
    return base.last_lsn if base is not None and base.fact_count == base.last_lsn else 0


def _is_of(part: Part, begun: Format) -> bool:
    """Whether it can be read and belongs to this journal."""
    if part.path is None:
        return False
    with aside(part.path) as connection:
        ((journal_id, _),) = connection.execute(QUERIES["aside_journal"]).fetchall()
    return bool(journal_id == begun.journal_id)


def _make_anew(folder: Path, made: Path, kept: Kept, parts: dict[str, Part]) -> None:
    """A whole journal of what is kept, absorbed and folded by the ordinary code."""
    made.mkdir(mode=0o700)
    files.write_format(made, kept.begun, "nbdurable doctor --repair")
    create_databases(made, kept.begun)
    with duckdb.connect(":memory:", config={"memory_limit": MEMORY_LIMIT}) as connection:
        connection.execute(QUERIES["begin_instance"])
        for database, file in files.DATABASES.items():
            connection.execute(QUERIES[f"attach_{database}"], {"path": str(made / file)})
        _copy_base(connection, kept, parts["base"])
        _copy_hot(connection, kept, parts["hot"])
        for database in files.DATABASES:
            connection.execute(QUERIES[f"checkpoint_{database}"])
    store = DuckStore(made)
    store.open()
    try:
        recover(store)
        assert store.last_lsn() == kept.last_lsn
    except (AssertionError, LookupError) as error:
        found = f"what can be read of it is no whole journal ({type(error).__name__}: {error})"
        raise files.damaged(folder, found) from error
    finally:
        store.close()


def _copy_base(connection: duckdb.DuckDBPyConnection, kept: Kept, part: Part) -> None:
    if part.path is None:
        return
    connection.execute(QUERIES["read_aside"], {"path": str(part.path)})
    if kept.is_base_whole:
        connection.execute(QUERIES["remake_base"])
        fill_snapshot(connection)
    elif kept.base_last_lsn:
        span = {"first_lsn": 1, "last_lsn": kept.base_last_lsn}
        connection.execute(QUERIES["remake_hot"], span)
    connection.execute(QUERIES["detach_aside"])


def _copy_hot(connection: duckdb.DuckDBPyConnection, kept: Kept, part: Part) -> None:
    if part.path is None or kept.last_lsn == kept.base_last_lsn:
        return
    connection.execute(QUERIES["read_aside"], {"path": str(part.path)})
    span = {"first_lsn": kept.base_last_lsn + 1, "last_lsn": kept.last_lsn}
    connection.execute(QUERIES["remake_hot"], span)
    connection.execute(QUERIES["detach_aside"])


def _put_in_place(made: Path, folder: Path) -> None:
    for file in files.DATABASE_FILES:
        (made / file).chmod(0o600)
        # Renamed before the old log goes: without it the harmed database would look whole.
        (made / file).rename(folder / file)
        wal_of(folder / file).unlink(missing_ok=True)
        sync_folder(folder)
    write_private(folder / FORMAT_FILE, (made / FORMAT_FILE).read_bytes())


def _is_there(folder: Path, name: str) -> bool:
    try:
        return digest_of((folder / BLOBS_FOLDER / name).read_bytes()) == name
    except OSError:
        return False


def _elsewhere(folder: Path, name: str) -> Path | None:
    """The file in a copy that was set aside earlier, if it is whole there."""
    for copy in sorted(folder.parent.glob(f"{folder.name}{ASIDE}*")):
        if _is_there(copy, name):
            return copy / BLOBS_FOLDER / name
    return None


@contextmanager
def _held(folder: Path, now_ms: int) -> Iterator[None]:
    lock = OwnerLock(folder, lambda: now_ms)
    lock.acquire()
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise translate(error, "repairing the journal", folder) from error
    finally:
        lock.release()


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """On the journal's disk, so that files can be linked and renamed; gone afterwards."""
    prefix = f"{folder.name}-repair-"
    # Of one that was killed: the journal is held, so no other is at work.
    for left in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
