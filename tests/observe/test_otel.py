"""Spans and metrics, as an application that collects them gets them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from nbdurable import RunOptions, Service, TerminalError, wiring
from nbdurable.observe.otel import Telemetry
from nbdurable.wiring import DurableEngine

service = Service("S", inactivity_timeout=timedelta(0))
failures: list[bool] = []


@service.handler()
async def add(ctx, number: int) -> int:
    return await ctx.run_typed("add one", lambda: number + 1)


@service.handler()
async def call(ctx, number: int) -> int:
    return await ctx.service_call(add, number)


@service.handler()
async def flaky(ctx) -> None:
    def fail() -> None:
        if failures.pop(0):
            raise OSError("a stone")
        raise TerminalError("enough", 418)

    options = RunOptions(max_attempts=3, initial_retry_interval=timedelta(milliseconds=1))
    await ctx.run_typed("stumble", fail, options)


@service.handler()
async def wait(ctx) -> str:
    _, answered = ctx.awakeable(type_hint=str)
    return await answered


is_first: list[bool] = []


@service.handler()
async def slow(ctx) -> str:
    async def slowly() -> str:
        if is_first.pop():
            is_first.append(False)
            await asyncio.Event().wait()
        return "done"

    return await ctx.run_typed("slowly", slowly)


class Told:
    """What was told: spans by name, the newest last, and metrics by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        tracers, meters = TracerProvider(), MeterProvider([self._reader])
        tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        monkeypatch.setattr(
            wiring,
            "_observers",
            lambda counts: [counts, Telemetry("0", tracers=tracers, meters=meters)],
        )

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def metrics(self) -> dict[str, list]:
        data = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


async def until_suspended(engine: DurableEngine, invocation_id: str) -> str:
    """The awakeable that it waits for."""
    view = await engine.client.invocation(invocation_id)
    while view.status != "suspended":
        await asyncio.sleep(0)
        view = await engine.client.invocation(invocation_id)
    return view.open_awakeables[0]


async def until_recorded(engine: DurableEngine, invocation_id: str) -> None:
    """That its step has begun, which is recorded when it does not end at once."""
    view = await engine.client.invocation(invocation_id)
    while view.entry_count < 2:
        await asyncio.sleep(0)
        view = await engine.client.invocation(invocation_id)


async def test_an_invocation_has_its_attempts_below_it_and_they_their_steps(
    told: Told, tmp_path: Path
):
    async with DurableEngine(tmp_path / "j", [service], is_settled=True) as engine:
        sent = await engine.client.service_send(add, 1)
        assert await engine.client.attach(sent.invocation_id) == 2
    (invocation,), (attempt,), (step,) = map(told.spans, ("S/add", "attempt 1", "add one"))
    assert step.parent.span_id == attempt.context.span_id
    assert attempt.parent.span_id == invocation.context.span_id
    assert invocation.parent is None
    assert invocation.attributes["nbdurable.invocation.id"] == sent.invocation_id
    assert invocation.attributes["nbdurable.outcome"] == "succeeded"
    assert invocation.start_time <= attempt.start_time <= step.start_time
    assert step.end_time <= attempt.end_time <= invocation.end_time
    assert sum(span.attributes["nbdurable.facts"] for span in told.spans("commit")) >= 6


async def test_who_is_called_is_part_of_its_callers_trace(told: Told, tmp_path: Path):
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    async with DurableEngine(tmp_path / "j", [service], is_settled=True) as engine:
        assert await engine.client.service_call(call, 1, headers=headers) == 2
    (caller,), (called,) = map(told.spans, ("S/call", "S/add"))
    assert f"{caller.context.trace_id:032x}" == f"{called.context.trace_id:032x}" == trace_id
    attempts = {span.context.span_id for span in told.spans("attempt 1")}
    assert called.parent.span_id in attempts
    assert f"{caller.parent.span_id:016x}" == "b7ad6b7169203331"


async def test_an_attempt_that_resumes_is_linked_to_the_one_before(told: Told, tmp_path: Path):
    async with DurableEngine(tmp_path / "j", [service], is_settled=True) as engine:
        sent = await engine.client.service_send(wait, None)
        awakeable = await until_suspended(engine, sent.invocation_id)
        await engine.client.resolve_awakeable(awakeable, "yes")
        assert await engine.client.attach(sent.invocation_id) == "yes"
    (first,), (second,), (invocation,) = map(told.spans, ("attempt 1", "attempt 2", "S/wait"))
    assert first.context.span_id in {link.context.span_id for link in second.links}
    assert first.parent.span_id == second.parent.span_id == invocation.context.span_id
    assert not invocation.attributes["nbdurable.resumed"]


async def test_another_process_goes_on_with_a_span_that_is_linked_to_the_same(
    told: Told, tmp_path: Path
):
    async with DurableEngine(tmp_path / "j", [service], is_settled=True) as engine:
        sent = await engine.client.service_send(wait, None)
        awakeable = await until_suspended(engine, sent.invocation_id)
    async with DurableEngine(tmp_path / "j", [service], is_settled=True) as engine:
        await engine.client.resolve_awakeable(awakeable, "yes")
        assert await engine.client.attach(sent.invocation_id) == "yes"
    before, after = told.spans("S/wait")
    assert [span.attributes["nbdurable.resumed"] for span in (before, after)] == [False, True]
    assert before.links[0].context == after.links[0].context
    assert before.attributes["nbdurable.invocation.id"] == sent.invocation_id
    assert after.attributes["nbdurable.invocation.id"] == sent.invocation_id


async def test_a_step_that_is_done_again_is_told_of_below_the_attempt_that_does_it(
    told: Told, tmp_path: Path
):
    is_first[:] = [True]
    async with DurableEngine(tmp_path / "j", [service], is_settled=True) as engine:
        sent = await engine.client.service_send(slow, None)
        await until_recorded(engine, sent.invocation_id)
    async with DurableEngine(tmp_path / "j", [service], is_settled=True) as engine:
        assert await engine.client.attach(sent.invocation_id) == "done"
    (lost, done), (first,), (second,) = map(told.spans, ("slowly", "attempt 1", "attempt 2"))
    assert lost.parent.span_id == first.context.span_id
    assert done.parent.span_id == second.context.span_id


async def test_an_attempt_that_is_paused_has_ended(told: Told, tmp_path: Path):
    is_first[:] = [True]
    async with DurableEngine(tmp_path / "j", [service], is_settled=True) as engine:
        sent = await engine.client.service_send(slow, None)
        await until_recorded(engine, sent.invocation_id)
        await engine.client.pause(sent.invocation_id)
        await engine.client.resume(sent.invocation_id)
        assert await engine.client.attach(sent.invocation_id) == "done"
    (first,), (second,), (invocation,) = map(told.spans, ("attempt 1", "attempt 2", "S/slow"))
    assert first.end_time <= second.start_time
    assert [event.name for event in invocation.events] == ["paused"]


async def test_failures_are_told_where_they_were(told: Told, tmp_path: Path):
    failures[:] = [True, False]
    async with DurableEngine(
        tmp_path / "j", [service], is_settled=True, logs_failures=False
    ) as engine:
        with pytest.raises(TerminalError):
            await engine.client.service_call(flaky, None)
    (step,), (invocation,) = map(told.spans, ("stumble", "S/flaky"))
    assert [event.attributes["exception.message"] for event in step.events] == [
        "OSError('a stone')"
    ]
    assert (step.status.status_code, step.status.description) == (StatusCode.ERROR, "enough")
    assert invocation.status.status_code == StatusCode.ERROR
    assert invocation.attributes["nbdurable.failure.code"] == 418


async def test_what_is_committed_is_measured(told: Told, tmp_path: Path):
    async with DurableEngine(tmp_path / "j", [service], is_settled=True) as engine:
        for number in range(3):
            await engine.client.service_call(add, number)
        await engine.client.service_send(wait, None)
        await engine.client.services()  # One more turn of the engine, so that it was told.
        found = told.metrics()
    (completed,) = found["nbdurable.invocations.completed"]
    assert completed.value == 3
    assert completed.attributes["nbdurable.outcome"] == "succeeded"
    assert found["nbdurable.invocations.live"][0].value == 1
    assert found["nbdurable.facts"][0].value > 12
    assert found["nbdurable.commit.duration"][0].count > 3


async def test_what_ends_without_an_attempt_in_this_process_is_counted(told: Told, tmp_path: Path):
    async with DurableEngine(tmp_path / "j", [service], is_settled=True) as engine:
        sent = await engine.client.service_send(wait, None)
        await until_suspended(engine, sent.invocation_id)
    async with DurableEngine(tmp_path / "j", [service], is_settled=True) as engine:
        await engine.client.kill(sent.invocation_id)
        await engine.client.services()
        (completed,) = told.metrics()["nbdurable.invocations.completed"]
    assert (completed.value, completed.attributes["nbdurable.outcome"]) == (1, "failed")


async def test_the_next_engine_of_a_process_counts_on(told: Told, tmp_path: Path):
    """An instrument is the provider's, and outlives whoever has asked for it."""
    for live_count in (1, 2, 3):
        async with DurableEngine(tmp_path / "j", [service], is_settled=True) as engine:
            await engine.client.service_send(wait, None)
            await engine.client.services()
            assert told.metrics()["nbdurable.invocations.live"][0].value == live_count
        assert told.metrics()["nbdurable.invocations.live"][0].value == 0
    assert told.metrics()["nbdurable.facts"][0].value > 9


def test_spans_are_made_once_the_application_has_said_where_they_go():
    """The API alone, which other libraries bring along, costs no spans; and it may be later.

    Of what began before that, it is told from its next attempt on.
    """
    script = """
from datetime import timedelta
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from nbdurable import Service
from nbdurable.observe import otel
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine, SyncDurableEngine
service = Service("S", inactivity_timeout=timedelta(0))
@service.handler()
async def greet(ctx, name: str) -> str:
    return name
@service.handler()
async def wait(ctx) -> str:
    return await ctx.awakeable(type_hint=str)[1]
asked = []
start = trace.ProxyTracer.start_span
trace.ProxyTracer.start_span = lambda self, name, *rest, **more: (
    asked.append(name) or start(self, name, *rest, **more)
)
with SyncDurableEngine(DurableEngine(services=[service], store=MemoryStore())) as engine:
    engine.client.service_call(greet, "Ada")
    sent = engine.client.service_send(wait, None)
    while (waiting := engine.client.invocation(sent.invocation_id)).status != "suspended":
        pass
    print(asked)
    exporter = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(tracers)
    engine.client.service_call(greet, "Bob")
    engine.client.resolve_awakeable(waiting.open_awakeables[0], "now")
    engine.client.attach(waiting.id)
    engine.client.services()
spans = [span for span in exporter.get_finished_spans() if span.name != "commit"]
print([(span.name, span.attributes.get("nbdurable.resumed")) for span in spans])
"""
    path = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=path
    )
    told = [("attempt 1", None), ("S/greet", False), ("attempt 2", None), ("S/wait", True)]
    assert said.stdout == f"[]\n{told}\n"


def test_without_it_nothing_is_imported_and_all_works():
    """It is an extra: neither is it needed, nor does its absence cost a failed import each time."""
    script = """
import sys
sys.modules["opentelemetry"] = None
import importlib.util
find = importlib.util.find_spec
hidden = "opentelemetry"
importlib.util.find_spec = lambda name, *rest: None if hidden in name else find(name, *rest)
import nbdurable
from nbdurable import Service
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine, SyncDurableEngine
service = Service("S")
@service.handler()
async def greet(ctx, name: str) -> str:
    return name
with SyncDurableEngine(DurableEngine(services=[service], store=MemoryStore())) as engine:
    print(engine.client.service_call(greet, "Ada"), nbdurable.metrics().invocations_succeeded)
print([name for name in sys.modules if name.startswith("opentelemetry.")])
"""
    path = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=path
    )
    assert said.stdout == "Ada 1\n[]\n"
