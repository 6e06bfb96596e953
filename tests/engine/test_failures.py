"""A script has no view of its journal: what fails is said in the log, once."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from nbdurable import InvocationRetryPolicy, Workflow
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine

QUICK = InvocationRetryPolicy(max_attempts=3, initial_interval=timedelta(milliseconds=1))


async def test_a_failure_is_said_once_while_it_is_retried_and_once_when_it_pauses(
    caplog: pytest.LogCaptureFixture, tmp_path
):
    """Seventy silent retries look like a hang, and seventy tracebacks hide the reason."""
    flow = Workflow("Flow", invocation_retry_policy=QUICK)

    @flow.main()
    async def run(ctx) -> None:
        raise KeyError("missing")

    with caplog.at_level(logging.WARNING, "nbdurable.failures"):
        async with DurableEngine(tmp_path, [flow], store=MemoryStore()) as engine:
            sent = await engine.client.workflow_send(run, "k", None)
            while (view := await engine.client.invocation(sent.invocation_id)).status != "paused":
                assert not view.is_done
    first, last = [record.getMessage() for record in caplog.records]
    assert first.startswith("Flow/k/run failed and is tried again in 0.0 s")
    assert last.startswith("Flow/k/run failed and is paused; correct the code and start again")
    for said in (first, last):
        assert 'raise KeyError("missing")' in said
        assert "nbdurable/invoker" not in said
    assert view.failed_at is not None
    assert __file__ in view.failed_at


async def test_what_only_a_timer_holds_is_asleep(tmp_path):
    """A wait of three hours is no work, and a person wants to know until when."""
    flow = Workflow("Flow")

    @flow.main()
    async def run(ctx) -> None:
        await ctx.sleep(timedelta(hours=3))

    async with DurableEngine(tmp_path, [flow], store=MemoryStore()) as engine:
        sent = await engine.client.workflow_send(run, "k", None)
        while not (view := await engine.client.invocation(sent.invocation_id)).is_asleep:
            assert not view.is_done
        assert view.wakes_at_ms is not None
