"""The switch interval of the process: lowered while handlers run, and put back."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from nbdurable import Service
from nbdurable.invoker import alertness
from nbdurable.invoker.alertness import SWITCH_INTERVAL_S, be_alert, be_calm
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine

service = Service("S")
seen: list[float] = []


@service.handler()
async def look(ctx) -> None:
    seen.append(sys.getswitchinterval())


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    """As if no other test of this process had left a handler running."""
    monkeypatch.setattr(alertness, "_alert", alertness._Alert())
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield 0.005
    sys.setswitchinterval(before)


async def test_it_is_lowered_while_a_handler_runs_and_no_longer(usual: float):
    seen.clear()
    async with DurableEngine(services=[service], store=MemoryStore()) as engine:
        await engine.client.service_call(look, None)
        await engine.client.service_call(look, None)
    assert seen == [SWITCH_INTERVAL_S] * 2
    assert sys.getswitchinterval() == usual


def test_it_is_put_back_when_the_last_of_several_links_is_calm(usual: float):
    be_alert()
    be_alert()
    be_calm()
    assert sys.getswitchinterval() == SWITCH_INTERVAL_S
    be_calm()
    assert sys.getswitchinterval() == usual


def test_what_somebody_else_has_set_meanwhile_stays():
    be_alert()
    sys.setswitchinterval(0.001)
    theirs = sys.getswitchinterval()
    be_calm()
    assert sys.getswitchinterval() == theirs


def test_a_lower_one_is_not_raised():
    sys.setswitchinterval(0.0001)
    lower = sys.getswitchinterval()
    be_alert()
    assert sys.getswitchinterval() == lower
    be_calm()
    assert sys.getswitchinterval() == lower
