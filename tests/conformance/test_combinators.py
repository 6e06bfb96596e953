"""Combinators of the suite: waiting for the first of several, with a time limit, with failures."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.conftest import Started
from conformance.driver import Runtime, eventually, fresh
from nbdurable import TerminalError

INTERPRETER = "VirtualObjectCommandInterpreter"


async def interpret(runtime: Runtime, key: str, *commands: dict[str, Any]) -> str:
    return await runtime.send(
        f"{INTERPRETER}/{key}/interpretCommands", {"commands": list(commands)}
    )


async def test_a_sleep_beats_an_awakeable_that_nobody_resolves(started: Started):
    """Combinators.awakeableOrTimeoutUsingAwaitAny."""
    async with started() as runtime:
        awakeable = {"type": "createAwakeable", "awakeableKey": "awk1"}
        sleep = {"type": "sleep", "timeoutMillis": 20}
        sent = await interpret(
            runtime, fresh(), {"type": "awaitAny", "commands": [awakeable, sleep]}
        )
        assert await runtime.attach(sent) == "sleep"


async def test_a_wait_with_a_time_limit_says_that_it_was_over(started: Started):
    """Combinators.awakeableOrTimeoutUsingAwakeableTimeoutCommand."""
    async with started() as runtime:
        command = {"type": "awaitAwakeableOrTimeout", "awakeableKey": "awk1", "timeoutMillis": 20}
        sent = await interpret(runtime, fresh(), command)
        with pytest.raises(TerminalError, match="await-timeout"):
            await runtime.attach(sent)


async def test_the_first_success_is_taken_whatever_failed_before(started: Started):
    """Combinators.firstSuccessfulCompletedAwakeable: three failing steps, a rejected awakeable."""
    key = fresh()
    async with started() as runtime:
        failing = [{"type": "runThrowTerminalException", "reason": f"no {i}"} for i in range(3)]
        awakeables = [{"type": "createAwakeable", "awakeableKey": f"awk{i}"} for i in (1, 2)]
        sent = await interpret(
            runtime, key, {"type": "awaitAnySuccessful", "commands": failing + awakeables}
        )
        for i in (1, 2):
            await eventually(
                lambda i=i: runtime.call(f"{INTERPRETER}/{key}/hasAwakeable", f"awk{i}"),
                expected=True,
            )
        rejected = {"awakeableKey": "awk2", "reason": "no"}
        await runtime.call(f"{INTERPRETER}/{key}/rejectAwakeable", rejected)
        resolved = {"awakeableKey": "awk1", "value": "awk1-result"}
        await runtime.call(f"{INTERPRETER}/{key}/resolveAwakeable", resolved)
        assert await runtime.attach(sent) == "awk1-result"
        assert await runtime.call(f"{INTERPRETER}/{key}/getResults") == ["awk1-result"]
