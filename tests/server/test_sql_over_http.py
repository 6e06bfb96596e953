"""`POST /query`: Restate's two shapes, its CLI's queries, limits that are said, and refusals."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.http import JSON, Raw, Reply
from support.running import until_asked
from support.served import SERVICES, Served

import nbdurable
from nbdurable import ServeOptions
from nbdurable.client.found_json import FOUND_TYPE, found_of
from nbdurable.engine.ports import AnswerLimits
from nbdurable.server import query
from nbdurable.server.cli_queries import translated
from nbdurable.wiring import DurableEngine, SyncDurableEngine

ARROW_TYPE = "application/vnd.apache.arrow.stream"
RFC_3339_MS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A journal with a greeting that has ended, a key that is held, and one that is queued."""
    folder = tmp_path_factory.mktemp("query") / ".nbdurable"
    engine = SyncDurableEngine(DurableEngine(folder, services=SERVICES))
    with engine, nbdurable.serve(engine.opened, ServeOptions(has_token=False)) as serving:
        served = Served(engine, serving, SERVICES)
        assert served.post("/Greeter/greet", '"Ada"').status == 200
        assert served.post("/Counter/a/add", "5").status == 200
        assert served.ingress("POST", "/Counter/held/hold/send").status == 202
        served.send("/Counter/held/add", "1")
        yield served


def post(served: Served, sql: str, accept: str | None = "application/json", **more: Any) -> Reply:
    headers = JSON if accept is None else {**JSON, "accept": accept}
    body = json.dumps({"query": sql, **more})
    return served.admin("POST", "/query", headers, body)


def rows(served: Served, sql: str) -> list[dict[str, Any]]:
    reply = post(served, sql)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json"), reply
    assert reply.json.keys() == {"rows"}
    return reply.json["rows"]


def refused(served: Served, sql: str) -> str:
    reply = post(served, sql)
    assert reply.status == 400, reply
    assert reply.json.keys() == {"message", "restate_code"}
    return reply.message


# -- the shapes -------------------------------------------------------------------------------


def test_json_has_the_shape_and_the_values_of_restate(on_disk: Served):
    (row,) = rows(on_disk, "select * from sys_invocation where target = 'Greeter/greet'")
    assert row["status"] == "completed"
    assert row["completion_result"] == "success"
    assert RFC_3339_MS.fullmatch(row["created_at"])
    assert row["completion_retention"] == "PT2592000S"
    assert row["target_service_ty"] == "service"
    # What is null is left out.
    assert "target_service_key" not in row
    (state,) = rows(on_disk, "select key, value, value_utf8 from state where service_key = 'a'")
    assert state == {"key": "count", "value": b"5".hex(), "value_utf8": "5"}


@pytest.mark.parametrize("accept", ["*/*", None, ARROW_TYPE])
def test_arrow_is_what_everybody_else_gets(on_disk: Served, accept: str | None):
    sql = "select count(1) as n, max(created_at) as at, max(journal_retention) as kept"
    reply = post(on_disk, f"{sql}, max(scope) as scope from sys_invocation", accept)
    assert (reply.status, reply.headers["content-type"]) == (200, ARROW_TYPE)
    table = pa.ipc.open_stream(reply.body).read_all()
    assert table.schema == pa.schema(
        [
            ("n", pa.int64()),
            # An offset and no name: the CLI is built without a table of time zones.
            ("at", pa.timestamp("ms", "+00:00")),
            ("kept", pa.duration("ms")),
            ("scope", pa.string()),
        ]
    )
    assert table["n"].to_pylist() == [4]


def test_a_stream_without_rows_still_has_its_columns(on_disk: Served):
    reply = post(on_disk, "select * from sys_invocation where false", "*/*")
    table = pa.ipc.open_stream(reply.body).read_all()
    assert table.num_rows == 0
    assert table.schema.field("created_at").type == pa.timestamp("ms", "+00:00")
    assert table.schema.field("suspended_waiting_for_signals").type == pa.list_(pa.int32())


def test_without_pyarrow_json_is_answered_and_arrow_says_how(
    on_disk: Served, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    reply = post(on_disk, "select 1", "*/*")
    assert reply.status == 501
    assert "pip install 'nbdurable[arrow]'" in reply.message
    assert rows(on_disk, "select 1 as one") == [{"one": 1}]


def test_a_client_of_ours_gets_everything_as_it_was(on_disk: Served):
    sql = (
        "select created_at, journal_retention, state.scope, value, [value] as both, 1.50 as price"
        " from sys_invocation, state where target = 'Greeter/greet'"
    )
    reply = post(on_disk, sql, FOUND_TYPE)
    assert reply.headers["content-type"] == FOUND_TYPE
    here = on_disk.wait(on_disk.client.query(sql))
    assert found_of(reply.body) == here
    assert here.rows


def test_values_are_given_beside_the_query(on_disk: Served):
    reply = post(on_disk, "select ? || ? as x", parameters=["a", "b"])
    assert reply.json == {"rows": [{"x": "ab"}]}
    reply = post(on_disk, "select $name as x", parameters={"name": "a"})
    assert reply.json == {"rows": [{"x": "a"}]}


@pytest.mark.parametrize("prefix", ["", "/v2", "/v3", "/v4"])
def test_every_version_of_the_api_has_it(on_disk: Served, prefix: str):
    headers = {**JSON, "accept": "application/json"}
    reply = on_disk.admin("POST", f"{prefix}/query", headers, '{"query": "select 1 as one"}')
    assert reply.json == {"rows": [{"one": 1}]}


def test_what_was_acknowledged_is_seen(on_disk: Served):
    counted = "select count(*) as n from sys_invocation where target = 'Greeter/wave'"
    before = rows(on_disk, counted)[0]["n"]
    assert on_disk.ingress("POST", "/Greeter/wave").status == 200
    assert rows(on_disk, counted)[0]["n"] == before + 1


def test_a_key_that_is_held_is_seen_as_such(on_disk: Served):
    (holder,) = rows(on_disk, "select * from sys_keyed_service_status where service_key = 'held'")
    (queued,) = rows(on_disk, "select * from sys_inbox where service_key = 'held'")
    assert holder["invocation_id"] != queued["id"]
    (waits,) = rows(on_disk, f"select status from sys_invocation where id = '{queued['id']}'")
    assert waits["status"] == "pending"


# -- limits and refusals ----------------------------------------------------------------------


def test_what_is_cut_is_said(on_disk: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(query, "LIMITS", AnswerLimits(rows_max=10))
    reply = post(on_disk, "select range from range(1000000000)")
    assert (len(reply.json["rows"]), reply.headers["x-nbdurable-cut-by"]) == (10, "rows")
    reply = post(on_disk, "select range from range(1000000000)", "*/*")
    assert pa.ipc.open_stream(reply.body).schema.metadata == {b"nbdurable.cut_by": b"rows"}
    reply = post(on_disk, "select range from range(1000000000)", FOUND_TYPE)
    assert found_of(reply.body).cut_by == "rows"
    assert "x-nbdurable-cut-by" not in post(on_disk, "select 1").headers


def test_what_takes_too_long_is_interrupted(on_disk: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(query, "LIMITS", AnswerLimits(time_ms=200))
    said = refused(on_disk, "select sum(hash(a.range)) from range(1000000) a, range(1000000) b")
    assert "interrupted after 0.2 s" in said


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("selec 1", "syntax error"),
        ("select * from nope", "There is no table 'nope'"),
        ("select nope from sys_invocation", "not found in FROM clause"),
        ("delete from state", "DELETE is refused"),
        ("select 1; select 2", "these are 2"),
        ("select * from read_csv('/etc/hosts')", "read_csv() is refused"),
        ("", "there is none here"),
    ],
)
def test_what_is_refused_is_a_400_in_one_line(on_disk: Served, sql: str, said: str):
    message = refused(on_disk, sql)
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, '{"query": "select 1"}', 415),
        (JSON, "{", 400),
        (JSON, "{}", 422),
        (JSON, '{"query": 1}', 422),
        (JSON, '{"query": "select 1", "parameters": "x"}', 422),
    ],
)
def test_a_body_that_is_no_query_is_refused(
    on_disk: Served, headers: dict[str, str], body: str, status: int
):
    assert on_disk.admin("POST", "/query", headers, body).status == status


def test_only_post_asks(on_disk: Served):
    assert on_disk.admin("GET", "/query").status == 405


def test_a_journal_in_memory_says_that_it_has_no_sql(served: Served):
    assert "kept in memory only" in refused(served, "select 1")


def test_whoever_hangs_up_leaves_no_query_behind(on_disk: Served):
    body = json.dumps({"query": "select sum(hash(a.range)) from range(9999999) a, range(9999999)"})
    history = on_disk.engine.opened.engine.history()
    with Raw(on_disk.serving.admin_url) as raw:
        head = f"host: {raw.host}\r\ncontent-type: application/json\r\n"
        raw.send(
            f"POST /query HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n{body}".encode()
        )
        on_disk.until(lambda: history._inside)
    on_disk.until(lambda: not history._inside)
    assert rows(on_disk, "select 1 as one") == [{"one": 1}]


# -- the CLI's queries ------------------------------------------------------------------------

FILTERS = (
    "inv.id = 'inv_1'",
    "status != 'completed'",
    "status IN ('running','suspended')",
    "inv.target_service_name IN ('Counter','Greeter')",
    "inv.target_service_key IN ('a')",
    "inv.target_handler_name IN ('add')",
    "status = 'completed' AND inv.completion_result = 'failure'",
    "(inv.pinned_deployment_id IN ('dp_1') OR inv.last_attempt_deployment_id IN ('dp_1'))",
    "inv.target_service_name IN (select name from sys_service where ty = 'virtual_object')",
    "(inv.pinned_deployment_id NOT IN (select id from sys_deployment))",
)
TARGETS = (
    "id = 'inv_1'",
    "target LIKE 'Counter/%'",
    "((target = 'A/b' AND target_service_ty = 'service') OR (target LIKE 'A/b/%'))",
)


def as_they_come() -> Iterator[str]:
    """Each query once, or with each filter and target that the CLI makes."""
    _, *queries = Path(__file__).with_name("cli_queries.sql").read_text().split("\n\n")
    for one in queries:
        of = FILTERS if "{filter}" in one else TARGETS if "{target}" in one else ("",)
        for where in of:
            yield one.strip().format(filter=where, target=where)


@pytest.mark.parametrize("sql", [*as_they_come()])
def test_most_of_the_clis_queries_are_answered_as_they_come(on_disk: Served, sql: str):
    assert translated(sql) == sql
    assert post(on_disk, sql).status == 200
    assert post(on_disk, sql, "*/*").status == 200


def test_the_columns_that_the_cli_looks_for_are_there(on_disk: Served):
    columns = "SELECT COUNT(*) FROM information_schema.columns WHERE table_name = 'sys_journal'"
    for names, count in (
        ("'promise_name'", 1),
        ("'version', 'entry_json', 'appended_at'", 3),
    ):
        reply = post(on_disk, f"{columns} AND column_name IN ({names})", "*/*")
        assert pa.ipc.open_stream(reply.body).read_all()[0].to_pylist() == [count]


@pytest.mark.parametrize("where", FILTERS)
def test_the_total_of_a_list(on_disk: Served, where: str):
    sql = f"SELECT COUNT(1) FROM (SELECT * FROM sys_invocation inv LIMIT 50000 ) WHERE {where}"
    assert translated(sql) != sql
    reply = post(on_disk, sql, "*/*")
    (counted,) = pa.ipc.open_stream(reply.body).read_all()[0].to_pylist()
    assert counted == len(rows(on_disk, f"select id from sys_invocation inv where {where}"))


def test_what_services_status_asks(on_disk: Served):
    pending = (
        "SELECT target_service_name, target_handler_name, 'pending' as status, COUNT(1) as"
        " num_invocations, MIN(created_at) as oldest_at, FIRST_VALUE(id ORDER BY created_at ASC) as"
        " oldest_invocation FROM sys_invocation_status WHERE status == 'inboxed' AND"
        " target_service_name IN ('Counter','Greeter') GROUP BY target_service_name,"
        " target_handler_name"
    )
    (queued,) = rows(on_disk, pending)
    assert (queued["target_handler_name"], queued["num_invocations"]) == ("add", 1)
    statuses = (
        "SELECT target_service_name, target_handler_name, status, COUNT(1) as num_invocations,"
        " MIN(created_at) as oldest_at, FIRST_VALUE(id ORDER BY created_at ASC) as"
        " oldest_invocation FROM sys_invocation WHERE target_service_name IN ('Counter') GROUP BY"
        " target_service_name, target_handler_name, status ORDER BY target_handler_name"
    )
    found = {(row["target_handler_name"], row["status"]) for row in rows(on_disk, statuses)}
    assert found >= {("add", "completed"), ("add", "pending")}
    holders = (
        "SELECT target_service_name as service_name, target_service_key as service_key, status as"
        " invocation_status, first_value(id) as invocation_holding_lock,"
        " first_value(target_handler_name) as invocation_method_holding_lock,"
        " first_value(created_at) as invocation_created_at, first_value(modified_at) as"
        " modified_at, first_value(pinned_deployment_id) as pinned_deployment_id,"
        " first_value(last_attempt_deployment_id) as last_attempt_deployment_id,"
        " first_value(last_failure) as last_failure_message, first_value(next_retry_at) as"
        " next_retry_at, first_value(last_start_at) as last_start_at, 0 as num_pending,"
        " sum(retry_count) as num_retries FROM sys_invocation WHERE status != 'pending' AND"
        " target_service_name IN ('Counter') GROUP BY target_service_name, target_service_key,"
        " status"
    )
    held = [row for row in rows(on_disk, holders) if row["service_key"] == "held"]
    assert [row["invocation_method_holding_lock"] for row in held] == ["hold"]


@pytest.mark.parametrize(
    "sql",
    [
        "select first_value(id) from sys_invocation",
        "SELECT COUNT(1) FROM (SELECT * FROM sys_invocation inv LIMIT 50 ) WHERE inv.id = 'x'",
        "SELECT COUNT(1) FROM (SELECT * FROM sys_invocation inv LIMIT 50000 ) WHERE 1; drop view x",
    ],
)
def test_nothing_else_is_translated(on_disk: Served, sql: str):
    assert refused(on_disk, sql)


# -- closing ----------------------------------------------------------------------------------


async def test_serving_ends_while_somebody_asks(tmp_path: Path):
    """The query is interrupted, and whoever asked is told; nobody waits for 30 s."""
    opened = DurableEngine(tmp_path / ".nbdurable", services=SERVICES)
    async with opened:
        serving = nbdurable.serve(opened, ServeOptions(has_token=False))
        await asyncio.to_thread(serving.start)
        served = Served(SyncDurableEngine(opened), serving, SERVICES)
        sql = "select sum(hash(a.range)) from range(9999999) a, range(9999999) b"
        asking = asyncio.create_task(asyncio.to_thread(post, served, sql))
        await until_asked(opened)
        await asyncio.to_thread(serving.close)
        reply = await asking
        assert (reply.status, reply.json["restate_code"]) == (503, None)
