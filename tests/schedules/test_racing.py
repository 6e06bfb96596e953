"""Two processes that both keep a schedule, and race for its journal whenever one is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from racer import add, counter
from support.command import until_served

import nbdurable
from nbdurable import durable

RACER = Path(__file__).with_name("racer.py")
WAIT_S_MAX = 60


def until(holds: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_S_MAX
    while not (found := holds()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


@pytest.fixture
def start(tmp_path):
    racers: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        racer = subprocess.Popen(
            [sys.executable, str(RACER), str(tmp_path / "j")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.PIPE,
            text=True,
        )
        racers.append(racer)
        assert racer.stdout is not None
        assert racer.stdout.readline() == "open\n"
        return racer

    yield start
    for racer in racers:
        racer.kill()
        racer.communicate()


def fired(engine) -> int:
    return sum(view.service == "Counter" for view in engine.client.invocations())


@pytest.mark.kill
def test_each_fire_runs_once_though_two_engines_race_for_it(tmp_path, start):
    """Kill -9 of the owner while the other waits for it: a fire may be due just then."""
    with nbdurable.open_sync(tmp_path / "j", services=[counter]) as engine:
        tick = durable.schedule(
            *("tick", add, "every 1s", 1),
            key="ada",
            catch_up="all",
            overlap="queue",
            engine=engine,
        )
        racers = {one.pid: one for one in (start(), start())}
    for _ in range(3):
        owner = until_served(tmp_path / "j").pid
        until(lambda owner=owner: owner in racers, "a racer owns it")
        racers[owner].kill()
        racers.pop(owner).wait()
        until(lambda owner=owner: until_served(tmp_path / "j").pid != owner, "the other takes over")
        another = start()
        racers[another.pid] = another
    with nbdurable.open_sync(tmp_path / "j", services=[counter]) as engine:
        # Each taking over may be faster than the schedule's second.
        until(lambda: fired(engine) >= 3, "it fires")
        tick = durable.schedules(engine=engine)[0]
        tick.pause()
        until(lambda: not tick.show()["running"] and not tick.show()["queued"], "they end")
        ran = [view for view in engine.client.invocations() if view.service == "Counter"]
        fires = engine.client.query(
            "select idempotency_key from sys_invocation where target_service_name = 'Counter'"
        )
        times = [datetime.fromisoformat(key.rpartition("@")[2]) for (key,) in fires.rows]
        seconds = sorted(round(at.timestamp()) for at in times)
        assert len(seconds) == len(ran)
        assert seconds == list(range(seconds[0], seconds[0] + len(ran))), "one lost, or one twice"
        until(lambda: all(view.is_done for view in engine.client.invocations() if view in ran), "")
        state = engine.client.query("select value_utf8 from state where service_key = 'ada'")
        assert int(state.rows[0][0]) == len(ran)
