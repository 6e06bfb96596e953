"""A journal of an older format becomes one of this format: once, at opening, after a copy of it.

Only forward, one number after the other. Each step is one transaction on one database, which also
moves that database's number, and `format.json` is written last: a process that is killed in between
leaves a journal that goes on from there. The folder `format-N` keeps the databases as they were;
with them in place of the new ones, the older nbdurable works again. Nobody needs it otherwise.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import duckdb

from nbdurable.store import files
from nbdurable.store.absorb import checkpoint, fold_into_snapshot, one
from nbdurable.store.files import BASE_FILE, FORMAT_FILE, UNFINISHED, Format
from nbdurable.store.instance import Instance
from nbdurable.store.lock import sync_folder, write_private
from nbdurable.store.sql import QUERIES
from nbdurable.store.troubles import decoding

# So many facts of base at once, since those of them that ended are in memory then.
_LSNS_AT_ONCE: Final = 50_000


def migrate(folder: Path, found: Format, created_by: str) -> Format:
    """Raises what opening raises for a journal that is damaged; then nothing was modified."""
    instance = Instance(folder)
    try:
        instance.verify(found)
        _keep_copy(instance, folder, found)
        instance.attach_to_migrate()
        writer = instance.cursor()
        for database in files.DATABASES:
            # A log may end in a commit that a kill tore. Nothing is written behind that.
            checkpoint(writer, database)
            with decoding(folder / BASE_FILE):
                _migrate(writer, database)
            checkpoint(writer, database)
    finally:
        instance.close()
    migrated = found._replace(version=files.FORMAT_VERSION)
    files.write_format(folder, migrated, created_by)
    return migrated


def _keep_copy(instance: Instance, folder: Path, found: Format) -> None:
    """By SQL: reading the files would drop DuckDB's lock on them."""
    kept = folder / f"format-{found.version}"
    if kept.exists():
        return  # By a process that was killed before it was done with the rest.
    unfinished = kept.with_name(kept.name + UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    instance.copy_to(unfinished)
    write_private(unfinished / FORMAT_FILE, (folder / FORMAT_FILE).read_bytes())
    files.make_private(unfinished)
    sync_folder(unfinished)
    unfinished.rename(kept)
    sync_folder(folder)


def _migrate(writer: duckdb.DuckDBPyConnection, database: str) -> None:
    version, *_ = one(writer, f"{database}_meta")
    for to in range(version + 1, files.FORMAT_VERSION + 1):
        writer.execute(QUERIES["begin_absorb"])
        writer.execute(QUERIES[f"migrate_{database}_to_{to}"])
        fill = _FILLS.get((database, to))
        if fill is not None:
            fill(writer)
        writer.execute(QUERIES["commit_absorb"])


def fill_snapshot(writer: duckdb.DuckDBPyConnection) -> None:
    """From all of base.fact, where there is none. Inside a transaction, or alone with it."""
    _, _, absorbed = one(writer, "base_meta")
    for first in range(1, absorbed + 1, _LSNS_AT_ONCE):
        fold_into_snapshot(writer, first, min(first + _LSNS_AT_ONCE - 1, absorbed))


# Projections that a step adds are made by the code that keeps them.
_FILLS: Final[dict[tuple[str, int], Callable[[duckdb.DuckDBPyConnection], None]]] = {
    ("base", 2): fill_snapshot,
}
