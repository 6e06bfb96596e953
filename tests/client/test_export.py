"""Journals as Parquet: whole, page by page, and of one run without anybody's data."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import duckdb
import pytest

import nbdurable
from nbdurable import (
    Context,
    InvocationNotFoundError,
    NbdurableError,
    ObjectContext,
    Service,
    VirtualObject,
)
from nbdurable.client import export
from nbdurable.client.engine import EngineClient
from nbdurable.errors import QueryError

greeter, counter = Service("Greeter"), VirtualObject("Counter")
SECRET = "a secret of the user's own"  # noqa: S105 - it is looked for in what is written.
TABLES = {
    "output",
    "state",
    "sys_deployment",
    "sys_inbox",
    "sys_invocation",
    "sys_journal",
    "sys_journal_events",
    "sys_locks",
    "sys_promise",
    "sys_service",
}


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return await ctx.run_typed("compose", lambda: f"Hello, {name}")


@counter.handler()
async def keep(ctx: ObjectContext, value: str) -> None:
    ctx.set("kept", value)


@asynccontextmanager
async def journal(folder: Path, count: int = 3) -> AsyncIterator[EngineClient]:
    """So many greetings, and as many keys that keep something."""
    async with nbdurable.open(folder / ".nbdurable", services=[greeter, counter]) as engine:
        for number in range(count):
            await engine.client.service_call(greet, f"{SECRET} {number}")
            await engine.client.object_call(keep, f"k{number}", f"{SECRET} {number}")
        yield engine.client


def read(folder: Path, table: str, columns: str = "*") -> list[tuple]:
    with duckdb.connect() as connection:
        file = folder / f"{table}.parquet"
        return connection.execute(f"select {columns} from '{file}' order by all").fetchall()


async def test_every_table_is_a_file_that_says_what_sql_says(tmp_path: Path):
    async with journal(tmp_path) as client:
        row_counts = await client.export(tmp_path / "out")
        assert row_counts.keys() == TABLES
        assert {file.name for file in (tmp_path / "out").iterdir()} == {
            f"{table}.parquet" for table in TABLES
        }
        for table, columns in (
            ("sys_invocation", "id, target, status, created_at, journal_size"),
            ("sys_journal", "id, index, entry_type, name, completed, raw, entry_json, appended_at"),
            ("state", "service_name, service_key, key, value, value_utf8"),
            ("sys_service", "name, revision, ty"),
            ("sys_deployment", "id, services, created_at"),
        ):
            asked = (await client.query(f"select {columns} from {table} order by all")).rows
            assert read(tmp_path / "out", table, columns) == asked
            assert row_counts[table] == len(asked) > 0
        assert read(tmp_path / "out", "sys_inbox") == []


@pytest.mark.parametrize("page_keys", [1, 2, 3, 4])
async def test_pages_leave_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page_keys: int
):
    monkeypatch.setattr(export, "PAGE_KEYS", page_keys)
    async with journal(tmp_path) as client:
        row_counts = await client.export(tmp_path / "out")
        for table in ("sys_invocation", "sys_journal", "state", "sys_service"):
            ((counted,),) = (await client.query(f"select count(*) from {table}")).rows
            assert row_counts[table] == counted == len(set(read(tmp_path / "out", table)))


async def test_a_page_that_is_too_much_is_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And what cannot be halved is refused, with a way out, and leaves no half a file."""
    async with journal(tmp_path) as client:
        whole = await client.export(tmp_path / "whole")
        limits = export.PAGE_LIMITS
        monkeypatch.setattr(
            "nbdurable.client.export.PAGE_LIMITS",
            limits._replace(rows_max=whole["sys_journal"] - 1),
        )
        assert await client.export(tmp_path / "halved") == whole
        monkeypatch.setattr(export, "PAGE_LIMITS", limits._replace(rows_max=2))
        with pytest.raises(QueryError, match="Export without payloads"):
            await client.export(tmp_path / "refused")
        assert not (tmp_path / "refused" / "sys_journal.parquet").exists()


async def test_one_run_without_anybodys_data(tmp_path: Path):
    """What a bug report needs, and no more."""
    async with journal(tmp_path) as client:
        ((of,),) = (
            await client.query("select id from sys_invocation where target_service_key = 'k1'")
        ).rows
        row_counts = await client.export(tmp_path / "out", invocation_id=of, payloads=False)
    assert row_counts["sys_invocation"] == row_counts["state"] == row_counts["sys_service"] == 1
    assert read(tmp_path / "out", "sys_journal", "distinct id") == [(of,)]
    assert read(tmp_path / "out", "state", "service_key, key, value_length")[0][:2] == (
        "k1",
        "kept",
    )
    for table in TABLES:
        assert SECRET not in repr(read(tmp_path / "out", table))


async def test_an_unknown_run_is_said_before_anything_is_made(tmp_path: Path):
    async with journal(tmp_path) as client:
        with pytest.raises(InvocationNotFoundError):
            await client.export(tmp_path / "out", invocation_id="inv_nope")
    assert not (tmp_path / "out").exists()


async def test_nothing_is_overwritten(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    async with journal(tmp_path) as client:
        with pytest.raises(NbdurableError, match="name a folder that is new"):
            await client.export(tmp_path / "out")


async def test_without_pyarrow_it_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with journal(tmp_path) as client:
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(ImportError, match=r"pip install 'nbdurable\[arrow\]'"):
            await client.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


async def test_nobody_else_can_read_it(tmp_path: Path):
    async with journal(tmp_path) as client:
        await client.export(tmp_path / "deep" / "out")
    assert (tmp_path / "deep" / "out").stat().st_mode & 0o077 == 0
