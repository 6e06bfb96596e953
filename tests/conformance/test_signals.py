"""Combinators over signals, Signals and ServiceToServiceScopeConcurrency of the live suite."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conformance.conftest import Started
from conformance.driver import Runtime, fresh, message
from conformance.services import utils
from nbdurable import EngineOptions, TerminalError

INTERPRET = "VirtualObjectCommandInterpreter/{key}/interpretCommands"
CALLS, LIMIT = 4, 2


def signal(name: str) -> dict[str, Any]:
    return {"type": "createSignal", "signalName": name}


def returns(value: str) -> dict[str, Any]:
    return {"type": "runReturns", "value": value}


def throws(reason: str) -> dict[str, Any]:
    return {"type": "runThrowTerminalException", "reason": reason}


def resolved(name: str, value: str) -> tuple[str, dict[str, str]]:
    return "resolveSignal", {"signalName": name, "value": value}


def rejected(name: str, reason: str) -> tuple[str, dict[str, str]]:
    return "rejectSignal", {"signalName": name, "reason": reason}


async def interpreted(
    runtime: Runtime, command: dict[str, Any], *signals: tuple[str, dict[str, str]]
) -> str:
    """What one command comes to, when these signals are sent to it one after the other."""
    commands = {"commands": [command]}
    invocation_id = await runtime.send(INTERPRET.format(key=fresh()), commands)
    for handler, request in signals:
        sent = {"invocationId": invocation_id, **request}
        await runtime.call(f"TestUtilsService/{handler}", sent)
    return await runtime.attach(invocation_id)


@pytest.mark.parametrize(
    ("how", "signals", "expected"),
    [
        # signalFirstSuccessfulOrAllFailed
        (
            "awaitFirstSucceededOrAllFailed",
            [rejected("s0", "err0"), resolved("s1", "success1")],
            "success1",
        ),
        # signalAllSuccessfulOrFirstFailed
        (
            "awaitAllSucceededOrFirstFailed",
            [resolved("s2", "val2"), resolved("s0", "val0"), resolved("s1", "val1")],
            "val0|val1|val2",
        ),
        # signalAllCompleted
        (
            "awaitAllCompleted",
            [resolved("s0", "val0"), rejected("s1", "err1"), resolved("s2", "val2")],
            "ok:val0|err:err1|ok:val2",
        ),
        # signalFirstCompleted
        ("awaitFirstCompleted", [resolved("s1", "first")], "first"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("await") else "",
)
async def test_signals_are_waited_for_in_every_way(
    started: Started, how: str, signals: list, expected: str
):
    async with started() as runtime:
        command = {"type": how, "commands": [signal(f"s{i}") for i in range(3)]}
        assert await interpreted(runtime, command, *signals) == expected


@pytest.mark.parametrize(
    ("how", "awaited", "signals", "expected"),
    [
        # mixedRunWinsRaceAgainstSignal
        ("awaitFirstCompleted", [returns("runval"), signal("s")], [], "runval"),
        # mixedSignalWinsAfterRunFails
        (
            "awaitFirstSucceededOrAllFailed",
            [throws("fail"), signal("s")],
            [resolved("s", "sigval")],
            "sigval",
        ),
        # mixedAllSucceededRunAndSignal
        (
            "awaitAllSucceededOrFirstFailed",
            [returns("runval"), signal("s")],
            [resolved("s", "sigval")],
            "runval|sigval",
        ),
        # mixedAllCompletedRunSignalAndFailedRun
        (
            "awaitAllCompleted",
            [returns("runval"), signal("s"), throws("fail")],
            [resolved("s", "sigval")],
            "ok:runval|ok:sigval|err:fail",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("await") else "",
)
async def test_steps_and_signals_are_waited_for_together(
    started: Started, how: str, awaited: list, signals: list, expected: str
):
    async with started() as runtime:
        command = {"type": how, "commands": awaited}
        assert await interpreted(runtime, command, *signals) == expected


async def test_a_signal_brings_its_value(started: Started):
    """Signals.resolve."""
    async with started() as runtime:
        command = {"type": "awaitOne", "command": signal("s")}
        assert await interpreted(runtime, command, resolved("s", "value")) == "value"


async def test_a_rejected_signal_brings_its_reason(started: Started):
    """Signals.reject."""
    async with started() as runtime:
        command = {"type": "awaitOne", "command": signal("s")}
        with pytest.raises(TerminalError, match="boom"):
            await interpreted(runtime, command, rejected("s", "boom"))


async def test_a_limit_of_a_scope_holds_for_all_that_is_called_in_it(
    started: Started, monkeypatch: pytest.MonkeyPatch
):
    """ServiceToServiceScopeConcurrency: of four that are called together two run, then two."""
    monkeypatch.setattr(utils, "occupied", utils.Occupied())
    request = {
        "serviceName": "TestUtilsService",
        "handlerName": "occupy",
        "message": message(None),
        "scope": "tenant",
        "limitKey": "heavy",
    }
    limited = EngineOptions(scope_concurrency={"tenant/heavy": LIMIT})
    async with started(options=limited) as runtime:
        await asyncio.gather(*(runtime.call("Proxy/call", request) for _ in range(CALLS)))
    assert utils.occupied.most == LIMIT
