"""Cancellation and KillInvocation of the suite."""

from __future__ import annotations

import pytest

from conformance.conftest import Started
from conformance.driver import Runtime, eventually, fresh
from conformance.services.blocking import TREE_DEPTH
from nbdurable import TerminalError

BLOCKED = ["CALL", "SLEEP", "AWAKEABLE"]


async def past_the_awakeable(runtime: Runtime, key: str) -> None:
    """Let the one that announced itself under this key go on to what it blocks on."""
    await eventually(lambda: runtime.call(f"AwakeableHolder/{key}/hasAwakeable"), expected=True)
    await runtime.call(f"AwakeableHolder/{key}/unlock", "go on")


async def check_cancelled(runtime: Runtime, key: str) -> None:
    # Both are exclusive: they get their turn when the cancelled ones are gone.
    assert await runtime.call(f"CancelTestRunner/{key}/verifyTest") is True
    await runtime.call(f"CancelTestBlockingService/{key}/isUnlocked")


@pytest.mark.parametrize("operation", BLOCKED)
async def test_whoever_cancels_frees_what_blocks(started: Started, operation: str):
    """Cancellation.cancelFromAdminAPI: the runner sees a 409 and says so, the key is free again."""
    key = fresh()
    async with started() as runtime:
        invocation_id = await runtime.send(f"CancelTestRunner/{key}/startTest", operation)
        await past_the_awakeable(runtime, key)
        await runtime.client.cancel(invocation_id)
        await check_cancelled(runtime, key)


@pytest.mark.parametrize("operation", BLOCKED)
async def test_a_handler_cancels_as_people_do(started: Started, operation: str):
    """Cancellation.cancelFromContext."""
    key = fresh()
    async with started() as runtime:
        invocation_id = await runtime.send(f"CancelTestRunner/{key}/startTest", operation)
        await past_the_awakeable(runtime, key)
        await runtime.call("TestUtilsService/cancelInvocation", invocation_id)
        await check_cancelled(runtime, key)


async def test_killing_a_call_tree_frees_every_key_of_it(started: Started):
    """KillInvocation.kill: none of its code runs again, and nobody else waits for it."""
    keys = [fresh()]
    for depth in range(TREE_DEPTH - 1, 0, -1):
        keys.append(f"{keys[-1]}/{depth}")
    async with started() as runtime:
        service, handler = "KillTestRunner", "startCallTree"
        sent = await runtime.client.generic_send(service, handler, b"", keys[0])
        await eventually(lambda: held(runtime, keys[-1]), expected=True)
        await runtime.client.generic_call("AwakeableHolder", "unlock", b'"go on"', keys[-1])
        await runtime.client.kill(sent.invocation_id)
        for key in keys:
            await runtime.client.generic_call("KillTestSingleton", "isUnlocked", b"", key)
        with pytest.raises(TerminalError, match="killed") as killed:
            await runtime.attach(sent.invocation_id)
        assert killed.value.status_code == 409


async def held(runtime: Runtime, key: str) -> bool:
    """By parts, because a key of the tree has slashes."""
    answer = await runtime.client.generic_call("AwakeableHolder", "hasAwakeable", b"", key)
    return answer == b"true"
