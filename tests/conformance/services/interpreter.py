"""Programs of small numbers, over three layers of objects: what crashes must not miscount.

A program is a list of commands; every layer counts, and the driver knows what it must come to.

Source: restate-semantics.md, section 6 (ObjectInterpreterL0 to L2, ServiceInterpreterHelper).
"""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from enum import IntEnum
from typing import Any, TypedDict

from nbdurable import (
    Context,
    InvocationRetryPolicy,
    ObjectContext,
    ObjectSharedContext,
    RestateDurableFuture,
    RunOptions,
    Service,
    TerminalError,
    VirtualObject,
)

LAYERS = 3
COUNT = "counter"
SOON = timedelta(milliseconds=1)
AT_ONCE = InvocationRetryPolicy(initial_interval=SOON, max_interval=SOON)


class Kind(IntEnum):
    SET_STATE = 1
    GET_STATE = 2
    CLEAR_STATE = 3
    INCREMENT = 4
    INCREMENT_INDIRECTLY = 5
    SLEEP = 6
    CALL = 7
    SLOW_CALL = 8
    INCREMENT_DELAYED = 9
    RUN = 10
    THROWING_RUN = 11
    SLOW_RUN = 12
    RECOVER_TERMINAL_CALL = 13
    RECOVER_TERMINAL_MAYBE_UNAWAITED = 14
    AWAIT = 15
    RESOLVE_AWAKEABLE = 16
    REJECT_AWAKEABLE = 17
    INCREMENT_VIA_AWAKEABLE_DANCE = 18
    CALL_NEXT_LAYER = 19


class Command(TypedDict, total=False):
    kind: int
    key: int
    index: int
    sleep: int
    program: Program


Program = list[Command]

helper = Service("ServiceInterpreterHelper", invocation_retry_policy=AT_ONCE)
layers = [
    VirtualObject(f"ObjectInterpreterL{level}", invocation_retry_policy=AT_ONCE)
    for level in range(LAYERS)
]
interpreters: list[Any] = []
counters: list[Any] = []
# Throws now and then; a crash of the process must not make it throw the same way again.
luck = random.Random()


@helper.handler()
async def ping(ctx: Context) -> None:
    """Nothing but a call."""


@helper.handler()
async def echo(ctx: Context, said: str) -> str:
    return said


@helper.handler("echoLater")
async def echo_later(ctx: Context, request: dict[str, Any]) -> str:
    await ctx.sleep(timedelta(milliseconds=request["sleep"]))
    return str(request["parameter"])


@helper.handler("terminalFailure")
async def terminal_failure(ctx: Context) -> str:
    raise TerminalError("bye")


@helper.handler("incrementIndirectly")
async def increment_indirectly(ctx: Context, whose: dict[str, Any]) -> None:
    ctx.object_send(interpreters[whose["layer"]], whose["key"], [Command(kind=Kind.INCREMENT)])


@helper.handler("resolveAwakeable")
async def resolve_awakeable(ctx: Context, awakeable_id: str) -> None:
    ctx.resolve_awakeable(awakeable_id, "ok")


@helper.handler("rejectAwakeable")
async def reject_awakeable(ctx: Context, awakeable_id: str) -> None:
    ctx.reject_awakeable(awakeable_id, "error")


@helper.handler("incrementViaAwakeableDance")
async def increment_via_awakeable_dance(ctx: Context, whose: dict[str, Any]) -> None:
    """Hand the other an awakeable of ours, wait until it answers, then increment it."""
    awakeable_id, met = ctx.awakeable(type_hint=str)
    ctx.resolve_awakeable(whose["txPromiseId"], awakeable_id)
    await met
    ctx.object_send(interpreters[whose["layer"]], whose["key"], [Command(kind=Kind.INCREMENT)])


def _serve(level: int, layer: VirtualObject) -> None:
    @layer.handler()
    async def interpret(ctx: ObjectContext, program: list) -> None:
        await _Interpretation(ctx, level).perform(program)

    @layer.handler(kind="shared")
    async def counter(ctx: ObjectSharedContext) -> int:
        return await ctx.get(COUNT, type_hint=int) or 0

    interpreters.append(interpret)
    counters.append(counter)


class _Interpretation:
    """Mutable; one attempt at a program."""

    def __init__(self, ctx: ObjectContext, level: int) -> None:
        self.ctx, self.level = ctx, level
        self.whose = {"layer": level, "key": ctx.key()}
        self.futures: dict[int, tuple[RestateDurableFuture[Any], Any]] = {}

    async def perform(self, program: Program) -> None:
        for index, command in enumerate(program):
            begun = await self.begin(index, command)
            if begun is not None:
                self.futures[index] = begun

    async def begin(
        self, index: int, command: Command
    ) -> tuple[RestateDurableFuture[Any], Any] | None:
        """What a later command may await, and what it then must be; None if nothing."""
        ctx = self.ctx
        match command["kind"]:
            case Kind.SET_STATE:
                ctx.set(f"key-{command['key']}", f"value-{index}")
            case Kind.GET_STATE:
                await ctx.get(f"key-{command['key']}")
            case Kind.CLEAR_STATE:
                ctx.clear(f"key-{command['key']}")
            case Kind.INCREMENT:
                ctx.set(COUNT, (await ctx.get(COUNT, type_hint=int) or 0) + 1)
            case Kind.INCREMENT_INDIRECTLY:
                ctx.service_send(increment_indirectly, self.whose)
            case Kind.SLEEP:
                await ctx.sleep(timedelta(milliseconds=command["sleep"]))
            case Kind.CALL:
                said = f"hello-{index}"
                return ctx.service_call(echo, said), said
            case Kind.SLOW_CALL:
                said = f"hello-{index}"
                later = {"sleep": command["sleep"], "parameter": said}
                return ctx.service_call(echo_later, later), said
            case Kind.INCREMENT_DELAYED:
                delay = timedelta(milliseconds=command["sleep"])
                ctx.service_send(increment_indirectly, self.whose, send_delay=delay)
            case _:
                return await self.begin_rest(index, command)
        return None

    async def begin_rest(
        self, index: int, command: Command
    ) -> tuple[RestateDurableFuture[Any], Any] | None:
        ctx = self.ctx
        match command["kind"]:
            case Kind.RUN:
                said = f"hello-{index}"
                assert await ctx.run_typed("run", lambda: said) == said
            case Kind.THROWING_RUN:
                options: RunOptions[str] = RunOptions(initial_retry_interval=SOON)
                assert await ctx.run_typed("throwing", _maybe_throw, options) == "ok"
            case Kind.SLOW_RUN:
                said = f"hello-{index}"
                return ctx.run_typed("slow", _slowly, RunOptions(), said), said
            case Kind.RECOVER_TERMINAL_CALL:
                await self.recover(ctx.service_call(terminal_failure, None))
            case Kind.RECOVER_TERMINAL_MAYBE_UNAWAITED:
                return ctx.service_call(terminal_failure, None), TerminalError
            case Kind.AWAIT:
                await self.await_index(command["index"])
            case Kind.RESOLVE_AWAKEABLE | Kind.REJECT_AWAKEABLE:
                resolves = command["kind"] == Kind.RESOLVE_AWAKEABLE
                awakeable_id, future = ctx.awakeable(type_hint=str)
                ctx.service_send(resolve_awakeable if resolves else reject_awakeable, awakeable_id)
                return future, "ok" if resolves else TerminalError
            case Kind.INCREMENT_VIA_AWAKEABLE_DANCE:
                awakeable_id, met = ctx.awakeable(type_hint=str)
                whose = {**self.whose, "txPromiseId": awakeable_id}
                ctx.service_send(increment_via_awakeable_dance, whose)
                ctx.resolve_awakeable(await met, "ok")
            case Kind.CALL_NEXT_LAYER:
                key, below = str(command["key"]), self.level + 1
                await ctx.object_call(interpreters[below], key, command["program"])
            case unknown:
                raise TerminalError(f"no such command: {unknown}", 400)
        return None

    async def await_index(self, index: int) -> None:
        future, expected = self.futures.pop(index, (None, None))
        if future is None:
            return
        if expected is TerminalError:
            await self.recover(future)
        else:
            assert await future == expected

    async def recover(self, failing: RestateDurableFuture[Any]) -> None:
        try:
            await failing
        except TerminalError:
            return
        raise TerminalError("what had to fail has not")


def _maybe_throw() -> str:
    if luck.random() < 0.3:
        raise ValueError("bad luck")
    return "ok"


async def _slowly(said: str) -> str:
    await asyncio.sleep(0.001)
    return said


for _level, _layer in enumerate(layers):
    _serve(_level, _layer)
