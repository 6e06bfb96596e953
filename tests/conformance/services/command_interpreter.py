"""Commands that wait for awaitables in every way there is; both come as data.

`{"type": "awaitAny", "commands": [{"type": "sleep", "timeoutMillis": 100}, …]}`
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import nbdurable
from nbdurable import (
    ObjectContext,
    ObjectSharedContext,
    RestateDurableFuture,
    TerminalError,
    VirtualObject,
    as_completed,
    select,
)

RESULTS = "results"

interpreter = VirtualObject("VirtualObjectCommandInterpreter")
Command = dict[str, Any]


class Awaitable(NamedTuple):
    """A future, and what its value is called in results: a timer has none of its own."""

    future: RestateDurableFuture[Any]
    named: Callable[[Any], str]

    async def value(self) -> str:
        return self.named(await self.future)


@interpreter.handler("interpretCommands")
async def interpret_commands(ctx: ObjectContext, request: dict[str, list[Command]]) -> str:
    result = ""
    for command in request["commands"]:
        result = await _interpret(ctx, command)
        ctx.set(RESULTS, [*(await ctx.get(RESULTS) or []), result])
    return result


@interpreter.handler("resolveAwakeable", kind="shared")
async def resolve_awakeable(ctx: ObjectSharedContext, request: dict[str, str]) -> None:
    ctx.resolve_awakeable(await _held(ctx, request["awakeableKey"]), request["value"])


@interpreter.handler("rejectAwakeable", kind="shared")
async def reject_awakeable(ctx: ObjectSharedContext, request: dict[str, str]) -> None:
    ctx.reject_awakeable(await _held(ctx, request["awakeableKey"]), request["reason"])


@interpreter.handler("hasAwakeable", kind="shared")
async def has_awakeable(ctx: ObjectSharedContext, key: str) -> bool:
    return await ctx.get(_state(key)) is not None


@interpreter.handler("getResults", kind="shared")
async def get_results(ctx: ObjectSharedContext) -> list[str]:
    return await ctx.get(RESULTS) or []


async def _interpret(ctx: ObjectContext, command: Command) -> str:
    match command["type"]:
        case "awaitOne":
            return await _awaitable(ctx, command["command"]).value()
        case "awaitAny" | "awaitFirstCompleted":
            first = await _first(_awaitables(ctx, command))
            return await first.value()
        case "awaitAnySuccessful":
            return await _first_success(_awaitables(ctx, command))
        case "awaitAwakeableOrTimeout":
            awakeable = _awakeable(ctx, command["awakeableKey"])
            late = ctx.sleep(timedelta(milliseconds=command["timeoutMillis"]))
            match await select(said=awakeable.future, late=late):
                case ["said", said]:
                    return str(said)
                case _:
                    raise TerminalError("await-timeout")
        case "awaitFirstSucceededOrAllFailed":
            futures = [each.future for each in _awaitables(ctx, command)]
            return str(await nbdurable.RestatePromise.any(*futures))
        case "awaitAllSucceededOrFirstFailed":
            futures = [each.future for each in _awaitables(ctx, command)]
            return "|".join(await nbdurable.RestatePromise.all(*futures))
        case "awaitAllCompleted":
            futures = [each.future for each in _awaitables(ctx, command)]
            return "|".join(
                [
                    await _outcome(each)
                    for each in await nbdurable.RestatePromise.all_settled(*futures)
                ]
            )
        case "resolveAwakeable":
            ctx.resolve_awakeable(await _held(ctx, command["awakeableKey"]), command["value"])
            return ""
        case "rejectAwakeable":
            ctx.reject_awakeable(await _held(ctx, command["awakeableKey"]), command["reason"])
            return ""
        case "getEnvVariable":
            return await ctx.run_typed("env", lambda: os.environ.get(command["envName"], ""))
        case unknown:
            raise TerminalError(f"no such command: {unknown}", 400)


def _awaitables(ctx: ObjectContext, command: Command) -> list[Awaitable]:
    return [_awaitable(ctx, each) for each in command["commands"]]


def _awaitable(ctx: ObjectContext, command: Command) -> Awaitable:
    match command["type"]:
        case "createAwakeable":
            return _awakeable(ctx, command["awakeableKey"])
        case "sleep":
            millis = timedelta(milliseconds=command["timeoutMillis"])
            return Awaitable(ctx.sleep(millis), lambda _: "sleep")
        case "runThrowTerminalException":

            def fail() -> str:
                raise TerminalError(command["reason"])

            return Awaitable(ctx.run_typed("run should fail", fail), str)
        case "runReturns":
            return Awaitable(ctx.run_typed("run", lambda: command["value"]), str)
        case "createSignal":
            return Awaitable(ctx.signal(command["signalName"], type_hint=str), str)
        case unknown:
            raise TerminalError(f"no such awaitable: {unknown}", 400)


def _awakeable(ctx: ObjectContext, key: str) -> Awaitable:
    awakeable_id, future = ctx.awakeable(type_hint=str)
    ctx.set(_state(key), awakeable_id)
    return Awaitable(future, str)


async def _first(awaitables: list[Awaitable]) -> Awaitable:
    async for future in as_completed(*(each.future for each in awaitables)):
        return next(each for each in awaitables if each.future is future)
    raise TerminalError("there is nothing to wait for", 400)


async def _first_success(awaitables: list[Awaitable]) -> str:
    async for future in as_completed(*(each.future for each in awaitables)):
        try:
            return str(await future)
        except TerminalError:
            continue
    raise TerminalError("all failed")


async def _outcome(future: RestateDurableFuture[Any]) -> str:
    try:
        return f"ok:{await future}"
    except TerminalError as error:
        return f"err:{error.message}"


async def _held(ctx: ObjectSharedContext, key: str) -> str:
    awakeable_id = await ctx.get(_state(key), type_hint=str)
    if awakeable_id is None:
        raise TerminalError(f"no awakeable {key!r} was created here", 404)
    return awakeable_id


def _state(key: str) -> str:
    return f"awk-{key}"
