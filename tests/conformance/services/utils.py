"""Echoes, sleeps, and steps that are counted."""

from __future__ import annotations

from datetime import timedelta

from nbdurable import BytesSerde, Context, Service, gather

test_utils = Service("TestUtilsService")


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
