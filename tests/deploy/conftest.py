"""A real Restate server beside an engine of ours, with the same services on both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from caller import Asked, Both
from conformance.driver import SERVICES
from support.cluster import RestateServer

import nbdurable
from nbdurable import EngineOptions, ServeOptions
from nbdurable.deploy.serving import Endpoint
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine, SyncDurableEngine

# An attempt that may not wait is replayed after every wait, by the official SDK and by ours.
ALWAYS_SUSPENDING = {"RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT": "0s"}


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
            Asked(serving.ingress_url, serving.admin_url, partial(_status_of, opened)),
        )


def _status_of(opened: SyncDurableEngine, invocation_id: str) -> str:
    client = opened.opened.client
    return client.wait(client.invocation(invocation_id)).status
