"""The runs that are opened below rows: each as it is now, and those that are forgotten say so."""

from __future__ import annotations

import queue
from types import SimpleNamespace

import pytest

import nbdurable
from nbdurable import Context, Service
from nbdurable.notebook.branches import OPEN_MAX, Branches
from nbdurable.notebook.widgets.screen import Screen

shop = Service("Shop")


@shop.handler()
async def pick(ctx: Context, what: str) -> str:
    return f"{what} is on shelf 7"


@pytest.fixture
def client(tmp_path):
    with nbdurable.open_sync(services=[shop], path=tmp_path / ".nbdurable") as engine:
        yield engine.opened.client


@pytest.fixture
def told(client):
    """What a page is told, and the branches that tell it, on the screen thread."""
    seen: queue.Queue = queue.Queue()
    session = SimpleNamespace(client=client, screen=Screen(), shell=None)
    branches = Branches(session, seen.put)
    yield SimpleNamespace(
        branches=branches,
        do=lambda job: session.screen.draw(object(), job),
        next=lambda: seen.get(timeout=30),
    )
    session.screen.close()


def run_of(client):
    sent = client.wait(client.service_send(pick, "tea"))
    assert client.wait(client.attach(sent.invocation_id)) == "tea is on shelf 7"
    return sent.invocation_id


def test_an_opened_run_is_shown_until_it_is_closed(client, told):
    run = run_of(client)
    told.do(lambda: told.branches.open(run))
    (picture,) = told.next().values()
    assert [row["kind"] for row in picture["rows"]] == ["Input", "Output"]
    told.do(lambda: told.branches.close(run))
    assert told.next() == {}


def test_a_run_that_is_forgotten_says_so(client, told):
    run = run_of(client)
    client.wait(client.purge(run))
    told.do(lambda: told.branches.open(run))
    assert told.next() == {run: {"problem": f"there is no invocation '{run}'"}}


def test_who_opens_many_looks_at_the_last_ones(client, told):
    """Each is drawn whenever it changes."""
    runs = [run_of(client) for _ in range(OPEN_MAX + 1)]
    for run in runs:
        told.do(lambda run=run: told.branches.open(run))
    shown = told.next()
    while runs[-1] not in shown:
        shown = told.next()
    assert set(shown) == set(runs[1:])
