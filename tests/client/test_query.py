"""SQL from a client: what comes back, as rows, as a DataFrame, as Arrow, as JSON and back."""

from __future__ import annotations

import asyncio
import sys
import threading
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Self
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.running import until_asked

import nbdurable
from nbdurable import Context, EngineClosedError, Service
from nbdurable.client.found_arrow import stream_of, table_of
from nbdurable.client.found_json import found_json, found_of, question_json, rows_json
from nbdurable.client.query import Found, ask
from nbdurable.engine.ports import Answer
from nbdurable.errors import QueryError

greeter = Service("Greeter")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"Hello, {name}"


AT = datetime(2026, 11, 22, 11, 52, 55, 584_000, tzinfo=UTC)
ALL_TYPES: dict[str, object] = {
    "BOOLEAN": True,
    "BIGINT": 2**62,
    "HUGEINT": 12,
    "DOUBLE": 1.5,
    "DECIMAL(4,2)": Decimal("1.50"),
    "VARCHAR": "ä\n",
    "BLOB": b"\0\xff",
    "DATE": date(2026, 11, 22),
    "TIME": time(10, 0, 0, 1),
    "TIMESTAMP": datetime(2026, 11, 22, 1),  # noqa: DTZ001 - it has none.
    "TIMESTAMP WITH TIME ZONE": AT,
    "INTERVAL": timedelta(days=30, milliseconds=1),
    "UUID": UUID(int=1),
    "JSON": '{"a": 1}',
    '"NULL"': None,
    "ENUM('a', 'b')": "a",
    "INTEGER[]": [1, None],
    "BLOB[][]": [[b"x"], []],
    "INTEGER[2]": (1, 2),
    "STRUCT(a INTEGER, b VARCHAR)": {"a": 1, "b": None},
}
EVERYTHING = Found(
    tuple(f"c{i}" for i in range(len(ALL_TYPES))),
    tuple(ALL_TYPES),
    [tuple(ALL_TYPES.values()), (None,) * len(ALL_TYPES)],
)


async def test_a_query_of_the_engine_in_this_process(tmp_path: Path):
    async with nbdurable.open(tmp_path / ".nbdurable", services=[greeter]) as engine:
        client = engine.client
        await client.service_call(greet, "Ada")
        sql = "select target, status, created_at from sys_invocation where target = ?"
        found = await client.query(sql, ["Greeter/greet"])
        (row,) = found.dicts()
        assert (row["target"], row["status"]) == ("Greeter/greet", "completed")
        assert repr(found) == "<Found 1 rows of target, status, created_at>"
        with pytest.raises(QueryError, match="DELETE is refused"):
            await client.query("delete from state")
    with pytest.raises(EngineClosedError):
        await client.query("select 1")


def test_the_synchronous_client_asks_alike(tmp_path: Path):
    with nbdurable.open_sync(tmp_path / ".nbdurable", services=[greeter]) as engine:
        engine.client.service_call(greet, "Ada")
        assert engine.client.query("select status from sys_invocation").rows == [("completed",)]


async def test_whoever_waits_no_longer_interrupts(tmp_path: Path):
    async with nbdurable.open(tmp_path / ".nbdurable") as engine:
        sql = "select sum(hash(a.range)) from range(9999999) a, range(9999999) b"
        asking = asyncio.create_task(engine.client.query(sql))
        await until_asked(engine)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until_asked(engine, 0)
        assert (await engine.client.query("select 1")).rows == [(1,)]


class StuckQuestion:
    """Whatever is done to it, it is not answered before the test ends."""

    def __init__(self) -> None:
        self.ends = threading.Event()
        self.begun = threading.Event()

    def ask(self, *_: object) -> Self:
        return self

    def answer(self) -> Answer:
        self.begun.set()
        self.ends.wait()
        return Answer((), (), [], None)

    def interrupt(self) -> None:
        pass


def test_no_loop_waits_at_its_end_for_a_question():
    """Or `up` would not end by a signal, nor a script whose engine is closed."""
    stuck = StuckQuestion()

    async def leave() -> None:
        asking = asyncio.create_task(ask(stuck, "select 1"))
        await asyncio.to_thread(stuck.begun.wait)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    # If it waits, it does so until the question is answered.
    giving_up = threading.Timer(20, stuck.ends.set)
    giving_up.start()
    asyncio.run(leave())
    has_waited = stuck.ends.is_set()
    giving_up.cancel()
    stuck.ends.set()
    assert not has_waited


# -- as a DataFrame, as Arrow -------------------------------------------------------------------


def test_a_data_frame_has_the_types_of_its_columns():
    frame = EVERYTHING.df()
    assert list(frame.columns) == list(EVERYTHING.columns)
    assert len(frame) == 2
    assert str(frame["c10"].dtype).startswith("datetime64[")
    assert frame["c10"][0] == AT
    assert len(Found(("a", "b"), ("BIGINT", "VARCHAR"), []).df().columns) == 2


def test_a_data_frame_without_pandas_says_how(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        EVERYTHING.df()


def test_arrow_without_pyarrow_says_how(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'nbdurable\[arrow\]'"):
        EVERYTHING.arrow()


def test_arrow_has_every_value():
    table = EVERYTHING.arrow()
    assert [str(kind) for kind in table.schema.types] == [
        "bool",
        "int64",
        "int64",
        "double",
        "decimal128(4, 2)",
        "string",
        "binary",
        "date32[day]",
        "time64[us]",
        "timestamp[us]",
        "timestamp[ms, tz=+00:00]",
        "duration[ms]",
        "string",
        "string",
        "null",
        "string",
        "list<item: int32>",
        "list<item: list<item: binary>>",
        "list<item: int32>",
        "struct<a: int64, b: null>",
    ]
    first, second = (tuple(row.values()) for row in table.to_pylist())
    wanted = [str(value) if isinstance(value, UUID) else value for value in EVERYTHING.rows[0]]
    wanted[-2] = [1, 2]
    assert list(first) == wanted
    assert set(second) == {None}


@pytest.mark.parametrize(
    ("kind", "cell", "shown"),
    [
        ("HUGEINT", 2**100, 2**100),
        ("VARIANT", object(), None),
        ("MAP(INTEGER, INTEGER)", {1: 2}, "{1: 2}"),
        ("BIGNUM", "5", "5"),
    ],
)
def test_a_type_that_arrow_lacks_is_shown_as_what_can_be_read(kind, cell, shown):
    table = table_of(Found(("x",), (kind,), [(cell,), (None,)]))
    (first, second) = table["x"].to_pylist()
    assert first == (shown or str(cell))
    assert second is None


def test_a_stream_says_what_was_cut():
    stream = stream_of(Found(("x",), ("BIGINT",), [(1,)], "rows"))
    assert pa.ipc.open_stream(stream).schema.metadata == {b"nbdurable.cut_by": b"rows"}


# -- as JSON and back ---------------------------------------------------------------------------


def test_everything_comes_back_as_it_was():
    assert found_of(found_json(EVERYTHING)) == EVERYTHING
    cut = Found(("x",), ("BIGINT",), [(1,)], "bytes")
    assert found_of(found_json(cut)) == cut


@given(
    st.lists(
        st.tuples(
            st.none() | st.text(),
            st.none() | st.binary(),
            st.none() | st.datetimes(timezones=st.just(UTC)),
            st.none() | st.timedeltas(),
            st.none() | st.floats(allow_nan=False),
            st.none() | st.lists(st.none() | st.integers()),
        )
    )
)
def test_whatever_is_found_comes_back_as_it_was(rows):
    types = ("VARCHAR", "BLOB", "TIMESTAMP WITH TIME ZONE", "INTERVAL", "DOUBLE", "BIGINT[]")
    found = Found(tuple("abcdef"), types, rows)
    assert found_of(found_json(found)) == found


def test_restates_shape_leaves_out_what_is_null():
    found = Found(("a", "b"), ("BIGINT", "TIMESTAMP WITH TIME ZONE"), [(1, AT), (None, None)])
    assert rows_json(found) == b'{"rows":[{"a":1,"b":"2026-11-22T11:52:55.584Z"},{}]}'


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (Decimal("1.50"), b"1.50"),
        (2**64 - 1, b"18446744073709551615"),
        (float("nan"), b"null"),
        (b"\0\xff", b'"00ff"'),
        (datetime(1970, 1, 1, tzinfo=UTC), b'"1970-01-01T00:00:00Z"'),
        (datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC), b'"1970-01-01T00:00:01.500Z"'),
        (timedelta(seconds=1.5), b'"PT1.5S"'),
        (timedelta(seconds=-1.5), b'"-PT1.5S"'),
        (timedelta(), b'"P0D"'),
        (timedelta(days=1), b'"PT86400S"'),
        ([1, None], b"[1,null]"),
        (date(2020, 1, 1), b'"2020-01-01"'),
        (time(10), b'"10:00:00"'),
    ],
)
def test_values_are_written_as_restate_writes_them(cell, shown):
    """Each was asked of a server of Restate's, 1.7.12."""
    assert rows_json(Found(("x",), ("ANY",), [(cell,)])) == b'{"rows":[{"x":' + shown + b"}]}"


def test_a_question_carries_its_parameters():
    assert question_json("select ?", [b"x", AT]) == (
        b'{"query":"select ?","parameters":["78","2026-11-22T11:52:55.584Z"]}'
    )
    assert question_json("select 1", None) == b'{"query":"select 1"}'
