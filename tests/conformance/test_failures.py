"""UserErrors, RunRetry, RunFlush and NonDeterminismErrors of the suite."""

from __future__ import annotations

import pytest
from support.running import HandClock, until, until_status

from conformance.conftest import ALWAYS_SUSPENDING, Started
from conformance.driver import fresh
from nbdurable import TerminalError
from nbdurable.client.views import InvocationView

METADATA = {"why": "it is a test", "ünï": "cødé"}


@pytest.mark.parametrize("metadata", [None, METADATA], ids=["plain", "with metadata"])
@pytest.mark.parametrize(
    "handler",
    [
        # UserErrors.invokeTerminallyFailingCall
        "terminallyFailingCall",
        # UserErrors.internalCallFailurePropagation
        "callTerminallyFailingCall",
        # UserErrors.sideEffectWithTerminalError
        "terminallyFailingSideEffect",
    ],
)
async def test_a_terminal_error_reaches_the_caller_whole(
    started: Started, handler: str, metadata: dict | None
):
    """From a handler, through another handler, out of a step: message, code and metadata."""
    async with started() as runtime:
        request = {"errorMessage": "my error", "metadata": metadata}
        with pytest.raises(TerminalError) as raised:
            await runtime.call(f"Failing/{fresh()}/{handler}", request)
        error = raised.value
        assert (error.message, error.status_code, error.metadata) == ("my error", 500, metadata)


async def test_a_key_fails_as_often_as_it_is_asked(started: Started):
    """UserErrors.failSeveralTimes: a failure leaves the key free for the next."""
    key = fresh()
    async with started() as runtime:
        for i in range(3):
            with pytest.raises(TerminalError, match=f"error {i}"):
                await runtime.call(
                    f"Failing/{key}/terminallyFailingCall", {"errorMessage": f"error {i}"}
                )


async def test_state_that_was_set_before_a_failure_stays_set(started: Started):
    """UserErrors.setStateThenFailShouldPersistState: there is no roll-back."""
    key = fresh()
    async with started() as runtime:
        with pytest.raises(TerminalError, match=key):
            await runtime.call(f"Counter/{key}/addThenFail", 1)
        assert await runtime.call(f"Counter/{key}/get") == 1


async def test_an_invocation_that_fails_for_a_while_succeeds(started: Started):
    """UserErrors.invocationWithEventualSuccess: on its fourth attempt."""
    async with started() as runtime:
        assert await runtime.call(f"Failing/{fresh()}/failingCallWithEventualSuccess") == 4


@pytest.mark.parametrize("attempts", [3, 1])
async def test_a_step_is_tried_until_it_succeeds(started: Started, attempts: int):
    """RunRetry.withSuccess and executedOnlyOnce."""
    async with started() as runtime:
        path = f"Failing/{fresh()}/sideEffectSucceedsAfterGivenAttempts"
        assert await runtime.call(path, attempts) == attempts


async def test_a_step_that_is_out_of_attempts_is_a_terminal_error(started: Started):
    """RunRetry.withExhaustedAttempts: which the handler catches."""
    async with started() as runtime:
        path = f"Failing/{fresh()}/sideEffectFailsAfterGivenAttempts"
        assert await runtime.call(path, 3) == 3


async def test_what_a_step_returned_is_stored_before_the_handler_goes_on(started: Started):
    """RunFlush.flush: the last attempt of one that always suspends replays, and runs no step."""
    clock = HandClock()
    async with started(options=ALWAYS_SUSPENDING, clock=clock) as runtime:
        sent = await runtime.send("TestUtilsService/countExecutedSideEffects", 3)
        await until_status(runtime.engine, sent, "suspended")
        await clock.turn(runtime.engine, 1)
        assert await runtime.attach(sent) == 0


def waits_for_replay(view: InvocationView, _entries: object) -> bool:
    """Suspended at the sleep that ends each method, or replayed and refused before that."""
    return view.status == "paused" or (view.status == "suspended" and view.is_asleep)


@pytest.mark.parametrize(
    "method",
    [
        "eitherSleepOrCall",
        "callDifferentMethod",
        "backgroundInvokeWithDifferentTargets",
        "setDifferentKey",
    ],
)
async def test_code_that_differs_on_replay_never_gets_past_its_journal(
    started: Started, method: str
):
    """NonDeterminismErrors.method: what comes behind the difference does not happen.

    Over there the call fails, by the policy of this service. Here it pauses whatever the policy,
    for trying again cannot heal it (DECISIONS 0014); the caller hears of it when a person decides.
    """
    key, clock = fresh(), HandClock()
    async with started(clock=clock) as runtime:
        await runtime.call(f"Counter/{key}/add", 1)
        sent = await runtime.send(f"NonDeterministic/{key}/{method}")
        view = await until(runtime.engine, sent, waits_for_replay)
        if view.status != "paused":
            await clock.turn(runtime.engine, 1)
        paused = await until_status(runtime.engine, sent, "paused")
        assert "journal mismatch" in (paused.failure or "")
        await runtime.client.kill(sent)
        with pytest.raises(TerminalError, match="killed"):
            await runtime.attach(sent)
        assert await runtime.call(f"Counter/{key}/get") == 1
