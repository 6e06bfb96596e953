"""The same handlers on a real Restate server and on an engine here: asked alike, they answer alike.

The handlers are not touched: `Endpoint` serves them by the official SDK, `nbdurable.serve()` by the
engine of this process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from caller import ANSWER_S_MAX, Asked, Both, Caller, Said
from conformance.driver import SERVICES
from conformance.services.blocking import block_and_wait
from scenarios import SCENARIOS
from support.cluster import RestateServer
from support.command import start_apart

import nbdurable
from nbdurable import EngineOptions, ServeOptions
from nbdurable.deploy.serving import Endpoint
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine, SyncDurableEngine

pytestmark = pytest.mark.slow

# An attempt that may not wait is replayed after every wait, by the official SDK and by ours.
ALWAYS_SUSPENDING = {"RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT": "0s"}


class Difference(NamedTuple):
    """The statuses of both sides' answers, and why they differ."""

    why: str
    there: list[int]
    here: list[int]


PAUSES = Difference(
    "a mismatch cannot heal by being tried again: here it pauses, until a person kills it"
    " (DECISIONS 0014); there it is tried as often as the policy says, and fails with 570",
    there=[200, 202, 409, 570, 200],
    here=[200, 202, 200, 409, 200],
)
DIFFERENT = {
    "UserErrors.inputThatIsNoJson": Difference(
        "here it is refused before it is recorded; there it is recorded, and the SDK fails it",
        there=[500],
        here=[400],
    ),
    **{name: PAUSES for name in SCENARIOS if name.startswith("NonDeterminismErrors.")},
}


@pytest.fixture(scope="module")
def restate(
    restate_program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RestateServer]:
    """One that nothing is registered at."""
    with RestateServer(restate_program, tmp_path_factory.mktemp("restate")) as server:
        yield server


@pytest.fixture(scope="module", params=["usual", "always suspending"])
def both(
    request: pytest.FixtureRequest,
    restate_program: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Both]:
    always = request.param != "usual"
    options = EngineOptions(inactivity_timeout=timedelta(0)) if always else EngineOptions()
    settings = ALWAYS_SUSPENDING if always else {}
    engine = DurableEngine(
        services=SERVICES, store=MemoryStore(), options=options, logs_failures=False
    )
    with (
        RestateServer(restate_program, tmp_path_factory.mktemp("restate"), **settings) as server,
        Endpoint(nbdurable.app(SERVICES), port=0) as endpoint,
        SyncDurableEngine(engine) as opened,
        nbdurable.serve(opened.opened, ServeOptions(has_token=False)) as serving,
    ):
        server.register(endpoint.url)
        yield Both(
            Asked(server.ingress_url, server.admin_url, server.status_of),
            Asked(serving.ingress_url, serving.admin_url, partial(status_of, opened)),
        )


def status_of(opened: SyncDurableEngine, invocation_id: str) -> str:
    client = opened.opened.client
    return client.wait(client.invocation(invocation_id)).status


async def answers(asked: Asked, scenario: str) -> list[Said]:
    async with httpx.AsyncClient(timeout=ANSWER_S_MAX) as client:
        caller = Caller(client, asked)
        await SCENARIOS[scenario](caller)
        return caller.said


@pytest.mark.parametrize("scenario", sorted(SCENARIOS.keys() - DIFFERENT.keys()))
async def test_a_scenario_has_the_same_answers_on_a_cluster(both: Both, scenario: str):
    there = await answers(both.there, scenario)
    here = await answers(both.here, scenario)
    assert here == there


@pytest.mark.parametrize("scenario", DIFFERENT)
async def test_what_differs_on_purpose_differs_as_it_is_said(both: Both, scenario: str):
    there = await answers(both.there, scenario)
    here = await answers(both.here, scenario)
    assert [said.status for said in there] == DIFFERENT[scenario].there
    assert [said.status for said in here] == DIFFERENT[scenario].here


def test_the_official_command_line_registers_what_ours_serves(restate: RestateServer):
    words = ("--app", "conformance.driver:SERVICES", "--bind", "127.0.0.1:0", "--json")
    with start_apart("serve", *words) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            assert said["services"] == [service.name for service in SERVICES]
            assert "Deployment ID:" in restate.cli("deployments", "register", said["url"], "--yes")
        finally:
            process.terminate()
    assert process.returncode == 0
    listed = restate.cli("services", "list")
    assert all(service.name in listed for service in SERVICES)


async def test_an_attempt_that_was_cut_goes_on_at_the_next_endpoint(restate: RestateServer):
    """What an endpoint leaves behind is journaled at the cluster, which tries again."""
    app = nbdurable.app([block_and_wait])
    async with httpx.AsyncClient(timeout=ANSWER_S_MAX) as client:
        asked = Asked(restate.ingress_url, restate.admin_url, restate.status_of)
        caller = Caller(client, asked)
        flow, key = "BlockAndWaitWorkflow", caller.key()
        with Endpoint(app, port=0) as endpoint:
            restate.register(endpoint.url)
            sent = await caller.send(flow, key, "run", arg="Francesco")
            await caller.until(flow, key, "getState", answers="Francesco")
            port = int(endpoint.url.rpartition(":")[2])
        with Endpoint(app, port=port):
            await caller.call(flow, key, "unblock", arg="Till")
            assert await caller.attach(sent) == "Till"
