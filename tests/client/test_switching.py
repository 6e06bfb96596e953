"""Access that outlives engines: what is asked again, and of what nobody knows whether it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from nbdurable.client.questions import AllInvocations, AllServices
from nbdurable.client.switching import SwitchingAccess
from nbdurable.core.attempt import ref_of
from nbdurable.core.ids import random_invocation_id
from nbdurable.core.manifest import ServiceManifest
from nbdurable.core.proposals import (
    CancelInvocation,
    Done,
    Invoke,
    Invoked,
    LoadCode,
    Loaded,
    SendSignal,
)
from nbdurable.core.values import Success, Target
from nbdurable.engine.callers import Outcome
from nbdurable.errors import EngineClosedError, LinkLostError

ONE = random_invocation_id(1)
INVOKE = Invoke(
    invocation_id=ONE,
    seed=1,
    target=Target(service="S", handler="h"),
    argument=ref_of(b""),
    payload=b"",
)
CANCEL = CancelInvocation(invocation_id=ONE)
SIGNAL = SendSignal(invocation_id=ONE, name="go", result=Success(value=ref_of(b"")))
CODE = LoadCode(
    link="local", manifest=ServiceManifest(name="S", type="service", handlers=(), digest="v1")
)


class Engine:
    """Somewhere to be led to. Mutable: what it was asked, to be answered by the test."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Future[Any]]] = []
        self.watched: list[tuple[Any, Callable[..., None]]] = []
        self.is_gone = False

    def propose(self, proposal: Any) -> Future[Any]:
        return self._asked(proposal)

    def ask(self, question: Any) -> Future[Any]:
        return self._asked(question)

    async def query(self, *asked: Any) -> Any:
        return await asyncio.wrap_future(self._asked(asked))

    def attach(self, invocation_id: Any) -> Future[Any]:
        return self._asked(invocation_id)

    def watch(self, question: Any, listener: Any) -> Callable[[], None]:
        watched = (question, listener)
        self.watched.append(watched)
        return lambda: self.watched.remove(watched) if watched in self.watched else None

    def _asked(self, what: Any) -> Future[Any]:
        if self.is_gone:
            raise LinkLostError("gone")
        reply: Future[Any] = Future()
        self.asked.append((what, reply))
        return reply

    def dies(self, access: SwitchingAccess) -> None:
        """As `Joined` does it: nobody is led here any more, then those who wait are told."""
        self.is_gone = True
        access.lead_to(None)
        for _, reply in self.asked:
            if not reply.done():
                reply.set_exception(LinkLostError("gone"))


@pytest.fixture
def access() -> SwitchingAccess:
    return SwitchingAccess(asyncio.new_event_loop())


@pytest.fixture(autouse=True)
def _closed(access: SwitchingAccess) -> Any:
    yield
    access.loop.close()


def test_between_two_engines_everything_waits(access: SwitchingAccess):
    reply = access.propose(CANCEL)
    engine = Engine()
    access.lead_to(engine)
    ((asked, answer),) = engine.asked
    assert asked == CANCEL
    answer.set_result(Done())
    assert reply.result(0) == Done()


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda access: access.propose(INVOKE), Invoked(invocation_id=ONE)),
        (lambda access: access.ask(AllServices()), []),
        (lambda access: access.attach(ONE), Outcome(Success(value=ref_of(b"")), b"")),
    ],
)
def test_what_is_harmless_twice_is_asked_again_of_the_next_engine(
    access: SwitchingAccess, ask: Any, answer: Any
):
    first, second = Engine(), Engine()
    access.lead_to(first)
    reply = ask(access)
    first.dies(access)
    assert not reply.done()
    access.lead_to(second)
    ((asked, asked_again),) = second.asked
    assert asked == first.asked[0][0]
    asked_again.set_result(answer)
    assert reply.result(0) == answer


@pytest.mark.parametrize(
    ("proposal", "said"),
    [(CANCEL, f"Its journal says Cancel if it is.*show {ONE}"), (SIGNAL, "gone")],
)
def test_of_what_must_not_happen_twice_nobody_knows(
    access: SwitchingAccess, proposal: Any, said: str
):
    """A second cancellation would be raised as well, and a second signal would be taken."""
    first, second = Engine(), Engine()
    access.lead_to(first)
    reply = access.propose(proposal)
    first.dies(access)
    with pytest.raises(LinkLostError, match=said):
        reply.result(0)
    access.lead_to(second)
    assert second.asked == []


def test_what_could_not_be_sent_is_sent_to_the_next(access: SwitchingAccess):
    """The link may be lost a moment before anybody has noticed."""
    first, second = Engine(), Engine()
    access.lead_to(first)
    first.is_gone = True
    reply = access.propose(SIGNAL)
    assert not reply.done()
    access.lead_to(second)
    second.asked[0][1].set_result(Done())
    assert reply.result(0) == Done()


def test_code_that_was_loaded_is_loaded_again_before_anything_else(access: SwitchingAccess):
    first, second = Engine(), Engine()
    access.lead_to(first)
    loading = access.propose(CODE)
    first.asked[0][1].set_result(Loaded(revision=1, is_new=True))
    assert loading.result(0).is_new
    waiting = access.attach(ONE)
    first.dies(access)
    access.lead_to(second)
    again, attached = (asked for asked, _ in second.asked)
    assert (again.manifest, again.again) == (CODE.manifest, True)
    assert attached == ONE
    assert not waiting.done()


def test_a_watch_goes_on_at_the_next_engine_and_ends_once(access: SwitchingAccess):
    first, second = Engine(), Engine()
    access.lead_to(first)
    end = access.watch(AllInvocations(), lambda views: None)
    assert len(first.watched) == 1
    first.dies(access)
    access.lead_to(second)
    assert len(second.watched) == 1
    end()
    assert second.watched == []
    access.lead_to(third := Engine())
    assert third.watched == []


def test_giving_up_a_wait_is_passed_on(access: SwitchingAccess):
    engine = Engine()
    access.lead_to(engine)
    access.attach(ONE).cancel()
    assert engine.asked[0][1].cancelled()
    engine.dies(access)
    access.lead_to(other := Engine())
    assert other.asked == []


def test_closing_tells_everyone_who_waits_why(access: SwitchingAccess):
    reply = access.attach(ONE)
    access.close(EngineClosedError("because"))
    with pytest.raises(EngineClosedError, match="because"):
        reply.result(0)
    with pytest.raises(EngineClosedError, match="because"):
        access.ask(AllServices())
    with pytest.raises(EngineClosedError, match="because"):
        access.check_alive()
