"""A process that has joined says what is right in form: the owner takes it, or says why not.

It has a live attempt, so that most of what it says is about something that is there. Whatever
comes of that, the owner serves its own handlers, and what it has recorded opens again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.drawn import drawn
from test_links import GREETER, HELLO, joining
from websockets.exceptions import ConnectionClosed

import nbdurable
from nbdurable import Context, Service
from nbdurable.client.questions import AnyQuestion
from nbdurable.core.attempt import ref_of
from nbdurable.core.ids import random_invocation_id
from nbdurable.core.proposals import AnyStep, AttemptSteps, Invoke, LoadCode, PatchService
from nbdurable.core.values import Target
from nbdurable.invoker.frames import (
    Ask,
    Attach,
    ClientProposal,
    Did,
    Leave,
    Propose,
    Raised,
    StartAttempt,
    Told,
    Up,
    Watch,
    Welcome,
    encode,
)
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine, SyncDurableEngine

LIVE = random_invocation_id(7)
WORDS = [LIVE, "Greeter", "greet", "ada", "v1", "step", "approved", "latest"]
PAYLOADS = [b'"ada"', b"", b"{}"]
LAST = 10**9

here = Service("Here")


@here.handler()
async def echo(ctx: Context, text: str) -> str:
    return await ctx.run_typed("step", lambda: text)


STEPS = st.lists(drawn(AnyStep, WORDS, PAYLOADS), min_size=1, max_size=4).map(tuple)


def leaves_greeter(proposal: Any) -> bool:
    """Each example begins with the same code."""
    match proposal:
        case LoadCode(manifest=manifest):
            return manifest.name != GREETER.name
        case PatchService(service=service):
            return service != GREETER.name
        case _:
            return True


PROPOSALS = drawn(ClientProposal, WORDS, PAYLOADS).filter(leaves_greeter)
QUESTIONS = drawn(AnyQuestion, WORDS, PAYLOADS)
IDS = st.integers(0, 3)
SAID = st.one_of(
    STEPS,
    STEPS,
    st.builds(lambda id_, of: Propose(id=id_, proposal=raw(of)), IDS, PROPOSALS),
    st.builds(lambda id_, of: Ask(id=id_, question=raw(of)), IDS, QUESTIONS),
    st.builds(lambda id_, of: Watch(id=id_, question=raw(of)), IDS, QUESTIONS),
    st.builds(Attach, id=IDS, invocation_id=st.sampled_from([LIVE, "x"])),
    st.builds(Leave, id=IDS),
)
# What came of it all, so that it is seen whether what was said was heard.
answers: Counter[str] = Counter()


def raw(of: Any) -> msgspec.Raw:
    return msgspec.Raw(encode(of))


class Standing(NamedTuple):
    serving: nbdurable.Serving
    engine: SyncDurableEngine
    store: MemoryStore
    close: Callable[[], None]


@pytest.fixture(scope="module")
def standing() -> Iterator[Standing]:
    store = MemoryStore()
    with ExitStack() as stack:
        opening = SyncDurableEngine(DurableEngine(services=[here], store=store))
        engine = stack.enter_context(opening)
        serving = stack.enter_context(nbdurable.serve(engine.opened.owned))
        yield Standing(serving, engine, store, stack.close)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SAID, min_size=1, max_size=6))
def test_what_is_right_in_form_is_taken_or_refused(
    standing: Standing,
    caplog: pytest.LogCaptureFixture,
    said: list[tuple[Any, ...] | Up],
) -> None:
    serving, engine = standing.serving, standing.engine
    for forget in (engine.client.kill, engine.client.purge):
        with suppress(nbdurable.NbdurableError):
            forget(LIVE)
    with caplog.at_level(logging.ERROR), joining(serving) as process:
        process.say(HELLO)
        process.until(Welcome)
        process.propose(LoadCode(link="", manifest=GREETER))
        target, argument = Target(service="Greeter", handler="greet"), b'"ada"'
        process.propose(
            Invoke(
                invocation_id=LIVE,
                seed=7,
                target=target,
                argument=ref_of(argument),
                payload=argument,
            )
        )
        start = process.until(StartAttempt).start
        with suppress(ConnectionClosed):
            for one in said:
                process.say(one if isinstance(one, Up) else did(start, one))
            # Answered when all of that has been heard.
            process.say(Ask(id=LAST, question=raw_question()))
            while True:
                frame = process.hear()
                answers[type(frame).__name__] += 1
                if isinstance(frame, Told | Raised) and frame.id == LAST:
                    break
    assert engine.client.service_call(echo, "still here") == "still here"
    assert not caplog.records


def raw_question() -> msgspec.Raw:
    return msgspec.Raw(encode({"type": "AllInvocations"}))


def did(start: Any, steps: tuple[Any, ...]) -> Did:
    return Did(
        steps=raw(
            AttemptSteps(
                epoch=start.epoch,
                invocation_id=start.invocation_id,
                seed=start.seed,
                attempt=start.attempt,
                steps=steps,
            )
        )
    )


def test_after_all_that_the_journal_opens_again(
    standing: Standing,
) -> None:
    """Each fact was decided by the rules, so folding them meets nothing that cannot be."""
    recorded = Counter(row.kind for row in standing.store.durable)
    print(answers, recorded)
    known = {view.id for view in standing.engine.client.invocations()}
    standing.close()
    with SyncDurableEngine(DurableEngine(services=[here], store=standing.store)) as again:
        assert {view.id for view in again.client.invocations()} >= known
        assert again.client.service_call(echo, "again") == "again"
