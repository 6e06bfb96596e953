"""Spans and metrics for OpenTelemetry, made of the facts that were committed.

An invocation is a span, with its attempts below it, and their steps below these. A caller's
`traceparent` header is its parent, or the attempt that has called it; both are in the journal or in
this process, so a trace goes on after a restart if its caller gave it one. Every attempt is linked
to the one before it; and to a context that is made of the invocation's id, which is the same in
every process that the invocation ever lives in.

Imported only where the API is installed (extra `otel`). Payloads are not told, and nothing of
it can fail an engine: see `Engine._tell_observers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import (
    Link,
    ProxyTracerProvider,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TracerProvider,
    set_span_in_context,
)

from nbdurable.core.commands import RunCommand
from nbdurable.core.facts import (
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    EntryAppended,
    InvocationCompleted,
    InvocationCreated,
    InvocationPaused,
    InvocationSuspended,
    NotificationAppended,
    RunAttemptFailed,
)
from nbdurable.core.ids import InvocationId
from nbdurable.core.notifications import CompletionNotification
from nbdurable.core.records import Record
from nbdurable.core.state import EngineState, Invocation
from nbdurable.core.values import ErrorReport, Failure, Target

_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000


@dataclass(slots=True)
class _Open:
    """Mutable: the spans of one invocation that have not ended."""

    span: Span
    target: Target
    attempt: Span | None = None
    last_attempt: SpanContext | None = None
    runs: dict[int, Span] = field(default_factory=dict)


class Telemetry:
    """Mutable: the spans that have not ended. Owned by the engine thread.

    Args:
        tracers: Where spans go; by default where the application sends its own, and so `meters`.
    """

    def __init__(
        self,
        version: str,
        *,
        tracers: TracerProvider | None = None,
        meters: MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer("nbdurable", version, tracers)
        self._has_tracers = self._is_traced = tracers is not None
        meter = metrics.get_meter("nbdurable", version, meters)
        self._open: dict[InvocationId, _Open] = {}
        self._facts = meter.create_counter("nbdurable.facts", "{fact}", "Facts committed.")
        self._commits = meter.create_histogram("nbdurable.commit.duration", "s", "Of commits.")
        self._ended = meter.create_counter(
            "nbdurable.invocations.completed", "{invocation}", "By target and outcome."
        )
        self._failed_steps = meter.create_counter("nbdurable.steps.failed", "{run}", "Of steps.")
        # Not observed by a callback: that could not be taken back, and the next engine of this
        # process would be given the same instrument with the callback of this one.
        self._live = meter.create_up_down_counter(
            "nbdurable.invocations.live", "{invocation}", "That are not over."
        )
        self._live_count = 0

    def heard(self, records: Sequence[Record], state: EngineState, commit_s: float) -> None:
        self._facts.add(len(records))
        self._commits.record(commit_s)
        self._tell_live(len(state.invocations))
        self._is_traced = self._has_tracers or _is_tracing_set_up()
        if self._is_traced:
            self._tell_commit(records, commit_s)
        for _, at_ms, fact, _ in records:
            at_ns = at_ms * _NS_PER_MS
            match fact:
                case InvocationCreated():
                    self._begin(fact, at_ns)
                case AttemptStarted():
                    self._attempt(fact, state, at_ns)
                case EntryAppended(command=RunCommand() as command):
                    self._run(fact.invocation_id, command.completion_id, command.name, at_ns)
                case NotificationAppended(notification=CompletionNotification(of="Run") as result):
                    self._end_run(fact.invocation_id, result, at_ns)
                case RunAttemptFailed(completion_id=completion_id, error=error):
                    self._failed_steps.add(1)
                    self._fail_run(fact.invocation_id, completion_id, error, at_ns)
                case AttemptFailed(error=error):
                    self._end_attempt(fact.invocation_id, at_ns, error.message)
                case AttemptLost(why=why):
                    self._end_attempt(fact.invocation_id, at_ns, why)
                case InvocationSuspended():
                    self._end_attempt(fact.invocation_id, at_ns, None)
                case InvocationPaused(by=by):
                    self._event(fact.invocation_id, "paused", {"nbdurable.by": by}, at_ns)
                    # Unless it has failed, by which it was paused.
                    self._end_attempt(fact.invocation_id, at_ns, None)
                case InvocationCompleted():
                    self._end(fact, state, at_ns)
                case _:
                    pass

    def close(self) -> None:
        """What is open goes on in the next process that has the journal, as another span."""
        for invocation_id, one in list(self._open.items()):
            self._end_attempt(invocation_id, None, "the engine was closed")
            one.span.end()
        self._open.clear()
        self._tell_live(0)

    def _tell_commit(self, records: Sequence[Record], commit_s: float) -> None:
        began_ns = records[0].at_ms * _NS_PER_MS
        commit = self._tracer.start_span(
            "commit", Context(), attributes={"nbdurable.facts": len(records)}, start_time=began_ns
        )
        commit.end(began_ns + int(commit_s * _NS_PER_S))

    def _tell_live(self, live_count: int) -> None:
        if live_count != self._live_count:
            self._live.add(live_count - self._live_count)
        self._live_count = live_count

    # -- invocations ------------------------------------------------------------------------------

    def _begin(self, created: InvocationCreated, at_ns: int) -> None:
        if not self._is_traced:
            return
        parent = propagate.extract(created.headers)
        caller = None if created.caller is None else self._open.get(created.caller.invocation_id)
        if caller is not None and not _has_span(parent):
            parent = set_span_in_context(caller.attempt or caller.span, Context())
        self._start(created.invocation_id, created.target, parent, at_ns, is_resumed=False)

    def _start(
        self, one: InvocationId, target: Target, parent: Context, at_ns: int, *, is_resumed: bool
    ) -> _Open:
        attributes: dict[str, str | bool] = {
            "nbdurable.invocation.id": one,
            "nbdurable.service": target.service,
            "nbdurable.handler": target.handler,
            "nbdurable.resumed": is_resumed,
        }
        if target.key is not None:
            attributes["nbdurable.key"] = target.key
        span = self._tracer.start_span(
            f"{target.service}/{target.handler}",
            # Not whatever is the current span of the engine's thread.
            parent,
            SpanKind.CONSUMER,
            attributes,
            [Link(_context_of(one))],
            at_ns,
        )
        opened = self._open[one] = _Open(span, target)
        return opened

    def _end(self, completed: InvocationCompleted, state: EngineState, at_ns: int) -> None:
        self._end_attempt(completed.invocation_id, at_ns, None)
        one = self._open.pop(completed.invocation_id, None)
        # One that has had no attempt in this process has no span here, and counts all the same.
        known = one or state.find(completed.invocation_id)
        if known is None:
            return
        failure = completed.result if isinstance(completed.result, Failure) else None
        outcome = "succeeded" if failure is None else "failed"
        self._ended.add(
            1,
            {
                "nbdurable.service": known.target.service,
                "nbdurable.handler": known.target.handler,
                "nbdurable.outcome": outcome,
            },
        )
        if one is None:
            return
        one.span.set_attribute("nbdurable.outcome", outcome)
        if failure is not None:
            one.span.set_attribute("nbdurable.failure.code", failure.code)
            one.span.set_status(Status(StatusCode.ERROR, failure.message))
        one.span.end(at_ns)

    def _event(
        self, invocation_id: InvocationId, name: str, attributes: dict[str, str], at_ns: int
    ) -> None:
        one = self._open.get(invocation_id)
        if one is not None:
            one.span.add_event(name, attributes, at_ns)

    # -- attempts and steps -----------------------------------------------------------------------

    def _attempt(self, started: AttemptStarted, state: EngineState, at_ns: int) -> None:
        if not self._is_traced:
            return
        one, inv = self._open.get(started.invocation_id), state.find(started.invocation_id)
        if one is None:
            if inv is None:
                return
            # It began in another process, which has told its own part.
            parent = propagate.extract(inv.headers if isinstance(inv, Invocation) else {})
            one = self._start(inv.id, inv.target, parent, at_ns, is_resumed=True)
        links = [Link(_context_of(started.invocation_id))]
        if one.last_attempt is not None:
            links.append(Link(one.last_attempt))
        one.attempt = self._tracer.start_span(
            f"attempt {started.attempt}",
            set_span_in_context(one.span, Context()),
            attributes={
                "nbdurable.attempt": started.attempt,
                "nbdurable.revision": started.revision,
                "nbdurable.link": started.link,
            },
            links=links,
            start_time=at_ns,
        )
        if isinstance(inv, Invocation):
            # What an earlier attempt has begun, and has no result of, is done again.
            for completion_id, run in inv.open_runs.items():
                self._run(inv.id, completion_id, run.name, at_ns)

    def _end_attempt(self, invocation_id: InvocationId, at_ns: int | None, why: str | None) -> None:
        """None: it has ended as it should."""
        one = self._open.get(invocation_id)
        if one is None or one.attempt is None:
            return
        for run in one.runs.values():
            run.end(at_ns)
        one.runs.clear()
        if why is not None:
            one.attempt.set_status(Status(StatusCode.ERROR, why))
        one.attempt.end(at_ns)
        one.last_attempt, one.attempt = one.attempt.get_span_context(), None

    def _run(
        self, invocation_id: InvocationId, completion_id: int, name: str | None, at_ns: int
    ) -> None:
        one = self._open.get(invocation_id)
        if one is None or one.attempt is None or completion_id in one.runs:
            return
        one.runs[completion_id] = self._tracer.start_span(
            name or "step",
            set_span_in_context(one.attempt, Context()),
            start_time=at_ns,
        )

    def _end_run(
        self, invocation_id: InvocationId, result: CompletionNotification, at_ns: int
    ) -> None:
        one = self._open.get(invocation_id)
        run = None if one is None else one.runs.pop(result.completion_id, None)
        if run is None:
            return
        if isinstance(result.result, Failure):
            run.set_status(Status(StatusCode.ERROR, result.result.message))
        run.end(at_ns)

    def _fail_run(
        self, invocation_id: InvocationId, completion_id: int, error: ErrorReport, at_ns: int
    ) -> None:
        one = self._open.get(invocation_id)
        run = None if one is None else one.runs.get(completion_id)
        if run is not None:
            run.add_event("failed", {"exception.message": error.message}, at_ns)


def _is_tracing_set_up() -> bool:
    """The API alone, which many libraries bring along, would make spans that nobody receives."""
    return not isinstance(trace.get_tracer_provider(), ProxyTracerProvider)


def _has_span(context: Context) -> bool:
    return trace.get_current_span(context).get_span_context().is_valid


def _context_of(invocation_id: InvocationId) -> SpanContext:
    """The same in every process."""
    digest = blake2b(invocation_id.encode(), digest_size=24).digest()
    return SpanContext(
        trace_id=int.from_bytes(digest[:16]),
        span_id=int.from_bytes(digest[16:]),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
