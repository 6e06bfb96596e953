"""Whatever is asked of history, it is answered or refused; no query writes, or reads a file.

Queries are put together of what a SELECT is made of, what must never be in one, and nonsense.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_facts import ONE, Log

from nbdurable.engine.ports import Answer, AnswerLimits
from nbdurable.errors import QueryError
from nbdurable.store.duck import DuckStore

ELSEWHERE = "the contents of another file"
LIMITS = AnswerLimits(time_ms=2_000, rows_max=50, bytes_max=100_000)

WRITES = [
    "insert into hot.fact select * from base.fact",
    "delete from base.fact",
    "update base.meta set absorbed_lsn = 0",
    "drop table base.fact",
    "create table t (a int)",
    "create or replace view fact as select 1",
    "attach ':memory:' as other",
    "detach base",
    "checkpoint base",
    "copy base.fact to 'OUT'",
    "export database 'OUT'",
    "install httpfs",
    "load httpfs",
    "pragma database_list",
    "set memory_limit = '1TB'",
    "reset memory_limit",
    "call pragma_version()",
    "begin",
    "commit",
    "rollback",
    "vacuum",
    "use base",
    "prepare p as select 1",
    "explain analyze delete from base.fact",
]
FILES = [
    "'FILE'",
    '"FILE"',
    "read_csv('FILE')",
    "read_csv_auto('FILE')",
    "read_text('FILE')",
    "read_text(['FILE'])",
    "read_blob('FILE')",
    "read_json('FILE')",
    "read_ndjson_objects('FILE')",
    "read_parquet('FILE')",
    "parquet_scan('FILE')",
    "sniff_csv('FILE')",
    "glob('/*')",
    "query_table('fact')",
    "duckdb_secrets()",
]
TABLES = ["sys_invocation", "sys_journal", "state", "fact", "base.fact", "hot.fact", "range(3)"]
EXPRESSIONS = [
    "*",
    "1",
    "id",
    "count(*)",
    "lsn",
    "getenv('HOME')",
    "(select content from read_text('FILE'))",
    "exists (select 1 from read_csv('FILE'))",
    "nextval('s')",
    "{'a': 1}",
    "'x'",
    "null",
    "current_setting('x')",
]

# What stands behind the source: joins, conditions, orders that mean something.
ENDS = [
    "",
    "",
    "where true",
    "where 1 = (select count(*) from read_text('FILE'))",
    "order by all",
    "limit 1",
    "group by all",
    "join range(2) on true",
    "cross join read_csv('FILE')",
]
NONSENSE = st.text(max_size=12) | st.sampled_from(
    [";", "--", "/*", "'", '"', "$1", "\0", "))", "(("]
)


@st.composite
def queries(draw: st.DrawFn) -> str:
    # Most of it is well formed: a parser refuses nonsense long before anybody else looks.
    source = draw(st.sampled_from([*TABLES * 3, *FILES]) if draw(st.integers(0, 9)) else NONSENSE)
    what = draw(st.sampled_from(EXPRESSIONS) if draw(st.integers(0, 9)) else NONSENSE)
    select = f"select {what} from {source} {draw(st.sampled_from(ENDS))}"
    write = draw(st.sampled_from(WRITES))
    shape = draw(
        st.sampled_from(
            [
                *["{select}"] * 8,
                "({select})",
                "{write}",
                "{select}; {write}",
                "{write}; {select}",
                "with w as ({write} returning *) {select}",
                "with w as ({select}) select * from w",
                "select * from ({write})",
                "select ({select})",
                "{select} union all {select}",
                "explain {select}",
                "explain {write}",
                "{nonsense} {select}",
                "{select} {nonsense}",
                "/* {write} */ {select}",
                "select * from query('{write}')",
                "pivot ({select}) on 1",
                "from {source}",
            ]
        )
    )
    return shape.format(select=select, write=write, source=source, nonsense=draw(NONSENSE))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckStore]:
    folder = tmp_path_factory.mktemp("asked")
    (folder / "secret.csv").write_text(ELSEWHERE)
    store, log = DuckStore(folder / ".nbdurable"), Log()
    store.open()
    store.append([log.epoch(), log.created(ONE), log.set("eggs", b'"twelve"')])
    store.absorb()
    store.append([log.set("milk", b'"one"')])
    yield store
    store.close()


def files_beside(store: DuckStore) -> dict[str, bytes]:
    beside = store.folder.parent
    return {path.name: path.read_bytes() for path in beside.iterdir() if path.is_file()}


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(queries())
def test_no_query_writes_reads_a_file_or_fails_in_a_way_of_its_own(store: DuckStore, query: str):
    beside = store.folder.parent
    sql = query.replace("FILE", str(beside / "secret.csv")).replace("OUT", str(beside / "out"))
    rows, files = store.read_rows(1, 99), files_beside(store)
    said: Answer | str
    try:
        said = store.history.ask(sql, None, LIMITS).answer()
    except QueryError as refused:
        said = str(refused)
    assert ELSEWHERE not in str(said)
    assert store.read_rows(1, 99) == rows
    assert files_beside(store) == files


def test_after_all_that_it_is_written_to_as_before(store: DuckStore):
    lsn = store.last_lsn()
    store.append([Log(lsn).epoch(2)])
    store.absorb()
    assert [row.lsn for row in store.read_rows(1, 99)] == list(range(1, lsn + 2))
    assert Path(store.folder / "base.duckdb").exists()
