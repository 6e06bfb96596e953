"""Journals that older versions wrote, kept as files, open here and go on: the format is a promise.

`make.py` made each of them when its format was new. A failure here is never mended by making the
file again: a journal that is out there would fail in the same way.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from nbdurable.core.values import ObjectId

HERE = Path(__file__).parent
DAY_MS = 86_400_000
KEPT = sorted(path.stem for path in HERE.glob("format-*.zip"))

sys.path.insert(0, str(HERE))
import make  # noqa: E402
import old_flows  # noqa: E402

LIVES = [
    ("Greeter/greet", "completed"),
    ("Greeter/fail", "completed"),
    ("Cart/ada/add", "completed"),
    ("Order/order-1/run", "ready"),
    ("Cart/order-1/add", "completed"),
    ("Cart/ada/add", "completed"),
    ("Greeter/greet", "scheduled"),
    ("Greeter/nap", "ready"),
    ("Greeter/ask", "ready"),
    ("Greeter/nap", "paused"),
]
ORDER = [
    ("Input", "run", "done"),
    ("Run", "reserve", "done"),
    ("Run", "scan", "done"),
    ("Call", "Cart/order-1/add", "done"),
    ("GetPromise", "approved", "waiting"),
]


@pytest.fixture(params=KEPT)
def kept(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    old_flows.STEPS.clear()
    with zipfile.ZipFile(HERE / f"{request.param}.zip") as file:
        file.extractall(tmp_path / ".nbdurable")
    return tmp_path / ".nbdurable"


def test_there_is_a_journal_of_each_format_since_the_second():
    """Of the first there is its schema: see `store/test_migrations.py`."""
    from nbdurable.store.files import FORMAT_VERSION

    assert [f"format-{number}" for number in range(2, FORMAT_VERSION + 1)] == KEPT


async def test_an_old_journal_lists_its_runs_and_shows_its_entries(kept: Path):
    """Without any of its code: what was recorded is all there, also in SQL."""
    async with make.nbdurable.DurableEngine(kept, clock=make.StandingClock()) as engine:
        client = engine.client
        views = await client.invocations()
        found = await client.query("select target, status from sys_invocation")
        assert len(views) == len(LIVES)
        assert sorted(LIVES) == sorted(found.rows)
        order = await client.find("order-1")
        entries = await client.journal(order.id)
        assert [(entry.kind, entry.name, entry.status) for entry in entries] == ORDER
        state = await client.operator().state(ObjectId(service="Cart", key="ada"))
        assert state.values == {"items": b'["tea","cup"]'}


async def test_an_old_run_goes_on_and_repeats_no_step(kept: Path):
    """Replayed from its record to where it waited; a large value is read from its file."""
    async with make.opened(kept) as engine:
        client = engine.client
        await client.resolve_promise("Order", "order-1", "approved", "Ada")
        result = await client.workflow_attach(old_flows.run, "order-1")
    assert result == "hold-1: captured 100 for Ada, 1 items, 100000 bytes"
    assert old_flows.STEPS == ["capture"]


async def test_old_timers_end_and_what_was_sent_with_a_delay_is_called(kept: Path):
    """Two days later: the nap is over, and the call that was sent with a delay has been made."""
    async with make.opened(kept) as engine:
        views = await engine.client.invocations()
        (nap,) = [view.id for view in views if view.handler == "nap" and view.status != "paused"]
        (late,) = [view.id for view in views if view.status == "scheduled"]
    async with make.opened(kept, make.AT_MS + 2 * DAY_MS) as engine:
        assert await engine.client.attach(nap) == "rested in bed 7"
        assert await engine.client.attach(late) == "hello Eve"
    assert "make the bed" not in old_flows.STEPS


async def test_an_old_journal_is_written_to_like_a_new_one(kept: Path):
    async with make.opened(kept) as engine:
        assert await engine.client.object_call(old_flows.add, "ada", "pot") == 3
        paused = next(v for v in await engine.client.invocations() if v.status == "paused")
        await engine.client.kill(paused.id)
    async with make.opened(kept) as engine:
        assert await engine.client.object_call(old_flows.add, "ada", "jug") == 4
