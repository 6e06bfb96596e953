"""What may be asked of history, what it costs, and what is refused: a query harms no journal."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_facts import CART, ONE, TWO, Log, contents

from nbdurable.engine.ports import Answer, AnswerLimits
from nbdurable.errors import JournalDamagedError, QueryError, StoreError
from nbdurable.store import gate, reader
from nbdurable.store.blobs import ROW_PAYLOAD_BYTES_MAX
from nbdurable.store.duck import DuckStore
from nbdurable.store.instance import QUESTIONS_MAX
from nbdurable.store.reader import TIME_LIMIT_MS_MAX

# Longer than any machine takes to be interrupted; it is waited out only when a test fails.
FOREVER = "select sum(hash(a.range)) from range(1000000) a, range(1000000) b"
# What a query may hold besides its rows: DuckDB's memory limit, and room for Python.
MEMORY_BYTES_MAX = 512 * 1024 * 1024
# Kept in a file of its own.
HUGE = bytes(ROW_PAYLOAD_BYTES_MAX + 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".nbdurable"


@pytest.fixture
def store(folder: Path) -> Iterator[DuckStore]:
    """One invocation in base, another in hot."""
    store, log = DuckStore(folder), Log()
    store.open()
    store.append([log.epoch(), log.created(ONE), log.set("eggs", b'"twelve"')])
    store.absorb()
    store.append([log.created(TWO), log.set("milk", b'"one"', by=TWO)])
    yield store
    store.close()


def ask(store: DuckStore, sql: str, parameters: object = None, **limits: int) -> Answer:
    return store.history.ask(sql, parameters, AnswerLimits(**limits)).answer()


def refused(store: DuckStore, sql: str, parameters: object = None, **limits: int) -> str:
    with pytest.raises(QueryError) as caught:
        ask(store, sql, parameters, **limits)
    said = str(caught.value)
    assert "\n" not in said, "an error is one line"
    return said


# -- what is answered -------------------------------------------------------------------------


def test_a_select_sees_base_and_hot_as_one(store: DuckStore):
    answer = ask(store, "select id, status from sys_invocation order by id")
    assert answer == Answer(
        ("id", "status"),
        ("VARCHAR", "VARCHAR"),
        [(ONE, "ready"), (TWO, "ready")],
    )
    assert ask(store, "select key, value_utf8 from state order by key").rows == [
        ("eggs", '"twelve"'),
        ("milk", '"one"'),
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "from sys_invocation",
        "table sys_invocation",
        "values (1)",
        "describe sys_invocation",
        "summarize state",
        "show tables",
        "with x as (select 1 as a) select a from x union select 2",
        "select unnest(range(3))",
        "select lpad('7', 3, '0')",
        "select count(*) from range(100000)",
        "select 1;",
    ],
)
def test_whatever_only_reads_is_answered(store: DuckStore, sql: str):
    assert ask(store, sql).rows


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [("select ? || ?", ["a", "b"]), ("select $x || $y", {"x": "a", "y": "b"})],
)
def test_values_are_given_beside_the_query(store: DuckStore, sql: str, parameters: object):
    assert ask(store, sql, parameters).rows == [("ab",)]


def test_what_is_kept_in_a_file_is_shown_as_what_it_holds(store: DuckStore):
    large = b'"' + b"x" * ROW_PAYLOAD_BYTES_MAX + b'"'
    log = Log(store.last_lsn())
    store.append([log.set("large", large), log.set("huge", HUGE)])
    rows = ask(store, "select value, value_utf8, value_length from state where key = 'large'").rows
    assert rows == [(large, large.decode(), len(large))]
    listed = ask(store, "select [value] from state where key = 'huge'").rows
    assert listed == [([HUGE],)]


def test_a_file_that_is_lost_is_said(store: DuckStore, folder: Path):
    log = Log(store.last_lsn())
    store.append([log.set("large", HUGE)])
    (file,) = (path for path in (folder / "blobs").rglob("*") if path.is_file())
    file.unlink()
    with pytest.raises(JournalDamagedError, match=file.name):
        ask(store, "select value from state")
    assert ask(store, "select key from state where key = 'eggs'").rows == [("eggs",)]


# -- what is refused --------------------------------------------------------------------------

ONE_SELECT = "Exactly one SELECT can be asked of a journal"


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("copy (select 1) to 'x.csv'", "COPY"),
        ("copy hot.fact from 'x.csv'", "COPY"),
        ("export database 'x'", "EXPORT"),
        ("attach 'x.db'", "ATTACH"),
        ("detach hot", "DETACH"),
        ("use base", "USE"),
        ("install httpfs", "INSTALL"),
        ("load httpfs", "LOAD"),
        ("set memory_limit = '1TB'", "SET"),
        ("reset memory_limit", "RESET"),
        ("pragma database_list", "PRAGMA"),
        ("explain select 1", "EXPLAIN"),
        ("explain analyze delete from hot.fact", "EXPLAIN"),
        ("delete from hot.fact", "DELETE"),
        ("insert into hot.fact (lsn) values (1)", "INSERT"),
        ("update hot.fact set lsn = 1", "UPDATE"),
        ("truncate hot.fact", "TRUNCATE"),
        ("drop view sys_invocation", "DROP"),
        ("create table x (a int)", "CREATE"),
        ("alter table hot.fact add column x int", "ALTER"),
        ("begin", "BEGIN"),
        ("commit", "COMMIT"),
        ("rollback", "ROLLBACK"),
        ("checkpoint hot", "CHECKPOINT"),
        ("force checkpoint hot", "FORCE"),
        ("vacuum", "VACUUM"),
        ("call force_checkpoint()", "CALL"),
        ("prepare x as delete from hot.fact", "PREPARE"),
        ("execute x", "EXECUTE"),
        ("pivot sys_invocation on status", "PIVOT"),
    ],
)
def test_what_is_no_select_is_refused_by_its_name(store: DuckStore, sql: str, word: str):
    said = refused(store, sql)
    assert said.startswith(f"{ONE_SELECT}; {word} is refused"), said


def test_a_write_inside_of_a_select_is_refused(store: DuckStore):
    said = refused(store, "with x as (delete from hot.fact returning lsn) select lsn from x")
    assert said == f"{ONE_SELECT}; DELETE is refused, also inside of one."


@pytest.mark.parametrize("sql", ["select 1; select 2", "select 1; delete from hot.fact", "", "--"])
def test_one_statement_is_asked(store: DuckStore, sql: str):
    assert refused(store, sql).startswith(ONE_SELECT)


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_csv('{file}')",
        "select * from read_text('{file}')",
        "select * from read_blob('{file}')",
        "select * from read_json('{file}')",
        "select * from read_parquet('{file}')",
        "select * from glob('{folder}/*')",
        "select * from sniff_csv('{file}')",
        "select * from parquet_metadata('{file}')",
        "select * from '{file}'",
        'select * from "{file}"',
        "from '{file}' as x join sys_invocation on true",
        "select (select content from read_text('{file}'))",
        "select 1 where exists (from '{file}')",
        "select * from query('from ''{file}''')",
        "select * from query_table('{file}')",
        "from json_execute_serialized_sql(json_serialize_sql('from ''{file}'''))",
    ],
)
def test_files_are_not_read(store: DuckStore, tmp_path: Path, sql: str):
    secret = "a secret of another program"  # noqa: S105 - it is looked for in what comes back.
    file = tmp_path / "file.csv"
    file.write_text(f"{secret}\n1\n")
    said = refused(store, sql.format(file=file, folder=tmp_path))
    assert "connection of your own" in said
    assert secret not in said


@pytest.mark.parametrize(
    "sql",
    [
        "from checkpoint('hot')",
        "from force_checkpoint('hot')",
        "from duckdb_secrets()",
        "from duckdb_settings()",
        "from pragma_storage_info('hot.fact')",
        "from pandas_scan(1)",
        "from arrow_scan(1, 2, 3)",
        "from Read_CSV('x')",
    ],
)
def test_a_table_function_that_does_more_than_compute_is_refused(store: DuckStore, sql: str):
    assert "() is refused: a journal is read" in refused(store, sql)


def test_no_variable_of_python_is_a_table(store: DuckStore):
    people = {"name": ["Ada"]}
    assert "There is no table 'people'" in refused(store, "select * from people")
    assert people


@pytest.mark.parametrize(
    "sql",
    [
        "select repeat('x', 1000000000)",
        "select repeat('x', range) from range(100)",
        "select 'x'.repeat(1000000000)",
        "select system.main.repeat('x', 1000000000)",
        "select lpad('x', 1000000000, ' ')",
        "select list_resize([1], 1000000000)",
        "select range(0, 1000000000)",
        "select unnest(generate_series(1000000000))",
        "select * from range(cast(length(repeat('x', 1000000000)) as bigint))",
        "select format('{:>9}', 1)",
        "select printf('%9d', 1)",
        "select bitstring('1', 9)",
        "select repeat(repeat('x', 2), 2)",
        "select lpad(upper(repeat('x', 2)), 2, ' ')",
        "select list_resize([1], 2, (select length(repeat('x', 2))))",
        "select replace(repeat('x', 2), 'x', 'y')",
        "select regexp_replace('x', 'x', rpad('y', 2, ' '))",
        "select list_transform(range(2), lambda x: range(2))",
    ],
)
def test_no_value_grows_beside_the_memory_limit(store: DuckStore, sql: str):
    assert "makes values of any size" in refused(store, sql)


# Each of them was planned for a minute and longer, and could not be interrupted.
@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("select " + ".".join(["a"] * 6), "a.a.a.a.a.… has 6 parts"),
        ("select 1 where 1 in (" + ",".join(["12345"] * 50_000) + ")", "longer than 256 KiB"),
        ("select 1 from " + ", ".join(f"state t{i}" for i in range(33)), "names 33 tables"),
        (" union all ".join(["select 1 from state"] * 33), "names 33 tables"),
        ("with c as not materialized (select 1) select * from c", "`c as not materialized`"),
        (
            "select 1 as a0" + "".join(f", a{i} + a{i} as a{i + 1}" for i in range(20)),
            "more than 10,000 terms",
        ),
        (
            "select range as r"
            + "".join(f", r{i or ''} + r{i or ''} as r{i + 1}" for i in range(9))
            + " from range(3) where "
            + " + ".join(["r9"] * 40)
            + " > 1",
            "more than 10,000 terms",
        ),
    ],
    ids=["name", "length", "joins", "unions", "with", "aliases", "aliases in where"],
)
def test_what_would_be_planned_for_ever_is_refused(store: DuckStore, sql: str, word: str):
    assert word in refused(store, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "select t.s.x.y.z from (select {'x': {'y': {'z': 1}}} as s) t",
        "select count(*) from state where key in ("
        + ",".join(["'" + "x" * 38 + "'"] * 1_000)
        + ")",
        "select id as a, a || a as b, b || b as c from sys_invocation where c > '' order by c",
        "with c as (select 1 as x) select a.x from c a, c b, c d",
        "select replace(replace(target, 'a', 'b'), 'b', 'cc') from sys_invocation",
        "select repeat('x', 3) || lpad(id, 40, ' ') from sys_invocation",
    ],
)
def test_what_is_planned_soon_is_answered(store: DuckStore, sql: str):
    assert ask(store, sql).cut_by is None


def test_two_columns_of_one_name_are_told_apart(store: DuckStore):
    """Or one of them is lost where rows become objects by the names of columns."""
    assert ask(store, "select 1 as a, 2 as a").columns == ("a", "a_1")
    assert ask(store, "select 1 as a, 2 as a, 3 as a_1").columns == ("a", "a_2", "a_1")


# -- errors teach -----------------------------------------------------------------------------


def test_a_table_that_is_not_there_tells_the_nearest(store: DuckStore):
    said = refused(store, "select * from sys_invocations")
    assert said.startswith("There is no table 'sys_invocations'; nearest: sys_invocation")
    assert "there are: " in refused(store, "select * from zzzzzzzzz")
    assert "sys_journal" in refused(store, "select * from zzzzzzzzz")


def test_a_column_that_is_not_there_tells_the_nearest(store: DuckStore):
    assert "Nearest: status" in refused(store, "select statuss from sys_invocation")


def test_what_cannot_be_read_says_where(store: DuckStore):
    assert refused(store, "selec 1") == 'Parser Error: syntax error at or near "selec"'


def test_what_is_nested_too_deeply_says_so(store: DuckStore):
    deep = "(" * 5_000 + "1" + ")" * 5_000
    assert refused(store, f"select {deep}")
    assert ask(store, "select 1").rows == [(1,)]


def test_a_value_that_does_not_fit_is_said(store: DuckStore):
    assert refused(store, "select cast('x' as integer)").startswith("Conversion Error")
    assert refused(store, "select $x", {"y": 1})


# -- limits -----------------------------------------------------------------------------------


def test_rows_past_the_limit_are_cut_and_said(store: DuckStore):
    answer = ask(store, "select range from range(1000000000)", rows_max=700)
    assert (len(answer.rows), answer.rows[-1], answer.cut_by) == (700, (699,), "rows")
    whole = ask(store, "select range from range(700)", rows_max=700)
    assert (len(whole.rows), whole.cut_by) == (700, None)


def test_bytes_past_the_limit_are_cut_and_said(store: DuckStore):
    sql = "select repeat('x', 10000) as x from range(1000000000)"
    answer = ask(store, sql, bytes_max=1_000_000)
    assert 90 < len(answer.rows) < 110
    assert answer.cut_by == "bytes"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sql", "cut_by"),
    [
        ("select range from range(1000000000)", "rows"),
        ("select md5(cast(range as varchar)) as x from range(1000000000)", "rows"),
        ("select range from range(1000000000) order by hash(range)", None),
        ("select list(range) as x from range(1000000000)", None),
        ("select range, count(*) as n from range(1000000000) group by range", None),
    ],
)
def test_a_billion_rows_take_no_more_memory_than_a_query_has(
    store: DuckStore, sql: str, cut_by: str | None
):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if cut_by is None:
        said = refused(store, sql)
        assert said.startswith("The query needs more memory than it may have (128 MiB")
    else:
        assert ask(store, sql, rows_max=50_000).cut_by == cut_by
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < MEMORY_BYTES_MAX


def test_a_query_that_takes_too_long_is_interrupted(store: DuckStore):
    said = refused(store, FOREVER, time_ms=300)
    assert said.startswith("The query was interrupted after 0.3 s, its time limit.")


def test_no_query_is_given_more_time_than_a_checkpoint_can_wait(store: DuckStore):
    assert refused(store, "select 1", time_ms=TIME_LIMIT_MS_MAX + 1).startswith("a query may take")


def test_whoever_asks_can_interrupt(store: DuckStore):
    question = store.history.ask(FOREVER)
    threading.Timer(0.2, question.interrupt).start()
    with pytest.raises(QueryError, match="The query was interrupted"):
        question.answer()
    assert ask(store, "select 1").rows == [(1,)]


# -- others go on -----------------------------------------------------------------------------


def test_commits_and_absorbs_go_on_while_queries_run(store: DuckStore):
    """As many queries as there may be: no commit, no read and no absorb waits for one of them."""
    said: list[str] = []
    questions = [store.history.ask(FOREVER) for _ in range(QUESTIONS_MAX)]
    threads = [
        threading.Thread(target=lambda asked=asked: said.append(refused_by(asked)))
        for asked in questions
    ]
    for thread in threads:
        thread.start()
    log = Log(store.last_lsn())
    for number in range(50):
        store.append([log.set(f"k{number}", b"v")])
        assert store.read_payload(store.last_lsn()) == b"v"
    store.absorb()
    store.append([log.set("last", b"v")])
    assert said == [], "all of them were still running"
    for question in questions:
        question.interrupt()
    for thread in threads:
        thread.join()
    assert len(said) == QUESTIONS_MAX
    store.absorb()
    assert ask(store, "select count(*) from state").rows == [(53,)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "sql",
    [
        # One can write what it holds to disk, the other cannot.
        "select range from range(1000000000) order by hash(range)",
        "select list(range) as x from range(1000000000)",
    ],
)
def test_queries_never_take_what_a_commit_or_a_checkpoint_needs(store: DuckStore, sql: str):
    """DuckDB has one limit for all. A checkpoint that finds nothing left ends its database."""
    ends = threading.Event()
    said: set[str] = set()

    def ask_on_and_on() -> None:
        while not ends.is_set():
            said.add(refused_by(store.history.ask(sql))[:60])

    threads = [threading.Thread(target=ask_on_and_on) for _ in range(QUESTIONS_MAX)]
    for thread in threads:
        thread.start()
    try:
        log = Log(store.last_lsn())
        for _ in range(10):
            store.append([log.set(f"k{number}", bytes(8_000)) for number in range(500)])
            assert store.read_payload(store.last_lsn()) == bytes(8_000)
            if store.wants_absorb():
                store.absorb()
        store.absorb()
    finally:
        ends.set()
        for thread in threads:
            thread.join()
    assert said <= {
        "The query needs more memory than it may have (128 MiB, and 384 MiB on disk)."[:60],
        # On a machine that is slow.
        "The query was interrupted after 30 s, its time limit. Ask for less"[:60],
        # A commit that came just then went first.
        "The query was interrupted, because the engine needed the memory"[:60],
    }
    assert ask(store, "select count(*), max(lsn) from fact").rows == [(5_005, store.last_lsn())]


def test_a_journal_that_was_reopened_is_asked_as_before(store: DuckStore):
    before = ask(store, "select * from sys_invocation order by id")
    store.reopen()
    assert ask(store, "select * from sys_invocation order by id") == before


def refused_by(question) -> str:
    with pytest.raises(QueryError) as caught:
        question.answer()
    return str(caught.value)


def test_one_question_sees_one_moment(store: DuckStore):
    """What is committed while it reads is not in it, be it absorbed or not."""
    log = Log(store.last_lsn())
    counted = "select count(*) from fact as a, (select count(*) from fact) as b"
    assert ask(store, counted).rows == [(5,)]
    store.append([log.set("x", b"v")])
    assert ask(store, counted).rows == [(6,)]
    store.absorb()
    assert ask(store, counted).rows == [(6,)]


def test_closing_interrupts_whoever_asks(folder: Path):
    store, log = DuckStore(folder), Log()
    store.open()
    store.append([log.epoch()])
    said: list[str] = []
    question = store.history.ask(FOREVER)
    thread = threading.Thread(target=lambda: said.append(refused_by(question)))
    thread.start()
    while not store.history._inside:
        thread.join(0.01)
    store.close()
    thread.join()
    assert said == ["The query was interrupted, because the journal is being closed."]
    with pytest.raises(StoreError, match="it is not open"):
        store.history.ask("select 1")


def test_closing_does_not_wait_for_what_cannot_be_interrupted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """DuckDB plans such a name for seconds; the gate, which refuses it, stands open here."""
    monkeypatch.setattr(gate, "check", lambda *_: None)
    monkeypatch.setattr(reader, "_LEAVE_S_MAX", 0.1)
    store, log = DuckStore(folder), Log()
    store.open()
    store.append([log.epoch()])
    question = store.history.ask("select " + ".".join(["a"] * 6_000))
    thread = threading.Thread(target=lambda: refused_by(question), daemon=True)
    thread.start()
    while question._cursor is None:
        thread.join(0.01)
    store.close()
    assert thread.is_alive(), "it should have been planned for longer than closing takes"
    thread.join()


def test_asking_leaves_the_files_as_they_are(folder: Path):
    store, log = DuckStore(folder), Log()
    store.open()
    store.append([log.epoch(), log.created(ONE), log.set("eggs", b"12", CART)])
    store.close()
    before = contents(folder)
    store.open()
    ask(store, "select * from sys_invocation, sys_journal, state")
    store.close()
    changed = {name for name, what in contents(folder).items() if before.get(name) != what}
    assert changed <= {"owner.json"}
