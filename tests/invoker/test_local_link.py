"""The local link's own: orders that overtake each other on the way to the handler thread."""

from __future__ import annotations

import contextvars
import threading
from datetime import timedelta
from typing import Any

import pytest
from support.running import HandClock

from nbdurable import Context, Service, TerminalError
from nbdurable.core.attempt import success_of
from nbdurable.core.commands import OutputCommand
from nbdurable.core.ids import CANCEL_SIGNAL, random_invocation_id
from nbdurable.core.journal import AttemptStart, JournalEntry
from nbdurable.core.notifications import SignalNotification
from nbdurable.core.proposals import AppendCommand, AttemptSteps
from nbdurable.core.values import Target
from nbdurable.errors import LinkLostError
from nbdurable.invoker.attempt import Attempt
from nbdurable.invoker.local import LocalLink
from nbdurable.invoker.seal import Seal
from nbdurable.invoker.wire_source import WireSource

ONE = random_invocation_id(1)


def start_of(handler: str, attempt: int = 1) -> AttemptStart:
    return AttemptStart(
        epoch=1,
        invocation_id=ONE,
        attempt=attempt,
        target=Target(service="S", handler=handler),
        revision=1,
        argument=b"",
        headers={},
        idempotency_key=None,
        seed=1,
        keyed=False,
        inactivity_timeout_ms=60_000,
        journal=(),
        state={},
        failed_runs=(),
    )


@pytest.fixture
def posted() -> list[Any]:
    return []


@pytest.fixture
def link(posted: list[Any]) -> LocalLink:
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> str:
        return "done"

    link = LocalLink("test", HandClock(), posted.append, WireSource(Seal(lambda: b"key")))
    link.start()
    link.offer(service, "v1")
    link.assign_revision("S", "v1", 1)
    return link


def held_back(link: LocalLink) -> threading.Event:
    """The handler thread stands still until this is set, so that orders pile up."""
    gate, standing = threading.Event(), threading.Event()

    def stand() -> None:
        standing.set()
        gate.wait(10)

    link._order(stand)
    assert standing.wait(10)
    return gate


def test_an_attempt_that_is_stopped_before_it_began_is_over(link: LocalLink, posted: list[Any]):
    """Its task never runs; the link once waited five seconds for it at every close."""
    gate = held_back(link)
    link.start_attempt(start_of("handle"))
    link.stop_attempt(ONE, 1, "it was killed")
    gate.set()
    link.close()
    assert link._attempts == {}
    assert posted == []


def test_an_order_that_cannot_be_carried_out_does_not_hold_up_the_next(
    link: LocalLink, posted: list[Any]
):
    gate = held_back(link)
    link.start_attempt(start_of("nowhere"))
    link.start_attempt(start_of("handle", attempt=2))
    gate.set()
    carried_out = threading.Event()
    link._order(lambda: link._loop.call_later(0, carried_out.set) and None)
    assert carried_out.wait(10)
    link.close()
    assert [type(proposal) for proposal in posted] == [AttemptSteps]
    assert posted[0].attempt == 2


def test_contexts_that_hold_the_same_are_kept_once(link: LocalLink):
    """A script begins thousands of invocations in one context."""
    cell: contextvars.ContextVar[list[int]] = contextvars.ContextVar("cell")
    ids = [random_invocation_id(seed) for seed in range(4)]
    values = [[], []]
    for invocation_id, value in zip(ids, [values[0], values[0], values[1], values[1]], strict=True):
        context = contextvars.copy_context()
        context.run(cell.set, value)
        link.remember_context(invocation_id, context)
    kept = [link._contexts[invocation_id] for invocation_id in ids]
    link.close()
    assert len({id(context) for context in kept}) == 2
    # Equal is not the same: whose output is shown where, the object says.
    assert [context[cell] is values[0] for context in kept] == [True, True, False, False]


def test_orders_after_closing_are_ignored(link: LocalLink):
    """The engine closes after its links, and may still act on its last commit."""
    link.close()
    link.start_attempt(start_of("handle"))
    link.stop_all("late")
    link.close()


def test_a_handler_that_waits_when_the_engine_has_gone_is_unwound():
    """It hears of that at the first step it proposes, and must not wait for its answer."""
    service, unwound = Service("S"), threading.Event()

    @service.handler()
    async def handle(ctx: Context) -> str:
        try:
            return await ctx.service_call(handle, arg=None)
        finally:
            unwound.set()

    def post(_: object) -> None:
        raise LinkLostError("it went away")

    link = LocalLink("test", HandClock(), post, WireSource(Seal(lambda: b"key")))
    link.start()
    link.offer(service, "v1")
    link.assign_revision("S", "v1", 1)
    link.start_attempt(start_of("handle"))
    assert unwound.wait(10)
    link.close()
    assert link._attempts == {}


@pytest.mark.parametrize(
    ("goes", "always_replay"),
    [("_lie_down", False), ("_suspend", True)],
    ids=["lies down", "is suspended"],
)
def test_a_cancellation_that_comes_as_the_handler_goes_is_raised_in_it(
    goes: str, *, always_replay: bool, monkeypatch: pytest.MonkeyPatch
):
    """Counted as one it was given, and never given, it would be found when the sleep is over."""
    service, ran, ended = Service("S"), [], threading.Event()

    @service.handler()
    async def sleep(ctx: Context) -> None:
        try:
            await ctx.sleep(timedelta(hours=10))
        except TerminalError:
            ran.append("cancelled")
            raise

    signal = SignalNotification(signal_id=CANCEL_SIGNAL, result=success_of(b""))
    go = getattr(Attempt, goes)

    def just_before(attempt: Attempt, *args: Any) -> None:
        monkeypatch.setattr(Attempt, goes, go)
        attempt.deliver([JournalEntry(9, signal, None)])
        go(attempt, *args)

    monkeypatch.setattr(Attempt, goes, just_before)

    def post(steps: AttemptSteps) -> None:
        ran.extend(type(step).__name__ for step in steps.steps)
        if any(
            isinstance(step, AppendCommand) and isinstance(step.command, OutputCommand)
            for step in steps.steps
        ):
            ended.set()

    wires = WireSource(Seal(lambda: b"key"))
    link = LocalLink("test", HandClock(), post, wires, always_replay=always_replay)
    link.start()
    link.offer(service, "v1")
    link.assign_revision("S", "v1", 1)
    link.start_attempt(start_of("sleep"))
    assert ended.wait(10), ran
    link.close()
    assert ran == ["AppendCommand", "cancelled", "AppendCommand"]


class Interrupted(LocalLink):
    """Mutable: another thread comes between, just when a context has been taken for the last."""

    meanwhile: Any = None

    @property
    def _last_context(self) -> contextvars.Context:
        return self._kept

    @_last_context.setter
    def _last_context(self, context: contextvars.Context) -> None:
        self._kept = context
        other, self.meanwhile = self.meanwhile, None
        if other is not None:
            other()


def test_whoever_submits_at_once_in_another_thread_keeps_its_own_context():
    """Else the output of one cell's run is shown in the other's."""
    cell: contextvars.ContextVar[str] = contextvars.ContextVar("cell")
    link = Interrupted("test", HandClock(), [].append, WireSource(Seal(lambda: b"key")))
    contexts = {}
    for name in "ab":
        contexts[name] = contextvars.copy_context()
        contexts[name].run(cell.set, name)
    two = random_invocation_id(2)
    link.meanwhile = lambda: link.remember_context(two, contexts["b"])
    link.remember_context(ONE, contexts["a"])
    assert [link._contexts[of][cell] for of in (ONE, two)] == ["a", "b"]
