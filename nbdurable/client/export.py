"""A journal as Parquet: one file per table, for whoever wants to look at it without an engine.

Asked like everything else of a journal, page by page, so that neither the engine nor the client has
to hold all of it. The pages are of moments a little apart: what goes on meanwhile may be in one
table and not yet in another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from nbdurable.client.found_arrow import table_of
from nbdurable.client.query import Found, Parameters
from nbdurable.engine.ports import AnswerLimits
from nbdurable.errors import InvocationNotFoundError, NbdurableError, QueryError
from nbdurable.store.sql import parse

_SQL: Final = parse(resources.files(__package__).joinpath("sql/export.sql").read_text("utf-8"))

# Every page reads the whole log once, and what it finds is held once: hence many, but not all.
PAGE_KEYS: Final = 5_000
PAGE_LIMITS: Final = AnswerLimits(bytes_max=64 * 1024 * 1024)

_PLACE: Final = "concat_ws('/', scope, service_name, service_key)"


class _Table(NamedTuple):
    """`payloads` are the columns with what users have put in, and got out."""

    name: str
    key: str = "id"
    payloads: tuple[str, ...] = ()


_OF_INVOCATIONS: Final = (
    _Table("sys_invocation"),
    _Table("sys_journal", payloads=("raw", "entry_json", "entry_lite_json")),
    _Table("sys_journal_events"),
    _Table("output", payloads=("value", "value_utf8")),
    _Table("sys_inbox"),
)
_OF_KEYS: Final = (
    _Table("state", _PLACE, ("value", "value_utf8")),
    _Table("sys_promise", _PLACE, ("completion_success_value", "completion_success_value_utf8")),
    _Table("sys_locks", "concat_ws('/', scope, lock_name)"),
)
_OF_SERVICES: Final = (_Table("sys_service", "name"), _Table("sys_deployment", "services[1]"))


class Asks(Protocol):
    """A client, wherever its engine is."""

    async def query(
        self, sql: str, parameters: Parameters | None, limits: AnswerLimits
    ) -> Found: ...


async def export(
    client: Asks, folder: Path, *, invocation_id: str | None, payloads: bool
) -> dict[str, int]:
    """Write one Parquet file per table into a new folder; see `EngineClient.export`."""
    keys = None if invocation_id is None else await _of_invocation(client, invocation_id)
    await asyncio.to_thread(_begin, folder)
    row_counts = {}
    for which, tables in enumerate((_OF_INVOCATIONS, _OF_KEYS, _OF_SERVICES)):
        for table in tables:
            pages = _pages(client, table, None if keys is None else keys[which], payloads=payloads)
            row_counts[table.name] = await _write(folder / f"{table.name}.parquet", pages)
    return row_counts


async def _of_invocation(client: Asks, invocation_id: str) -> tuple[str, str, str]:
    """The one key that it has in each of the three kinds of tables."""
    found = await client.query(_SQL["of_invocation"], {"id": invocation_id}, PAGE_LIMITS)
    if not found.rows:
        raise InvocationNotFoundError(f"there is no invocation {invocation_id!r}")
    ((service, key),) = found.rows
    return invocation_id, key, service


async def _pages(
    client: Asks, table: _Table, only: str | None, *, payloads: bool
) -> AsyncIterator[Found]:
    """At least one, which may be empty: it has the columns."""
    left_out = "" if payloads or not table.payloads else f" exclude ({', '.join(table.payloads)})"
    names = {"table": table.name, "key": table.key, "columns": f"*{left_out}"}
    keys_sql, page_sql = (_SQL[name].format(**names) for name in ("keys", "page"))
    after, key_count = "", PAGE_KEYS
    while True:
        asked = {"after": after, "only": only, "key_count": key_count}
        keys = [row[0] for row in (await client.query(keys_sql, asked, PAGE_LIMITS)).rows]
        found = await client.query(page_sql, {"keys": keys}, PAGE_LIMITS)
        if found.cut_by is not None and len(keys) > 1:
            key_count = len(keys) // 2
            continue
        if found.cut_by is not None:
            raise QueryError(
                f"What {table.name} has of {keys[0]} is more than one answer may hold. Export"
                " without payloads, or take it out with queries of your own."
            )
        yield found
        if len(keys) < key_count:
            return
        after, key_count = keys[-1], min(2 * key_count, PAGE_KEYS)


async def _write(file: Path, pages: AsyncIterator[Found]) -> int:
    """Under its name only when it is whole."""
    from pyarrow import parquet

    unfinished = file.with_suffix(".part")
    row_count, writer = 0, None
    try:
        async for found in pages:
            table = await asyncio.to_thread(table_of, found)
            writer = writer or parquet.ParquetWriter(unfinished, table.schema, compression="zstd")
            await asyncio.to_thread(writer.write_table, table)
            row_count += table.num_rows
    finally:
        if writer is not None:
            await asyncio.to_thread(writer.close)
    await asyncio.to_thread(unfinished.rename, file)
    return row_count


def _begin(folder: Path) -> None:
    try:
        import pyarrow.parquet  # noqa: F401 - before anything is made.
    except ImportError as error:
        raise ImportError("Parquet needs pyarrow; write: pip install 'nbdurable[arrow]'") from error
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NbdurableError(f"{folder} is there already; name a folder that is new, or empty")
    # What is in a journal is its owner's business.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
