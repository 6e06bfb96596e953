"""Echoes, sleeps, and steps that are counted."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TypedDict

from nbdurable import BytesSerde, Context, Service, gather

test_utils = Service("TestUtilsService")


class SignalRequest(TypedDict, total=False):
    invocationId: str
    signalName: str
    value: str
    reason: str


@test_utils.handler()
async def echo(ctx: Context, said: str) -> str:
    return said


@test_utils.handler("uppercaseEcho")
async def uppercase_echo(ctx: Context, said: str) -> str:
    return said.upper()


@test_utils.handler("echoHeaders")
async def echo_headers(ctx: Context) -> dict[str, str]:
    return ctx.request().headers


@test_utils.handler(
    "rawEcho",
    accept="*/*",
    content_type="application/octet-stream",
    input_serde=BytesSerde(),
    output_serde=BytesSerde(),
)
async def raw_echo(ctx: Context, said: bytes) -> bytes:
    return said


@test_utils.handler("sleepConcurrently")
async def sleep_concurrently(ctx: Context, millis: list[int]) -> None:
    await gather(*(ctx.sleep(timedelta(milliseconds=each)) for each in millis))


@test_utils.handler("countExecutedSideEffects")
async def count_executed_side_effects(ctx: Context, count: int) -> int:
    """How many steps this attempt itself ran; those it only replays do not count.

    The suite's has no sleep at the end: over there every record of a step suspends an attempt that
    may not wait. Here an attempt goes on with the records of its own steps (DECISIONS 0013).
    """
    executed = 0

    def step() -> None:
        nonlocal executed
        executed += 1

    for _ in range(count):
        await ctx.run_typed("count", step)
    await ctx.sleep(timedelta(milliseconds=1))
    return executed


@test_utils.handler("cancelInvocation")
async def cancel_invocation(ctx: Context, invocation_id: str) -> None:
    ctx.cancel_invocation(invocation_id)


@test_utils.handler("resolveSignal")
async def resolve_signal(ctx: Context, request: SignalRequest) -> None:
    ctx.resolve_signal(request["invocationId"], request["signalName"], request["value"])


@test_utils.handler("rejectSignal")
async def reject_signal(ctx: Context, request: SignalRequest) -> None:
    ctx.reject_signal(request["invocationId"], request["signalName"], request["reason"])


class Occupied:
    """Mutable: how many are inside `occupy` at once. Two leave together, never one."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self._pair: asyncio.Barrier | None = None

    async def enter(self) -> None:
        self._pair = self._pair or asyncio.Barrier(2)
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self._pair.wait()
        self.inside -= 1


occupied: Occupied = Occupied()


@test_utils.handler()
async def occupy(ctx: Context) -> None:
    """The suite's sleeps for a while; this one ends when another is there too."""
    await ctx.run_typed("occupy", occupied.enter)
