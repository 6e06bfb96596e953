"""What fails: for good, for a while, in a step, on replay.

Counts of tries live in this process, on purpose: they say how often code really ran.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TypedDict

from conformance.services.counter import add
from nbdurable import (
    Context,
    InvocationRetryPolicy,
    ObjectContext,
    RunOptions,
    Service,
    TerminalError,
    VirtualObject,
)

SUCCEEDS_AT = 4
SOON = timedelta(milliseconds=1)
AT_ONCE = InvocationRetryPolicy(initial_interval=SOON, max_interval=SOON)

failing = VirtualObject("Failing", invocation_retry_policy=AT_ONCE)
tries: Counter[str] = Counter()


class ErrorRequest(TypedDict, total=False):
    errorMessage: str
    metadata: dict[str, str] | None


@failing.handler("terminallyFailingCall")
async def terminally_failing_call(ctx: ObjectContext, request: ErrorRequest) -> None:
    raise _error(request)


@failing.handler("callTerminallyFailingCall")
async def call_terminally_failing_call(ctx: ObjectContext, request: ErrorRequest) -> str:
    await ctx.object_call(terminally_failing_call, str(ctx.uuid()), request)
    raise AssertionError("the call before did not fail")


@failing.handler("failingCallWithEventualSuccess")
async def failing_call_with_eventual_success(ctx: ObjectContext) -> int:
    return _fail_until(f"call {ctx.key()}", SUCCEEDS_AT)


@failing.handler("terminallyFailingSideEffect")
async def terminally_failing_side_effect(ctx: ObjectContext, request: ErrorRequest) -> None:
    def fail() -> None:
        raise _error(request)

    await ctx.run_typed("sideEffect", fail)
    raise AssertionError("the step before did not fail")


@failing.handler("sideEffectSucceedsAfterGivenAttempts")
async def side_effect_succeeds_after_given_attempts(ctx: ObjectContext, attempts: int) -> int:
    options: RunOptions[int] = RunOptions(initial_retry_interval=SOON, max_retry_interval=SOON)
    return await ctx.run_typed(
        "sideEffect", lambda: _fail_until(f"succeeds {ctx.key()}", attempts), options
    )


@failing.handler("sideEffectFailsAfterGivenAttempts")
async def side_effect_fails_after_given_attempts(ctx: ObjectContext, attempts: int) -> int:
    tried = f"fails {ctx.key()}"

    def fail() -> None:
        _fail_until(tried, attempts + 1)

    options: RunOptions[None] = RunOptions(max_attempts=attempts, initial_retry_interval=SOON)
    try:
        await ctx.run_typed("sideEffect", fail, options)
    except TerminalError:
        return tries[tried]
    raise AssertionError("the step before did not give up")


def _fail_until(tried: str, attempts: int) -> int:
    tries[tried] += 1
    if tries[tried] < attempts:
        raise ValueError(f"try {tries[tried]} of {tried}")
    return tries[tried]


def _error(request: ErrorRequest) -> TerminalError:
    return TerminalError(request["errorMessage"], metadata=request.get("metadata"))


# Suspends at its sleep whatever the mode, because only a replay can find non-determinism.
non_deterministic = VirtualObject(
    "NonDeterministic",
    inactivity_timeout=timedelta(0),
    invocation_retry_policy=InvocationRetryPolicy(max_attempts=1, on_max_attempts="kill"),
)
other = Service("Other")


@other.handler()
async def one(ctx: Context, said: str) -> str:
    return said


@other.handler()
async def two(ctx: Context, said: str) -> str:
    return said


@non_deterministic.handler("eitherSleepOrCall")
async def either_sleep_or_call(ctx: ObjectContext) -> None:
    if _goes_left(ctx):
        await ctx.sleep(SOON)
    else:
        await ctx.service_call(one, "a")
    await _replayed(ctx)


@non_deterministic.handler("callDifferentMethod")
async def call_different_method(ctx: ObjectContext) -> None:
    await ctx.service_call(one if _goes_left(ctx) else two, "a")
    await _replayed(ctx)


@non_deterministic.handler("backgroundInvokeWithDifferentTargets")
async def background_invoke_with_different_targets(ctx: ObjectContext) -> None:
    ctx.service_send(one if _goes_left(ctx) else two, "a")
    await _replayed(ctx)


@non_deterministic.handler("setDifferentKey")
async def set_different_key(ctx: ObjectContext) -> None:
    ctx.set("a" if _goes_left(ctx) else "b", "my-state")
    await _replayed(ctx)


def _goes_left(ctx: ObjectContext) -> bool:
    """Left, right, left, ...: differently on every attempt."""
    tries[f"goes {ctx.key()}"] += 1
    return tries[f"goes {ctx.key()}"] % 2 == 1


async def _replayed(ctx: ObjectContext) -> None:
    await ctx.sleep(SOON)
    await ctx.object_call(add, ctx.key(), 1)
