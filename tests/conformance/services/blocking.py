"""What waits for somebody: a holder of awakeables, a workflow, and victims of cancel and kill."""

from __future__ import annotations

from datetime import timedelta

from nbdurable import (
    ObjectContext,
    ObjectSharedContext,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)

HELD, CANCELLED, GIVEN = "id", "cancelled", "my-state"
LONG = timedelta(days=1024)
TREE_DEPTH = 3

holder = VirtualObject("AwakeableHolder")


@holder.handler()
async def hold(ctx: ObjectContext, awakeable_id: str) -> None:
    ctx.set(HELD, awakeable_id)


@holder.handler("hasAwakeable", kind="shared")
async def has_awakeable(ctx: ObjectSharedContext) -> bool:
    return await ctx.get(HELD) is not None


@holder.handler()
async def unlock(ctx: ObjectContext, payload: str) -> None:
    awakeable_id = await ctx.get(HELD, type_hint=str)
    if awakeable_id is None:
        raise TerminalError("no awakeable is held here")
    ctx.resolve_awakeable(awakeable_id, payload)


block_and_wait = Workflow("BlockAndWaitWorkflow")


@block_and_wait.main()
async def run(ctx: WorkflowContext, given: str) -> str:
    ctx.set(GIVEN, given)
    promise = ctx.promise("durable-promise", type_hint=str)
    said = await promise
    if await promise.peek() is None:
        raise TerminalError("the promise is resolved, and peeking does not see it")
    return said


@block_and_wait.handler()
async def unblock(ctx: WorkflowSharedContext, said: str) -> None:
    await ctx.promise("durable-promise", type_hint=str).resolve(said)


@block_and_wait.handler("getState")
async def get_state(ctx: WorkflowSharedContext) -> str | None:
    return await ctx.get(GIVEN, type_hint=str)


cancel_runner = VirtualObject("CancelTestRunner")
cancel_blocking = VirtualObject("CancelTestBlockingService")


@cancel_runner.handler("startTest")
async def start_test(ctx: ObjectContext, operation: str) -> None:
    try:
        await ctx.object_call(block, ctx.key(), operation)
    except TerminalError as error:
        if (error.status_code, error.message) != (409, "cancelled"):
            raise
        ctx.set(CANCELLED, value=True)


@cancel_runner.handler("verifyTest")
async def verify_test(ctx: ObjectContext) -> bool:
    return await ctx.get(CANCELLED, type_hint=bool) or False


@cancel_blocking.handler()
async def block(ctx: ObjectContext, operation: str) -> None:
    await _announced(ctx)
    match operation:
        case "CALL":
            # The suite's calls itself, which is refused here: it could never end (design, 6.7).
            await ctx.object_call(block_inside, f"{ctx.key()} inside", None)
        case "SLEEP":
            await ctx.sleep(LONG)
        case _:
            _, never = ctx.awakeable()
            await never


@cancel_blocking.handler("blockInside")
async def block_inside(ctx: ObjectContext) -> None:
    _, never = ctx.awakeable()
    await never


@cancel_blocking.handler("isUnlocked")
async def is_unlocked(ctx: ObjectContext) -> None:
    """Answers as soon as nobody else holds the key."""


kill_runner = VirtualObject("KillTestRunner")
kill_singleton = VirtualObject("KillTestSingleton")


@kill_runner.handler("startCallTree")
async def start_call_tree(ctx: ObjectContext) -> None:
    await ctx.object_call(recursive_call, ctx.key(), TREE_DEPTH)


@kill_singleton.handler("recursiveCall")
async def recursive_call(ctx: ObjectContext, depth: int) -> None:
    """The suite's calls its own key, which is refused here; this tree grows over other keys."""
    if depth > 1:
        await ctx.object_call(recursive_call, f"{ctx.key()}/{depth - 1}", depth - 1)
    else:
        await _announced(ctx)
        _, never = ctx.awakeable()
        await never


@kill_singleton.handler("isUnlocked")
async def singleton_is_unlocked(ctx: ObjectContext) -> None:
    """Answers as soon as nobody else holds the key."""


async def _announced(ctx: ObjectContext) -> None:
    """Wait until the test has seen that we are here: it unlocks the holder of our key."""
    awakeable_id, seen = ctx.awakeable(type_hint=str)
    ctx.object_send(hold, ctx.key(), awakeable_id)
    await seen
