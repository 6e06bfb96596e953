"""SQL on a real Restate server and on a journal here: the same lives, told in the same words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from sql_lives import Side, Sides, lives

from nbdurable.server.cli_queries import translated

pytestmark = pytest.mark.slow

TABLES = (
    "state",
    "sys_deployment",
    "sys_inbox",
    "sys_invocation",
    "sys_invocation_state",
    "sys_invocation_status",
    "sys_journal",
    "sys_journal_events",
    "sys_keyed_service_status",
    "sys_locks",
    "sys_promise",
    "sys_rules",
    "sys_service",
    "sys_vqueue_meta",
)
# Whole numbers are signed here, because in DuckDB a difference of unsigned ones can be an error.
TYPES: Final = {
    "Boolean": {"BOOLEAN"},
    "Duration(ms)": {"INTERVAL"},
    "LargeBinary": {"BLOB"},
    "LargeUtf8": {"VARCHAR"},
    "List(LargeUtf8)": {"VARCHAR[]"},
    "List(UInt32)": {"INTEGER[]"},
    'Timestamp(ms, "+00:00")': {"TIMESTAMP WITH TIME ZONE"},
    "UInt32": {"INTEGER", "BIGINT"},
    "UInt64": {"INTEGER", "BIGINT"},
}
# Restate's way of spreading invocations over machines.
PARTITION = "partition_key"

# Columns of invocations that say something else here, and why.
DIFFERENT: Final = {
    "completion_retention": "30 days, not one (DECISIONS 0031)",
    "journal_retention": "the same",
    "created_using_restate_version": "it was not created by Restate",
    "idempotency_key": "a call without a key gets none (DECISIONS 0051, P16)",
    "journal_commands_size": "an awakeable is a command, and what is queued has its input",
    "journal_size": "the same; and a callee's id is known without being told",
    "last_attempt_deployment_id": "each service is a deployment; also known when it has ended",
    "last_attempt_server": "it is this engine; also known when it has ended",
    "last_failure": "without the traceback, which is among the events; kept by what is paused",
    "last_failure_error_code": "kept by what is paused",
    "last_failure_related_command_index": "the last command, if a handler fails and not a step",
    "last_start_at": "also known when it has ended",
    "pinned_deployment_id": "each service is a deployment; pinned from its first attempt on",
    "pinned_service_protocol_version": "no protocol is spoken within a process",
    "retry_count": "kept by what is paused",
}


@pytest.fixture(scope="module")
def sides(
    restate_program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sides]:
    with lives(restate_program, tmp_path_factory.mktemp("sql")) as both:
        yield both


def columns(side: Side, table: str) -> list[tuple[str, str]]:
    rows = side.rows(
        "select column_name, data_type from information_schema.columns"
        f" where table_name = '{table}' and table_catalog in ('restate', 'memory')"
        " order by ordinal_position"
    )
    return [
        (row["column_name"], row["data_type"]) for row in rows if row["column_name"] != PARTITION
    ]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_the_same_columns_in_the_same_order(sides: Sides, table: str):
    there, here = columns(sides.there, table), columns(sides.here, table)
    assert [name for name, _ in there] == [name for name, _ in here]
    for (name, theirs), (_, ours) in zip(there, here, strict=True):
        assert ours in TYPES[theirs], name


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    """That there is a time is the same; which one it is, is not."""
    return {name: ("…" if name.endswith("_at") else cell) for name, cell in row.items()}


@pytest.mark.parametrize("table", ["sys_invocation", "sys_invocation_status"])
def test_invocations_are_told_alike(sides: Sides, table: str):
    def told(side: Side) -> dict[str, dict[str, Any]]:
        rows = map(without_times, side.named(f"select * from {table}"))
        apart = {PARTITION, *DIFFERENT}
        return {row["id"]: {name: row[name] for name in sorted(row.keys() - apart)} for row in rows}

    assert told(sides.here) == told(sides.there)


def test_who_runs_is_told_alike(sides: Sides):
    sql = "select id, in_flight, retry_count from sys_invocation_state"
    there, here = ({row["id"]: row for row in side.named(sql)} for side in sides)
    # A paused one keeps the reason here.
    assert here.pop("inv_Shop/stop of ingress #1")["in_flight"] is False
    assert here == there


# What only one side has.
UNSHARED = ("Notification: CallInvocationId", "Command: Awakeable")
# Numbers of completions are given out for other things; and each server has its own of the rest.
UNTOLD = (
    "completion_id",
    "completion_retention_duration",
    "headers",
    "invocation_id_completion_id",
    "journal_retention_duration",
    "result_completion_id",
    "span_context",
    "wake_up_time",
)


def comparable(entry: Any) -> Any:
    match entry:
        case dict():
            return {name: comparable(part) for name, part in entry.items() if name not in UNTOLD}
        case list():
            return [comparable(part) for part in entry]
        case str() if entry.startswith("sign_"):
            return "an awakeable"
        case int() if entry > 2**32:
            return "a time"
        case _:
            return entry


def test_journals_are_told_alike(sides: Sides):
    """Every kind of entry, name and content; its index only as far as all before it are shared."""

    def told(side: Side) -> dict[str, list[Any]]:
        journals: dict[str, list[Any]] = {}
        for row in side.named("select * from sys_journal order by id, index"):
            if row["entry_type"] not in UNSHARED:
                entry = comparable(json.loads(row["entry_json"]))
                one = (row["entry_type"], row.get("name"), row["version"], entry)
                journals.setdefault(row["id"], []).append(one)
        for entries in journals.values():
            # When a signal comes is up to whoever sends it: before a sleep, or while it lasts.
            entries.sort(key=lambda one: one[0] == "Notification: Signal")
        return journals

    there, here = told(sides.there), told(sides.here)
    # What waits to begin has no journal there yet.
    assert {one: here[one] for one in there} == there
    assert all(len(here[one]) == 1 for one in here.keys() - there.keys())


def test_failures_and_pauses_are_told_alike(sides: Sides):
    sql = "select * from sys_journal_events order by appended_at, event_type desc"
    there, here = (
        sorted(map(without_times, side.named(sql)), key=lambda row: row["id"]) for side in sides
    )
    # Every failed attempt is an event here, also the one that pauses.
    assert [(row["id"], row["event_type"]) for row in here] == [
        (one, event)
        for row in there
        for one, event in (
            [(row["id"], "TransientError"), (row["id"], "Paused")]
            if row["event_type"] == "Paused"
            else [(row["id"], row["event_type"])]
        )
    ]
    shared = {(row["id"], row["event_type"]): row for row in here}
    for row in there:
        ours = shared[row["id"], row["event_type"]]
        assert ours["after_journal_entry_index"] == row["after_journal_entry_index"]
        theirs, told = json.loads(row["event_json"]), json.loads(ours["event_json"])
        assert told["ty"] == theirs["ty"]
        of, by = (e.get("last_failure", e) for e in (theirs, told))
        assert (by["error_code"], by["error_message"]) == (of["error_code"], of["error_message"])


@pytest.mark.parametrize(
    "sql",
    [
        "select * from state order by service_name, service_key, key",
        "select * from sys_promise order by service_key, key",
        "select service_name, service_key, id from sys_inbox",
        "select service_key, invocation_id from sys_keyed_service_status order by service_key",
        "select name, revision, public, ty from sys_service order by name",
    ],
)
def test_keys_and_services_are_told_alike(sides: Sides, sql: str):
    there = [{k: v for k, v in row.items() if k != PARTITION} for row in sides.there.named(sql)]
    assert sides.here.named(sql) == there
    assert there


NAMES = "'Shop','Cart'"
CLI_QUERIES = {
    "pending": "SELECT target_service_name, target_handler_name, 'pending' as status, COUNT(1) as"
    " num_invocations, MIN(created_at) as oldest_at, FIRST_VALUE(id ORDER BY created_at ASC) as"
    " oldest_invocation FROM sys_invocation_status WHERE status == 'inboxed' AND"
    f" target_service_name IN ({NAMES}) GROUP BY target_service_name, target_handler_name",
    "statuses": "SELECT target_service_name, target_handler_name, status, COUNT(1) as"
    " num_invocations, MIN(created_at) as oldest_at, FIRST_VALUE(id ORDER BY created_at ASC) as"
    f" oldest_invocation FROM sys_invocation WHERE target_service_name IN ({NAMES}) GROUP BY"
    " target_service_name, target_handler_name, status ORDER BY target_handler_name",
    "total": "SELECT COUNT(1) FROM (SELECT * FROM sys_invocation inv LIMIT 50000 ) WHERE"
    " inv.target_service_name IN ('Shop') AND status != 'completed'",
}


@pytest.mark.parametrize("asked", CLI_QUERIES)
def test_a_query_of_the_cli_that_is_translated_has_the_same_answer(sides: Sides, asked: str):
    sql = CLI_QUERIES[asked]
    assert translated(sql) != sql

    def told(side: Side) -> list[str]:
        rows = [without_times(row) for row in side.named(sql)]
        # A count has no name, and one of each there is.
        return sorted(json.dumps(sorted(row.values(), key=str)) for row in rows)

    assert told(sides.here) == told(sides.there)
