"""`nbdurable.metrics()`: what was committed, counted."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from datetime import timedelta

import pytest

import nbdurable
from nbdurable import InvocationRetryPolicy, RunOptions, Service, TerminalError
from nbdurable.core.facts import EpochStarted
from nbdurable.core.records import Record
from nbdurable.core.state import EngineState
from nbdurable.observe.counts import Counts, summed
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine

once = InvocationRetryPolicy(max_attempts=2, initial_interval=timedelta(milliseconds=1))
service = Service("S", invocation_retry_policy=once, inactivity_timeout=timedelta(0))
failures: list[bool] = []


@service.handler()
async def work(ctx, number: int) -> int:
    return await ctx.run_typed("double", lambda: number * 2)


@service.handler()
async def refuse(ctx) -> None:
    raise TerminalError("no")


@service.handler()
async def stumble(ctx) -> str:
    def flaky() -> str:
        if failures.pop(0):
            raise OSError("once more")
        return "there"

    options = RunOptions(max_attempts=3, initial_retry_interval=timedelta(milliseconds=1))
    return await ctx.run_typed("flaky", flaky, options)


@service.handler()
async def wait(ctx) -> str:
    _, answered = ctx.awakeable()
    return await answered


async def test_what_was_committed_is_counted():
    failures[:] = [True, False]
    async with DurableEngine(services=[service], store=MemoryStore()) as engine:
        client = engine.client
        before = nbdurable.metrics()
        assert [await client.service_call(work, number) for number in range(3)] == [0, 2, 4]
        assert await client.service_call(stumble, None) == "there"
        with pytest.raises(TerminalError):
            await client.service_call(refuse, None)
        waiting = await client.service_send(wait, None)
        while (await client.invocation(waiting.invocation_id)).status != "suspended":  # noqa: ASYNC110
            await asyncio.sleep(0)
        found = nbdurable.metrics()
    assert before.invocations_begun == 0
    assert (found.invocations_begun, found.invocations_live) == (6, 1)
    assert (found.invocations_succeeded, found.invocations_failed) == (4, 1)
    assert (found.attempts, found.attempts_failed, found.suspensions) == (6, 0, 1)
    assert (found.steps, found.step_failures) == (4, 1)
    assert found.commits > before.commits
    assert found.facts > found.commits
    assert timedelta(0) < found.commit_time_max <= found.commit_time


async def test_engines_of_a_process_are_counted_together_while_they_are_open():
    assert nbdurable.metrics() == nbdurable.metrics() == summed([])
    async with (
        DurableEngine(services=[service], store=MemoryStore()) as one,
        DurableEngine(services=[service], store=MemoryStore()) as other,
    ):
        for engine in (one, other):
            await engine.client.service_call(work, 1)
            await engine.client.services()  # One more turn, by which it is counted.
        assert nbdurable.metrics().invocations_succeeded == 2
    assert nbdurable.metrics() == summed([])


async def test_an_observer_that_fails_is_no_harm(caplog: pytest.LogCaptureFixture, monkeypatch):
    monkeypatch.setattr(Counts, "heard", lambda *_: 1 / 0)
    async with DurableEngine(services=[service], store=MemoryStore()) as engine:
        assert await engine.client.service_call(work, 1) == 2
    assert "an observer failed" in caplog.text


def test_the_longest_commit_is_the_longest_of_any():
    one, other = Counts(), Counts()
    fact = Record(1, 1, EpochStarted(epoch=1, owner="me", version="0"))
    one.heard([fact], EngineState(), 0.25)
    other.heard([fact, fact], EngineState(), 0.5)
    found = summed([one, other])
    assert (found.commits, found.facts) == (2, 3)
    assert (found.commit_time, found.commit_time_max) == (
        timedelta(seconds=0.75),
        timedelta(seconds=0.5),
    )


# -- logs -----------------------------------------------------------------------------------------

story = nbdurable.getLogger("observed story")
tale = Service("Tale", invocation_retry_policy=once)


@tale.handler()
async def tell(ctx, name: str) -> str:
    story.warning("hello %s", name)
    return ctx.request().id


@tale.handler()
async def trip(ctx) -> None:
    raise OSError("a stone")


@pytest.fixture
def lines():
    """What is logged meanwhile, as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(nbdurable.JsonLogFormatter())
    loggers = [logging.getLogger("observed story"), logging.getLogger("nbdurable.failures")]
    for logger in loggers:
        logger.addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    for logger in loggers:
        logger.removeHandler(handler)


async def test_a_log_line_of_a_handler_names_its_invocation(lines):
    async with DurableEngine(services=[tale], store=MemoryStore()) as engine:
        one = await engine.client.service_call(tell, "Ada")
    story.warning("nobody")
    said, outside = lines()
    assert (said["message"], said["invocation_id"]) == ("hello Ada", one)
    assert (said["level"], said["logger"]) == ("WARNING", "observed story")
    assert "invocation_id" not in outside


async def test_what_the_engine_says_of_a_failure_names_it_as_well(lines):
    async with DurableEngine(services=[tale], store=MemoryStore()) as engine:
        sent = await engine.client.service_send(trip, None)
        while (await engine.client.invocation(sent.invocation_id)).status != "paused":  # noqa: ASYNC110
            await asyncio.sleep(0)
    (first, *_) = lines()
    assert (first["invocation_id"], first["target"]) == (sent.invocation_id, "Tale/trip")
    assert "a stone" in first["message"]
