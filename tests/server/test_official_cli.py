"""Restate's own CLI as a client: it takes an engine of ours for one of its servers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.served import ASKED_MAX

import nbdurable
from nbdurable import Context, ObjectContext, Service, VirtualObject, Workflow, WorkflowContext
from nbdurable.client.local import LocalClient
from nbdurable.wiring import DurableEngine, SyncDurableEngine

pytestmark = pytest.mark.slow

# Each command is a process that asks up to ten queries.
COMMAND_S_MAX = 60

shop, cart, order = Service("Shop"), VirtualObject("Cart"), Workflow("Order")


@shop.handler()
async def greet(ctx: Context, name: str) -> str:
    """Say hello."""
    return f"hello {name}"


@shop.handler()
async def nap(ctx: Context) -> None:
    await ctx.sleep(timedelta(hours=1))


@shop.handler(
    invocation_retry_policy=nbdurable.InvocationRetryPolicy(initial_interval=timedelta(hours=1))
)
async def fail(ctx: Context) -> None:
    raise RuntimeError("no luck today")


@cart.handler()
async def add(ctx: ObjectContext, item: str) -> int:
    items = [*(await ctx.get("items") or []), item]
    ctx.set("items", items)
    return len(items)


@cart.handler()
async def hold(ctx: ObjectContext) -> None:
    await ctx.sleep(timedelta(hours=1))


@order.main()
async def run(ctx: WorkflowContext, item: str) -> str:
    await ctx.run_typed("reserve", lambda: 5)
    await ctx.object_call(add, "of-orders", item)
    return await ctx.promise("approval").value()


class Cli(NamedTuple):
    """An engine that is served, and the program that talks to it."""

    engine: SyncDurableEngine
    program: Path
    environment: dict[str, str]

    @property
    def client(self) -> LocalClient:
        return self.engine.opened.client

    def __call__(self, *words: str, fails: bool = False, **environment: str) -> str:
        """What it prints, on either stream, without its colours."""
        done = subprocess.run(
            [self.program, *words],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S_MAX,
        )
        printed = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
        assert done.returncode == (1 if fails else 0), printed
        assert "Protocol error" not in printed
        assert fails or "WARNING" not in printed
        return printed

    def send(self, handler: Any, arg: Any = None, key: str = "") -> str:
        """The id of what was sent, once it runs or waits."""
        client = self.client
        match handler.__name__:
            case "run":
                sending = client.workflow_send(handler, key, arg)
            case "add" | "hold":
                sending = client.object_send(handler, key, arg)
            case _:
                sending = client.service_send(handler, arg)
        return str(client.wait(sending).invocation_id)

    def until(self, invocation_id: str, *statuses: str) -> None:
        """Ask by way of the engine until it is so: what was sent is on its way."""
        for _ in range(ASKED_MAX):
            if self.status(invocation_id) in statuses:
                return
        raise AssertionError(f"{invocation_id} is still {self.status(invocation_id)}")

    def status(self, invocation_id: str) -> str:
        return self.client.wait(self.client.invocation(invocation_id)).status


@pytest.fixture(scope="module")
def cli(
    restate_program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cli]:
    """With a token, as every engine has one unless somebody takes it away."""
    folder = tmp_path_factory.mktemp("official")
    engine = SyncDurableEngine(
        DurableEngine(folder / ".nbdurable", services=[shop, cart, order], logs_failures=False)
    )
    with engine, nbdurable.serve(engine.opened) as serving:
        assert serving.token is not None
        environment = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "RESTATE_ADMIN_URL": serving.admin_url,
            "RESTATE_AUTH_TOKEN": serving.token,
        }
        yield Cli(engine, restate_program("restate"), environment)


def test_it_finds_a_healthy_server(cli: Cli):
    printed = cli("whoami")
    assert "is healthy!" in printed
    assert "Advertised ingress address" in printed


def test_without_the_token_it_is_let_nowhere(cli: Cli):
    printed = cli("services", "list", fails=True, RESTATE_AUTH_TOKEN="wrong")  # noqa: S106
    assert "Unable to connect" in printed


def test_services(cli: Cli):
    listed = cli("services", "list", "--extra")
    assert re.search(r"\[public\] +Shop +1 ", listed)
    assert re.search(r"\[public\] +Cart +1 +virtual object", listed)
    assert re.search(r"\[public\] +Order +1 +workflow", listed)
    described = cli("services", "describe", "Shop")
    assert re.search(r"greet +JSON string +JSON string", described)
    assert re.search(r"nap +none +none", described)
    assert "does not exist" in cli("services", "describe", "Nope", fails=True)


def test_what_services_are_busy_with(cli: Cli):
    holds = cli.send(hold, key="status")
    queued = cli.send(add, "x", key="status")
    cli.until(queued, "pending")
    status = cli("services", "status", "Cart")
    assert re.search(rf"status +1 +{holds} \((running|suspended)\) +hold", status)
    assert "Summary" in cli("services", "status")
    cli("invocations", "kill", "--yes", "Cart/status")
    assert {cli.status(holds), cli.status(queued)} == {"completed"}


def test_the_configuration_of_a_service(cli: Cli):
    assert "Inactivity timeout:  1m" in cli("services", "config", "view", "Order")
    cli("services", "config", "patch", "--yes", "Order", "--journal-retention", "2h")
    cli("services", "config", "patch", "--yes", "Order", "--public", "false")
    viewed = cli("services", "config", "view", "Order")
    assert "Public:  false" in viewed
    assert "Journal retention:  2h" in viewed
    cli("services", "config", "patch", "--yes", "Order", "--public", "true")


def test_deployments(cli: Cli):
    listed = cli("deployments", "list", "--extra")
    (deployment,) = re.findall(r"nbdurable://\S+/Shop/1 .*?(dp_\w+)", listed)
    described = cli("deployments", "describe", deployment)
    assert "Shop" in described
    assert re.search(r"greet +JSON string +JSON string", described)
    # Handlers live in their processes; what cannot be done is said, with what can.
    said = cli("deployments", "register", "--yes", "http://localhost:1/", fails=True)
    assert "nothing is registered by an address" in said
    assert "still Active" in cli("deployments", "remove", "--yes", deployment, fails=True)


def test_invocations_are_listed(cli: Cli):
    sleeper = cli.send(nap)
    failing = cli.send(fail)
    cli.until(failing, "backing-off")
    greeted = cli.send(greet, "Ada")
    cli.until(greeted, "completed")
    listed = cli("invocations", "list")
    assert sleeper in listed
    assert re.search(r"backing-off .*Retried 1 time", listed)
    assert "no luck today" in listed
    assert greeted not in listed
    assert greeted in cli("invocations", "list", "--all")
    done = cli("invocations", "list", "--service", "Shop", "--status", "completed")
    assert "completed with success" in done
    assert sleeper not in done
    assert sleeper in cli("invocations", "list", "--handler", "nap")
    assert "Showing 0/0" in cli("invocations", "list", "--zombie")
    cli("invocations", "kill", "--yes", "Shop")


def test_a_journal_is_described(cli: Cli):
    of = cli.send(run, "tea", key="described")
    cli.until(of, "suspended", "running")
    described = cli("invocations", "describe", of)
    assert "Order/described/run" in described
    for entry in ("Command: Input", "Command: Run [reserve]", "Notification: Run", "Command: Call"):
        assert entry in described
    cli("invocations", "kill", "--yes", of)
    assert "killed" in cli("invocations", "describe", of)
    assert "not found" in cli("invocations", "describe", "inv_nope", fails=True)


def test_cancel(cli: Cli):
    of = cli.send(nap)
    cli.until(of, "running", "suspended")
    assert "Cancelled 1 invocations" in cli("invocations", "cancel", "--yes", of)
    cli.until(of, "completed")
    assert "[409] cancelled" in cli("invocations", "describe", of)
    assert "No invocations found" in cli("invocations", "cancel", "--yes", of, fails=True)


def test_pause_and_resume(cli: Cli):
    of = cli.send(fail)
    cli.until(of, "backing-off")
    assert "Paused 1 invocations" in cli("invocations", "pause", "--yes", of)
    assert cli.status(of) == "paused"
    assert re.search(r"Status: +paused", cli("invocations", "describe", of))
    assert "Resumed 1 invocations" in cli("invocations", "resume", "--yes", of)
    cli.until(of, "backing-off")
    cli("invocations", "pause", "--yes", of)
    cli("invocations", "resume", "--yes", "--deployment", "latest", of)
    cli.until(of, "backing-off")
    cli("invocations", "kill", "--yes", of)


def test_restart_and_purge(cli: Cli):
    of = cli.send(greet, "Bea")
    cli.until(of, "completed")
    printed = cli("invocations", "restart-as-new", "--yes", of)
    (anew,) = set(re.findall(r"inv_\w+", printed)) - {of}
    cli.until(anew, "completed")
    assert cli.client.wait(cli.client.output(anew)) == "hello Bea"
    assert "Purged 1 invocations" in cli("invocations", "purge", "--yes", of)
    assert "not found" in cli("invocations", "describe", of, fails=True)


def test_a_workflow_is_not_restarted(cli: Cli):
    of = cli.send(run, "tea", key="once")
    cli("invocations", "kill", "--yes", of)
    cli.until(of, "completed")
    printed = cli("invocations", "restart-as-new", "--yes", of, fails=True)
    assert "Failed to restart 1 invocations" in printed
    assert "it runs once per key" in printed


def test_sql(cli: Cli):
    of = cli.send(greet, "Eve")
    cli.until(of, "completed")
    # Its id is not known to be an id here: the CLI must make of Arrow what it is.
    sql = f"select id, status, created_at, journal_retention from sys_invocation where id = '{of}'"
    table = cli("sql", sql)
    assert re.search(rf"{of} +completed +\d{{4}}-\d\d-\d\dT[\d:.]+Z +PT2592000S", table)
    assert "1 rows." in table
    (row,) = json.loads(re.search(r"\[.*\]", cli("sql", "--json", sql))[0])
    assert (row["id"], row["status"]) == (of, "completed")
    for table in ("sys_journal", "sys_journal_events", "sys_deployment", "state", "sys_promise"):
        assert "rows." in cli("sql", f"select * from {table} limit 50")
    assert "DELETE is refused" in cli("sql", "delete from state", fails=True)


def test_state(cli: Cli, tmp_path: Path):
    cli.until(cli.send(add, "tea", key="edited"), "completed")
    assert re.search(r'items +\[\s+"tea"\s+\]', cli("state", "get", "Cart", "edited"))
    patch = json.dumps([{"op": "add", "path": "/note", "value": "fragile"}])
    cli("state", "patch", "Cart", "edited", "--patch", patch, CI="true")
    got = cli("state", "get", "Cart", "edited")
    assert re.search(r'note +"fragile"', got)
    assert re.search(r'items +\[\s+"tea"\s+\]', got)
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/fragile/robust/ "$1"\n')
    editor.chmod(0o700)
    cli("state", "edit", "Cart", "edited", EDITOR=str(editor), CI="true")
    assert re.search(r'note +"robust"', cli("state", "get", "Cart", "edited"))
    again = cli.send(add, "milk", key="edited")
    cli.until(again, "completed")
    assert cli.client.wait(cli.client.output(again)) == 2
    cli("state", "clear", "--yes", "Cart/edited")
    assert "items" not in cli("state", "get", "Cart", "edited")
    assert "Only virtual objects" in cli("state", "get", "Shop", "x", fails=True)


def test_what_we_do_not_have_is_empty(cli: Cli):
    assert "No subscriptions" in cli("subscriptions", "list")
    assert "No Kafka clusters" in cli("kafka-clusters", "list")
    assert "No rules" in cli("rules", "list")
    # What it is told is folded into its box.
    refused = cli("rules", "set", "--yes", "tenant/*", "--concurrency", "3", fails=True)
    assert "rules are settings" in " ".join(refused.split())
