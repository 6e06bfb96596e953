"""Restate's tables, each by hand: its columns and their types, its words, and what is in them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.running import HandClock, until, until_status
from tables import Tables

from nbdurable import (
    Context,
    EngineOptions,
    InvocationRetryPolicy,
    ObjectContext,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from nbdurable.core.ids import deployment_id
from nbdurable.store.duck import DuckStore
from nbdurable.wiring import DurableEngine

T0 = datetime(2026, 11, 22, 12, tzinfo=UTC)
T0_MS = int(T0.timestamp() * 1_000)
TIME, TEXT, SPAN = "TIMESTAMP WITH TIME ZONE", "VARCHAR", "INTERVAL"

shop, cart, order = Service("Shop"), VirtualObject("Cart"), Workflow("Order")
slow = Service("Slow")
AT_ONCE = timedelta(0)


@shop.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"hello {name}"


@shop.handler()
async def refuse(ctx: Context) -> None:
    raise TerminalError("sold out", 410)


@shop.handler()
async def relay(ctx: Context, name: str) -> str:
    return await ctx.service_call(greet, name)


@shop.handler(
    invocation_retry_policy=InvocationRetryPolicy(
        initial_interval=timedelta(seconds=5), max_attempts=2, on_max_attempts="pause"
    )
)
async def fail(ctx: Context) -> None:
    raise RuntimeError("no luck")


@shop.handler(inactivity_timeout=AT_ONCE)
async def nap(ctx: Context) -> None:
    await ctx.sleep(timedelta(hours=1), "siesta")


@shop.handler(inactivity_timeout=AT_ONCE)
async def ring(ctx: Context) -> str:
    return await ctx.awakeable()[1]


@cart.handler(inactivity_timeout=AT_ONCE)
async def hold(ctx: ObjectContext, item: str) -> None:
    ctx.set("item", item)
    await ctx.sleep(timedelta(hours=1))


@order.main(inactivity_timeout=AT_ONCE)
async def run(ctx: WorkflowContext, item: str) -> str:
    price = await ctx.run_typed("price", lambda: 5)
    told = await ctx.service_call(greet, item)
    ctx.service_send(greet, "later", send_delay=timedelta(hours=2))
    return f"{told}, {price}, {await ctx.promise('approval').value()}"


@order.handler()
async def approve(ctx: WorkflowSharedContext, how: str) -> None:
    await ctx.promise("approval").resolve(how)


@slow.handler()
async def block(ctx: Context) -> None:
    """Runs until it is killed."""
    await ctx.run_typed("wait", asyncio.Event().wait)


Ask = Callable[..., Awaitable[list[dict[str, Any]]]]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[DurableEngine, HandClock, Ask]]:
    """An engine at noon, and SQL over its journal: rows by the names of their columns."""
    clock = HandClock(T0_MS)
    engine = DurableEngine(
        services=[shop, cart, order, slow],
        store=DuckStore(folder, now_ms=clock.now_ms),
        clock=clock,
        options=EngineOptions(service_concurrency={"Slow": 1}),
        logs_failures=False,
    )

    async def ask(sql: str, *parameters: object) -> list[dict[str, Any]]:
        return (await engine.client.query(sql, parameters or None)).dicts()

    async with engine:
        yield engine, clock, ask


# -- columns ----------------------------------------------------------------------------------

INVOKED = {"id": TEXT, "vqueue_id": TEXT}
WHOM = {
    "target": TEXT,
    "target_service_name": TEXT,
    "target_service_key": TEXT,
    "target_handler_name": TEXT,
    "target_service_ty": TEXT,
    "scope": TEXT,
    "limit_key": TEXT,
    "idempotency_key": TEXT,
    "invoked_by": TEXT,
}
BEGUN = {
    "invoked_by_target": TEXT,
    "restarted_from": TEXT,
    "pinned_deployment_id": TEXT,
    "pinned_service_protocol_version": "INTEGER",
    "trace_id": TEXT,
    "journal_size": "BIGINT",
    "journal_commands_size": "BIGINT",
    "created_at": TIME,
    "created_using_restate_version": TEXT,
    "modified_at": TIME,
    "inboxed_at": TIME,
    "scheduled_at": TIME,
    "scheduled_start_at": TIME,
    "running_at": TIME,
    "completed_at": TIME,
    "completion_retention": SPAN,
    "journal_retention": SPAN,
    "suspended_waiting_for_completions": "INTEGER[]",
    "suspended_waiting_for_signals": "INTEGER[]",
    "suspended_waiting_future_json": TEXT,
}
BY_SERVICE = {"invoked_by_service_name": TEXT}
BY_OTHERS = {"invoked_by_id": TEXT, "invoked_by_subscription_id": TEXT}
FAILED = {"last_failure": TEXT, "last_failure_error_code": TEXT}
AT_ENTRY = {
    "last_failure_related_entry_index": "INTEGER",
    "last_failure_related_entry_name": TEXT,
    "last_failure_related_entry_type": TEXT,
}
AT_COMMAND = {
    "last_failure_related_command_index": "BIGINT",
    "last_failure_related_command_name": TEXT,
    "last_failure_related_command_type": TEXT,
}
AWAITS = {"last_awaiting_on_future_json": TEXT}
CAME_TO = {"completion_result": TEXT, "completion_failure": TEXT}

COLUMNS = {
    "sys_invocation": {
        **INVOKED,
        **WHOM,
        **BY_SERVICE,
        **BY_OTHERS,
        **BEGUN,
        "retry_count": "BIGINT",
        "last_start_at": TIME,
        "next_retry_at": TIME,
        "last_attempt_deployment_id": TEXT,
        "last_attempt_server": TEXT,
        **FAILED,
        **AT_ENTRY,
        **AT_COMMAND,
        **AWAITS,
        "status": TEXT,
        **CAME_TO,
    },
    "sys_invocation_status": {
        **INVOKED,
        "status": TEXT,
        **CAME_TO,
        **WHOM,
        **BY_OTHERS,
        **BY_SERVICE,
        **BEGUN,
    },
    "sys_invocation_state": {
        "id": TEXT,
        "in_flight": "BOOLEAN",
        "retry_count": "BIGINT",
        "last_start_at": TIME,
        "last_attempt_deployment_id": TEXT,
        "last_attempt_server": TEXT,
        "next_retry_at": TIME,
        **FAILED,
        **AT_COMMAND,
        **AT_ENTRY,
        **AWAITS,
    },
    "sys_journal": {
        "id": TEXT,
        "index": "INTEGER",
        "entry_type": TEXT,
        "name": TEXT,
        "completed": "BOOLEAN",
        "invoked_id": TEXT,
        "invoked_target": TEXT,
        "sleep_wakeup_at": TIME,
        "promise_name": TEXT,
        "raw": "BLOB",
        "raw_length": "BIGINT",
        "version": "INTEGER",
        "entry_json": TEXT,
        "entry_lite_json": TEXT,
        "appended_at": TIME,
    },
    "sys_journal_events": {
        "id": TEXT,
        "after_journal_entry_index": "INTEGER",
        "appended_at": TIME,
        "event_type": TEXT,
        "event_json": TEXT,
    },
    "state": {
        "scope": TEXT,
        "service_name": TEXT,
        "service_key": TEXT,
        "key": TEXT,
        "key_length": "BIGINT",
        "value_utf8": TEXT,
        "value": "BLOB",
        "value_length": "BIGINT",
    },
    "sys_keyed_service_status": {
        "service_name": TEXT,
        "service_key": TEXT,
        "invocation_id": TEXT,
    },
    "sys_locks": {
        "scope": TEXT,
        "lock_name": TEXT,
        "acquired_at": TIME,
        "acquired_by": TEXT,
    },
    "sys_inbox": {
        "service_name": TEXT,
        "service_key": TEXT,
        "id": TEXT,
        "sequence_number": "BIGINT",
        "created_at": TIME,
    },
    "sys_promise": {
        "scope": TEXT,
        "service_name": TEXT,
        "service_key": TEXT,
        "key": TEXT,
        "completed": "BOOLEAN",
        "completion_success_value": "BLOB",
        "completion_success_value_utf8": TEXT,
        "completion_failure": TEXT,
    },
    "sys_service": {
        "name": TEXT,
        "revision": "BIGINT",
        "public": "BOOLEAN",
        "ty": TEXT,
        "deployment_id": TEXT,
    },
    "sys_deployment": {
        "id": TEXT,
        "ty": TEXT,
        "endpoint": TEXT,
        "created_at": TIME,
        "min_service_protocol_version": "INTEGER",
        "max_service_protocol_version": "INTEGER",
        "services": "VARCHAR[]",
    },
}


@pytest.mark.parametrize("table", COLUMNS)
def test_a_table_has_the_columns_of_restates(table: str):
    """Also without a server of Restate's to compare with, as tests/deploy/test_real_sql.py does."""
    described = Tables().ask(f"describe {table}")
    assert {row["column_name"]: row["column_type"] for row in described} == COLUMNS[table]
    assert [row["column_name"] for row in described] == list(COLUMNS[table])


# -- statuses ---------------------------------------------------------------------------------


async def test_every_status_has_restates_word(tmp_path: Path):
    """Shown in sys_invocation, stored in sys_invocation_status."""
    async with opened(tmp_path / ".nbdurable") as (engine, clock, ask):
        client = engine.client

        async def send(handler: Any, *arg: Any, key: str = "", **more: Any) -> str:
            sending = client.object_send(handler, key, *arg, **more) if key else None
            sent = await (sending or client.service_send(handler, *(arg or (None,)), **more))
            return sent.invocation_id

        ids = {
            "scheduled": await send(greet, "x", send_delay=timedelta(hours=1)),
            "suspended": await send(hold, "tea", key="k"),
            "pending": await send(hold, "milk", key="k"),
            "running": await send(block),
            "ready": await send(block),
            "backing-off": await send(fail),
            "completed": await send(greet, "x"),
        }
        for status, one in ids.items():
            await until_status(engine, one, status)
        shown = {row["id"]: row["status"] for row in await ask("select * from sys_invocation")}
        assert shown == {one: status for status, one in ids.items()}
        stored = await ask("select * from sys_invocation_status")
        assert {row["id"]: row["status"] for row in stored} == {
            ids["scheduled"]: "scheduled",
            ids["suspended"]: "suspended",
            ids["pending"]: "inboxed",
            ids["running"]: "invoked",
            ids["ready"]: "invoked",
            ids["backing-off"]: "invoked",
            ids["completed"]: "completed",
        }
        in_flight = await ask("select id, in_flight from sys_invocation_state")
        assert {row["id"] for row in in_flight if row["in_flight"]} == {ids["running"]}
        await clock.turn(engine, 5_000)
        await until_status(engine, ids["backing-off"], "paused")
        for table in ("sys_invocation", "sys_invocation_status"):
            (row,) = await ask(f"select status from {table} where id = ?", ids["backing-off"])
            assert row == {"status": "paused"}
        await client.kill(ids["running"])
        await client.kill(ids["ready"])


# -- rows ---------------------------------------------------------------------------------------


async def test_an_invocation_that_succeeded(tmp_path: Path):
    async with opened(tmp_path / ".nbdurable") as (engine, _clock, ask):
        await engine.client.service_call(greet, "Ada", idempotency_key="once")
        (row,) = await ask("select * from sys_invocation")
        of = deployment_id("Shop", 1)
        said = {name: value for name, value in row.items() if value is not None}
        assert said == {
            "id": row["id"],
            "target": "Shop/greet",
            "target_service_name": "Shop",
            "target_handler_name": "greet",
            "target_service_ty": "service",
            "idempotency_key": "once",
            "invoked_by": "ingress",
            "pinned_deployment_id": of,
            "journal_size": 2,
            "journal_commands_size": 2,
            "created_at": T0,
            "created_using_restate_version": row["created_using_restate_version"],
            "modified_at": T0,
            "running_at": T0,
            "completed_at": T0,
            "completion_retention": timedelta(days=30),
            "journal_retention": timedelta(days=30),
            "last_start_at": T0,
            "last_attempt_deployment_id": of,
            "last_attempt_server": f"nbdurable/{row['created_using_restate_version']}",
            "status": "completed",
            "completion_result": "success",
        }


async def test_an_invocation_that_failed_and_one_that_was_killed(tmp_path: Path):
    async with opened(tmp_path / ".nbdurable") as (engine, _clock, ask):
        with pytest.raises(TerminalError):
            await engine.client.service_call(refuse, None)
        killed = await engine.client.service_send(nap, None)
        await until_status(engine, killed.invocation_id, "suspended")
        await engine.client.kill(killed.invocation_id)
        rows = await ask(
            "select target, completion_result, completion_failure from sys_invocation"
            " order by target"
        )
        assert rows == [
            {
                "target": "Shop/nap",
                "completion_result": "failure",
                "completion_failure": "[409] killed",
            },
            {
                "target": "Shop/refuse",
                "completion_result": "failure",
                "completion_failure": "[410] sold out",
            },
        ]


async def test_what_fails_says_why_how_often_and_when_next(tmp_path: Path):
    async with opened(tmp_path / ".nbdurable") as (engine, clock, ask):
        failing = (await engine.client.service_send(fail, None)).invocation_id
        await until_status(engine, failing, "backing-off")
        (row,) = await ask("select * from sys_invocation_state")
        (shown,) = await ask("select * from sys_invocation")
        for of in (row, shown):
            assert of["retry_count"] == 1
            assert of["last_failure"] == "RuntimeError('no luck')"
            assert of["last_failure_error_code"] == "RT0007"
            assert of["next_retry_at"] == T0 + timedelta(seconds=5)
            assert of["last_start_at"] == T0
        await clock.turn(engine, 5_000)
        await until_status(engine, failing, "paused")
        events = await ask("select * from sys_journal_events order by appended_at, event_type desc")
        assert [event["event_type"] for event in events] == [
            "TransientError",
            "TransientError",
            "Paused",
        ]
        assert {event["after_journal_entry_index"] for event in events} == {0}
        assert events[0]["appended_at"] == T0
        told = json.loads(events[0]["event_json"])
        assert (told["ty"], told["error_code"]) == ("TransientError", 500)
        assert told["error_message"] == "RuntimeError('no luck')"
        assert told["restate_doc_error_code"] == "RT0007"
        paused = json.loads(events[2]["event_json"])
        assert paused["ty"] == "Paused"
        assert paused["last_failure"]["error_message"] == "RuntimeError('no luck')"


async def test_who_has_called_whom(tmp_path: Path):
    async with opened(tmp_path / ".nbdurable") as (engine, _clock, ask):
        await engine.client.service_call(relay, "Ada")
        (caller,) = await ask("select * from sys_invocation where target = 'Shop/relay'")
        (called,) = await ask("select * from sys_invocation where target = 'Shop/greet'")
        assert (called["invoked_by"], called["invoked_by_id"]) == ("service", caller["id"])
        assert called["invoked_by_service_name"] == "Shop"
        assert called["invoked_by_target"] == "Shop/relay"
        anew = await engine.client.restart_as_new(called["id"])
        await engine.client.attach(anew)
        (row,) = await ask("select * from sys_invocation where id = ?", anew)
        assert (row["invoked_by"], row["restarted_from"]) == ("restart_as_new", called["id"])


async def test_what_suspended_ones_wait_for(tmp_path: Path):
    async with opened(tmp_path / ".nbdurable") as (engine, _clock, ask):
        for handler in (nap, ring):
            sent = await engine.client.service_send(handler, None)
            await until_status(engine, sent.invocation_id, "suspended")
        rows = await ask("select * from sys_invocation order by target")
        waits = [
            (
                row["target"],
                row["suspended_waiting_for_completions"],
                row["suspended_waiting_for_signals"],
            )
            for row in rows
        ]
        # The first signal that a handler can make is 17; those below are Restate's own.
        assert waits == [("Shop/nap", [1], []), ("Shop/ring", [], [17])]
        assert all(json.loads(row["suspended_waiting_future_json"]) for row in rows)


async def test_a_scheduled_one_says_when(tmp_path: Path):
    async with opened(tmp_path / ".nbdurable") as (engine, _clock, ask):
        await engine.client.service_send(greet, "x", send_delay=timedelta(hours=1))
        (row,) = await ask("select * from sys_invocation")
        assert (row["scheduled_at"], row["scheduled_start_at"]) == (T0, T0 + timedelta(hours=1))
        assert (row["running_at"], row["inboxed_at"]) == (None, None)


async def test_a_journal_entry_by_entry(tmp_path: Path):
    """Source: restate-cli-calls.md, "Journal rows" (shapes of entry_json)."""
    async with opened(tmp_path / ".nbdurable") as (engine, _clock, ask):
        client = engine.client
        await client.workflow_send(run, "o1", "tea")
        (of,) = await ask("select id from sys_invocation where target = 'Order/o1/run'")
        await until(engine, of["id"], lambda view, _: bool(view.open_promises))
        await client.workflow_call(approve, "o1", "yes")
        assert await client.attach(of["id"]) == "hello tea, 5, yes"
        rows = await ask("select * from sys_journal where id = ? order by index", of["id"])
        assert [row["index"] for row in rows] == list(range(len(rows)))
        entries = {row["entry_type"]: row for row in rows}
        assert [row["entry_type"] for row in rows] == [
            "Command: Input",
            "Command: Run",
            "Notification: Run",
            "Command: Call",
            "Notification: Call",
            "Command: OneWayCall",
            "Command: GetPromise",
            "Notification: GetPromise",
            "Command: Output",
        ]
        assert {row["version"] for row in rows} == {2}
        assert {row["appended_at"] for row in rows} == {T0}
        step = entries["Command: Run"]
        assert (step["name"], step["completed"]) == ("price", True)
        assert json.loads(step["entry_json"]) == {
            "Command": {"Run": {"completion_id": 1, "name": "price"}}
        }
        done = entries["Notification: Run"]
        assert (done["raw"], done["raw_length"]) == (b"5", 1)
        assert json.loads(done["entry_json"]) == {
            "Notification": {
                "Completion": {"Run": {"completion_id": 1, "result": {"Success": [53]}}}
            }
        }
        called = entries["Command: Call"]
        assert called["invoked_target"] == "Shop/greet"
        request = json.loads(called["entry_json"])["Command"]["Call"]["request"]
        assert request["invocation_id"] == called["invoked_id"]
        assert request["invocation_target"] == {
            "Service": {"name": "Shop", "handler": "greet", "scope": None}
        }
        assert entries["Command: GetPromise"]["promise_name"] == "approval"
        assert entries["Command: Input"]["raw"] == b'"tea"'
        given = json.loads(entries["Command: Output"]["entry_json"])["Command"]["Output"]
        assert bytes(given["result"]["Success"]) == b'"hello tea, 5, yes"'
        (later,) = await ask("select * from sys_invocation where status = 'scheduled'")
        assert later["id"] == entries["Command: OneWayCall"]["invoked_id"]


async def test_a_sleep_says_until_when(tmp_path: Path):
    async with opened(tmp_path / ".nbdurable") as (engine, _clock, ask):
        sent = await engine.client.service_send(nap, None)
        await until_status(engine, sent.invocation_id, "suspended")
        (row,) = await ask("select * from sys_journal where entry_type = 'Command: Sleep'")
        assert (row["name"], row["completed"]) == ("siesta", False)
        assert row["sleep_wakeup_at"] == T0 + timedelta(hours=1)


async def test_keys_locks_and_queues(tmp_path: Path):
    async with opened(tmp_path / ".nbdurable") as (engine, _clock, ask):
        client = engine.client
        first = (await client.object_send(hold, "k", "tea")).invocation_id
        second = (await client.object_send(hold, "k", "milk")).invocation_id
        await until_status(engine, first, "suspended")
        await until_status(engine, second, "pending")
        assert await ask("select * from sys_keyed_service_status") == [
            {"service_name": "Cart", "service_key": "k", "invocation_id": first}
        ]
        assert await ask("select * from sys_locks") == [
            {"scope": None, "lock_name": "Cart/k", "acquired_at": T0, "acquired_by": first}
        ]
        (queued,) = await ask("select * from sys_inbox")
        assert queued.pop("sequence_number") > 0
        assert queued == {
            "service_name": "Cart",
            "service_key": "k",
            "id": second,
            "created_at": T0,
        }
        assert await ask("select * from state") == [
            {
                "scope": None,
                "service_name": "Cart",
                "service_key": "k",
                "key": "item",
                "key_length": 4,
                "value_utf8": '"tea"',
                "value": b'"tea"',
                "value_length": 5,
            }
        ]


async def test_promises(tmp_path: Path):
    async with opened(tmp_path / ".nbdurable") as (engine, _clock, ask):
        client = engine.client
        sent = await client.workflow_send(run, "o1", "tea")
        await until(engine, sent.invocation_id, lambda view, _: bool(view.open_promises))
        promise = {
            "scope": None,
            "service_name": "Order",
            "service_key": "o1",
            "key": "approval",
            "completed": False,
            "completion_success_value": None,
            "completion_success_value_utf8": None,
            "completion_failure": None,
        }
        assert await ask("select * from sys_promise") == [promise]
        await client.resolve_promise("Order", "o1", "approval", "yes")
        await client.reject_promise("Order", "o2", "approval", "no")
        assert await ask("select * from sys_promise order by service_key") == [
            {
                **promise,
                "completed": True,
                "completion_success_value": b'"yes"',
                "completion_success_value_utf8": '"yes"',
            },
            {
                **promise,
                "service_key": "o2",
                "completed": True,
                "completion_failure": "[500] no",
            },
        ]


async def test_services_and_their_deployments(tmp_path: Path):
    async with opened(tmp_path / ".nbdurable") as (_engine, _clock, ask):
        services = await ask("select * from sys_service order by name")
        assert [(row["name"], row["ty"]) for row in services] == [
            ("Cart", "virtual_object"),
            ("Order", "workflow"),
            ("Shop", "service"),
            ("Slow", "service"),
        ]
        deployments = {row["id"]: row for row in await ask("select * from sys_deployment")}
        for row in services:
            assert (row["revision"], row["public"]) == (1, True)
            assert row["deployment_id"] == deployment_id(row["name"], 1)
            deployment = deployments[row["deployment_id"]]
            assert (deployment["services"], deployment["created_at"]) == ([row["name"]], T0)


async def test_limits_are_rules(tmp_path: Path):
    async with opened(tmp_path / ".nbdurable") as (_engine, _clock, ask):
        rows = await ask("select pattern, concurrency, disabled, last_modified from sys_rules")
        assert rows == [
            {"pattern": "Slow", "concurrency": 1, "disabled": False, "last_modified": T0}
        ]


async def test_absorbing_changes_no_answer(tmp_path: Path):
    """What is in base, and what is in hot, is one: each table says the same before and after."""
    async with opened(tmp_path / ".nbdurable") as (engine, _clock, ask):
        client = engine.client
        await client.object_send(hold, "k", "tea")
        await client.object_send(hold, "k", "milk")
        sent = await client.workflow_send(run, "o1", "tea")
        await until(engine, sent.invocation_id, lambda view, _: bool(view.open_promises))
        await client.resolve_promise("Order", "o1", "approval", "yes")
        await client.attach(sent.invocation_id)
        failing = await client.service_send(fail, None)
        await until_status(engine, failing.invocation_id, "backing-off")
        tables = [*COLUMNS, "sys_rules"]
        before = {table: await ask(f"from {table} order by all") for table in tables}
        assert all(before.values()), "each has a row to compare"
        await asyncio.to_thread(engine._store.absorb)
        after = {table: await ask(f"from {table} order by all") for table in tables}
        assert before == after
