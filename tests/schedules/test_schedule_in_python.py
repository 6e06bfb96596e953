"""`durable.schedule()` in a script: the same schedules as those of the command."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.notebooks import write

import nbdurable
from nbdurable import (
    Context,
    DefinitionError,
    HttpError,
    NbdurableError,
    ObjectContext,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    durable,
)
from nbdurable.schedules.service import SCHEDULES, trigger

report, counter, flow = Service("Report"), VirtualObject("Counter"), Workflow("Payment")


@report.handler()
async def build(ctx: Context, name: str) -> str:
    return name


@report.handler()
async def tidy(ctx: Context) -> None: ...


@counter.handler()
async def add(ctx: ObjectContext, delta: int) -> None: ...


@flow.main()
async def pay(ctx: WorkflowContext, amount: int) -> int:
    return amount


@pytest.fixture
def engine(tmp_path):
    with nbdurable.open_sync(tmp_path / "journal", services=[report, counter, flow]) as opened:
        yield opened


def scheduled(engine: Any, *words: Any, **more: Any) -> Any:
    return durable.schedule(*words, engine=engine, **more)


def ended_of(schedule: Any) -> list[dict[str, str]]:
    """Once there are any."""
    until = time.monotonic() + 20
    while not (ended := schedule.show()["ended"]):
        assert time.monotonic() < until, "it does not end"
    return ended


def test_it_says_when_it_fires_next_and_is_changed_under_its_name(engine):
    nightly = scheduled(engine, "nightly", build, "0 7 * * *", "sales", tz="Europe/Berlin")
    assert nightly.next.hour == 7
    assert nightly.next - datetime.now(UTC) <= timedelta(days=1)
    assert nightly.last is None
    assert repr(nightly).startswith(
        "<Schedule nightly '0 7 * * *' Europe/Berlin calls Report/build, next 2"
    )
    scheduled(engine, "nightly", build, "0 9 * * *", "sales", overlap="queue")
    assert (nightly.next.hour, nightly.show()["overlap"]) == (9, "queue")
    assert [one.name for one in durable.schedules(engine=engine)] == ["nightly"]


def test_triggered_it_runs_with_its_input(engine):
    nightly = scheduled(engine, "nightly", build, "@yearly", "sales")
    run = nightly.trigger()
    assert ended_of(nightly) == [{"id": run, "failure": ""}]
    (found,) = [view for view in engine.client.invocations() if view.service == "Report"]
    assert engine.client.attach(found.id) == "sales"


def test_a_workflow_is_started_by_whoever_keeps_the_schedule_wherever_its_code_is(tmp_path):
    """As by `nbdurable up`, beside the notebook that has defined it."""
    with (
        nbdurable.open_sync(tmp_path / "journal") as keeper,
        nbdurable.open_sync(tmp_path / "journal", services=[flow]) as worker,
    ):
        assert (keeper.opened.is_owner, worker.opened.is_owner) == (True, False)
        nightly = scheduled(keeper, "nightly", "Payment/pay", "@yearly", 7)
        run = nightly.trigger()
        assert ended_of(nightly) == [{"id": run, "failure": ""}]
        assert keeper.client.workflow_attach("Payment", run) == 7


def test_what_keeps_a_schedule_is_listed_by_its_name_only(engine):
    """A schedule of every minute would hide all else that is listed."""
    nightly = scheduled(engine, "nightly", build, "@yearly", "sales")
    nightly.trigger()
    assert ended_of(nightly)
    listed = engine.client.newest_invocations()
    assert [view.service for view in listed.views] == ["Report"]
    assert listed.found_count == 1
    own = engine.client.newest_invocations(services=["NbdurableSchedule"])
    assert {view.handler for view in own.views} >= {"put", "trigger", "ended"}


def test_what_keeps_a_schedule_is_listed_when_it_goes_wrong(engine):
    scheduled(engine, "nightly", build, "@yearly", "sales")
    with pytest.raises(TerminalError, match="there is no schedule 'daily'"):
        engine.client.object_call(trigger, "daily", None)
    (failed,) = engine.client.newest_invocations().views
    assert failed.target == "NbdurableSchedule/daily/trigger"


def test_backfilled_it_runs_for_each_of_the_past_days(engine):
    nightly = scheduled(engine, "nightly", build, "@daily", "sales")
    assert len(nightly.backfill(days=3)) == 3


def test_paused_it_fires_no_more_and_removed_it_is_gone(engine):
    nightly = scheduled(engine, "nightly", build, "@daily", "sales")
    nightly.pause()
    assert nightly.next is None
    nightly.resume()
    assert nightly.next is not None
    nightly.remove()
    assert durable.schedules(engine=engine) == []
    with pytest.raises(HttpError, match="there is no schedule 'nightly'"):
        nightly.pause()


@pytest.mark.parametrize(
    ("target", "value", "key", "expected"),
    [
        (tidy, None, None, "Report/tidy"),
        ("Report/build", "sales", None, "Report/build"),
        (add, 1, "ada", "Counter/ada/add"),
        ("Counter/ada/add", 1, None, "Counter/ada/add"),
        (pay, 100, None, "Payment/pay"),
        ("Payment/pay", 100, None, "Payment/pay"),
    ],
)
def test_every_kind_of_handler_can_be_called(engine, target, value, key, expected):
    one = scheduled(engine, "one", target, "@daily", value, key=key)
    assert one.show()["target"] == expected


@pytest.mark.parametrize(
    ("target", "when", "value", "key", "error", "says"),
    [
        (build, "61 * * * *", "x", None, DefinitionError, "is no schedule"),
        (add, "@daily", 1, None, DefinitionError, "Counter is keyed"),
        (build, "@daily", "x", "ada", DefinitionError, "has no keys"),
        (pay, "@daily", 1, "ada", DefinitionError, "a key of each fire's own"),
        (tidy, "@daily", "x", None, DefinitionError, "takes no input"),
        ("Nobody/build", "@daily", "x", None, HttpError, "no service 'Nobody'"),
        ("Report/burn", "@daily", "x", None, HttpError, "it has: build, tidy"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(engine, target, when, value, key, error, says):
    with pytest.raises(error, match=says):
        scheduled(engine, "one", target, when, value, key=key)
    assert durable.schedules(engine=engine) == []


def test_a_notebook_is_named_by_its_path_or_as_what_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, ("day = 'none'", "parameters"))
    with nbdurable.open_sync() as engine:
        for target in ("report.ipynb", durable.notebook("report.ipynb", engine=engine)):
            one = scheduled(engine, "one", target, "@daily", {"day": "{fire_date}"})
            assert one.show()["target"] == "Notebook/run"
        with pytest.raises(DefinitionError, match="there is no notebook"):
            scheduled(engine, "one", "nowhere.ipynb", "@daily")


def test_where_nothing_was_ever_scheduled_looking_makes_nothing(engine):
    assert durable.schedules(engine=engine) == []
    assert SCHEDULES.name not in {one.name for one in engine.client.services()}


def test_outside_of_a_notebook_it_asks_for_an_engine():
    with pytest.raises(NbdurableError, match="engine=engine"):
        durable.schedule("nightly", build, "@daily", "sales")
