"""Random lives of the engine machine, and what SQL says of them: the same as the state."""

from __future__ import annotations

import random
import sys
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from hypothesis import note, settings
from tables import Tables, rows_of

from nbdurable.core.facts import Completed
from nbdurable.core.ids import digest_of
from nbdurable.core.state import (
    EngineState,
    Invocation,
    OpenCall,
    OpenPromise,
    OpenRun,
    OpenSleep,
)
from nbdurable.core.values import Failure, ObjectId

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))
from test_machine_state import EngineLife

OPEN_ENTRY_TYPES = {
    OpenRun: "Command: Run",
    OpenSleep: "Command: Sleep",
    OpenPromise: "Command: GetPromise",
}
SHOWN = {
    "pending": "inboxed",
    "ready": "invoked",
    "running": "invoked",
    "backing-off": "invoked",
}


@cache
def tables() -> Tables:
    """One for all examples: making the views takes longer than a life."""
    return Tables()


def at(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)


def lasting(ms: int | None) -> timedelta | None:
    return None if ms is None else timedelta(milliseconds=ms)


def invocations_agree(of: Tables, state: EngineState) -> None:
    rows = {row["id"]: row for row in of.ask("select * from sys_invocation")}
    stored = {row["id"]: row for row in of.ask("select * from sys_invocation_status")}
    in_flight = {row["id"]: row for row in of.ask("select * from sys_invocation_state")}
    assert rows.keys() == state.invocations.keys() | state.completed.keys() == stored.keys()
    retried = ("ready", "running", "backing-off", "paused")
    assert in_flight.keys() == {inv.id for inv in state.live() if inv.status in retried}
    for one, row in rows.items():
        inv = state.find(one)
        assert inv is not None
        note(f"{inv!r}")
        whom_and_when_agree(row, inv)
        assert row["status"] == inv.status
        assert stored[one]["status"] == SHOWN.get(inv.status, inv.status)
        if isinstance(inv, Invocation):
            live_agree(row, inv, state)
            if one in in_flight:
                assert in_flight[one]["in_flight"] == (inv.status == "running")
        else:
            completed_agree(row, inv)


def whom_and_when_agree(row: dict, inv: Invocation | Completed) -> None:
    target = inv.target
    assert row["target"] == str(target)
    assert (row["target_service_name"], row["target_service_key"], row["target_handler_name"]) == (
        target.service,
        target.key,
        target.handler,
    )
    assert row["target_service_ty"] == inv.service_type
    assert (row["scope"], row["limit_key"]) == (target.scope, inv.limit_key)
    assert row["idempotency_key"] == inv.idempotency_key
    assert row["restarted_from"] == inv.restarted_from
    assert row["created_at"] == at(inv.created_at_ms)
    assert row["completion_retention"] == lasting(inv.completion_retention_ms)
    assert row["journal_retention"] == lasting(inv.journal_retention_ms)
    assert (row["pinned_deployment_id"] is None) == (inv.revision is None)


def live_agree(row: dict, inv: Invocation, state: EngineState) -> None:
    counted = inv.failure_count + 1 if inv.status == "running" else inv.failure_count
    retried = inv.status in ("ready", "running", "backing-off", "paused")
    assert row["retry_count"] == (counted if retried else None)
    assert row["next_retry_at"] == at(inv.next_retry_at_ms)
    assert row["last_failure"] == (None if inv.last_error is None else inv.last_error.message)
    assert row["modified_at"] == at(inv.modified_at_ms)
    assert row["scheduled_start_at"] == at(inv.start_at_ms)
    assert row["journal_size"] == inv.entry_count
    assert row["journal_commands_size"] == inv.entry_count - inv.notification_count
    assert (row["completed_at"], row["completion_result"]) == (None, None)
    caller = inv.caller
    assert row["invoked_by_id"] == (None if caller is None else caller.invocation_id)
    known = None if caller is None else state.find(caller.invocation_id)
    assert row["invoked_by_target"] == (None if known is None else str(known.target))
    by = "ingress" if caller is None else "service"
    assert row["invoked_by"] == ("restart_as_new" if inv.restarted_from else by)
    assert (row["running_at"] is None) == (inv.attempt == 0)
    if inv.status == "pending":
        assert row["inboxed_at"] is not None


def completed_agree(row: dict, inv: Completed) -> None:
    failed = isinstance(inv.result, Failure)
    assert row["completion_result"] == ("failure" if failed else "success")
    said = f"[{inv.result.code}] {inv.result.message}" if failed else None
    assert row["completion_failure"] == said
    assert row["completed_at"] == row["modified_at"] == at(inv.completed_at_ms)
    assert row["journal_size"] == (0 if inv.journal_purged else inv.entry_count)
    assert (row["retry_count"], row["last_failure"], row["next_retry_at"]) == (None, None, None)


def journals_agree(of: Tables, state: EngineState) -> None:
    """Every entry is there once, and what has no answer is what is open."""
    entries = of.ask("select id, index, entry_type, completed from sys_journal order by id, index")
    journals: dict[str, list[dict]] = {}
    for entry in entries:
        journals.setdefault(entry["id"], []).append(entry)
    for inv in (*state.invocations.values(), *state.completed.values()):
        journal = journals.pop(inv.id, [])
        purged = isinstance(inv, Completed) and inv.journal_purged
        assert [entry["index"] for entry in journal] == list(
            range(0 if purged else inv.entry_count)
        )
        if isinstance(inv, Invocation):
            waiting = sorted(
                OPEN_ENTRY_TYPES.get(type(open_), "") or f"Command: {open_.of}"  # type: ignore[union-attr] - the last one there is.
                for open_ in inv.open.values()
            )
            known = {*OPEN_ENTRY_TYPES.values(), "Command: Call", "Command: AttachInvocation"}
            assert waiting == sorted(
                entry["entry_type"]
                for entry in journal
                if entry["completed"] is False and entry["entry_type"] in known
            )
    assert not journals, "journals of nobody"
    assert OpenCall not in OPEN_ENTRY_TYPES


def keys_agree(of: Tables, state: EngineState) -> None:
    rows = of.ask("select * from state")
    assert {
        (row["scope"], row["service_name"], row["service_key"], row["key"]): (
            digest_of(row["value"]),
            row["value_length"],
            row["value_utf8"],
        )
        for row in rows
    } == {
        (key.scope, key.service, key.key, name): (ref.digest, ref.bytes, "v")
        for key, obj in state.objects.items()
        for name, ref in obj.state.items()
    }
    assert len(rows) == sum(len(obj.state) for obj in state.objects.values())
    promises = {
        (
            ObjectId(service=row["service_name"], key=row["service_key"], scope=row["scope"]),
            row["key"],
        ): (row["completed"], row["completion_success_value"], row["completion_failure"])
        for row in of.ask("select * from sys_promise")
    }
    expected = {}
    for key, obj in state.objects.items():
        for name, result in (obj.promises or {}).items():
            failed = isinstance(result, Failure)
            value = None if failed else {digest_of(b"ok"): b"ok", digest_of(b"p"): b"p"}
            expected[key, name] = (
                True,
                None if value is None else value[result.value.digest],
                f"[{result.code}] {result.message}" if failed else None,
            )
        for name in obj.promise_waiters or {}:
            expected[key, name] = (False, None, None)
    assert promises == expected


def locks_agree(of: Tables, state: EngineState) -> None:
    holders = {str(key): obj.holder for key, obj in state.objects.items() if obj.holder}
    assert {
        f"{row['service_name']}/{row['service_key']}": row["invocation_id"]
        for row in of.ask("select * from sys_keyed_service_status")
    } == holders
    locks = of.ask("select * from sys_locks")
    assert {row["lock_name"]: row["acquired_by"] for row in locks} == holders
    assert all(row["acquired_at"] is not None for row in locks)
    queues: dict[str, list[str]] = {}
    for row in of.ask("select * from sys_inbox order by sequence_number"):
        queues.setdefault(f"{row['service_name']}/{row['service_key']}", []).append(row["id"])
    assert queues == {str(key): list(obj.inbox) for key, obj in state.objects.items() if obj.inbox}


def deployments_agree(of: Tables, state: EngineState) -> None:
    services = {row["name"]: row for row in of.ask("select * from sys_service")}
    deployments = {row["id"]: row for row in of.ask("select * from sys_deployment")}
    assert services.keys() == state.services.keys()
    assert len(deployments) == sum(len(s.revisions) for s in state.services.values())
    for name, service in state.services.items():
        row = services[name]
        assert (row["revision"], row["ty"], row["public"]) == (
            service.latest,
            service.manifest.type,
            True,
        )
        assert deployments[row["deployment_id"]]["services"] == [name]
    limits = state.settings.limits
    rules = {row["pattern"]: row["concurrency"] for row in of.ask("select * from sys_rules")}
    engine = {} if limits.engine is None else {"*": limits.engine}
    assert rules == engine | limits.services | limits.scopes


class LifeInTables(EngineLife):
    """Lives as `EngineLife` does; at its end SQL is asked about all of it."""

    def teardown(self) -> None:
        rows = rows_of(self.room.records)
        chance = random.Random(len(rows))
        ends = [chance.randint(0, len(rows)) for _ in range(chance.randint(0, 2))]
        note(f"absorbed at {ends} of {len(rows)} rows")
        of, state = tables(), self.room.state
        of.hold(rows, *ends, copies_are_left=chance.random() < 0.5)
        invocations_agree(of, state)
        journals_agree(of, state)
        keys_agree(of, state)
        locks_agree(of, state)
        deployments_agree(of, state)


TestLifeInTables = pytest.mark.slow(LifeInTables.TestCase)
TestLifeInTables.settings = settings(max_examples=30, stateful_step_count=60)
