"""Random programs over three layers of objects, and the handlers that perform them.

A program is a list of operations, itself the argument of a call: `interpret` of an object of layer
0 performs it, calls objects of layer 1 with programs of theirs, and so on. What each attempt
observes is noted outside of the journal: a later attempt must observe the same, and how often each
counter ought to have been increased can be told from the programs alone.

Source: restate-semantics.md, 6 (`ObjectInterpreterL0-L2`, `ServiceInterpreterHelper`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from random import Random
from typing import Any

from nbdurable.errors import TerminalError
from nbdurable.invoker.output import output_var
from nbdurable.sdk.combinators import gather, select
from nbdurable.sdk.context import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    WorkflowContext,
    WorkflowSharedContext,
)
from nbdurable.sdk.definition import Definition
from nbdurable.sdk.future import RestateDurableFuture
from nbdurable.sdk.object import VirtualObject
from nbdurable.sdk.options import InvocationRetryPolicy, RunOptions
from nbdurable.sdk.promise import RestatePromise
from nbdurable.sdk.service import Service
from nbdurable.sdk.workflow import Workflow

LAYER_COUNT = 3
COUNTER = "counter"

Op = list[Any]
Program = list[Op]
Place = tuple[int, str]

# One column: how often each operation is written, and whether it makes a future.
WEIGHTS = {
    "set": 2,
    "get": 2,
    "clear": 1,
    "keys": 1,
    "add": 6,
    "add indirectly": 2,
    "add later": 2,
    "sleep": 2,
    "call": 2,
    "slow call": 2,
    "peek": 1,
    "call back": 2,
    "recover": 1,
    "fail later": 1,
    "run": 6,
    "awakeable": 2,
    "outside": 1,
    "dance": 1,
    "next": 4,
    "latch": 1,
    "doze and cancel": 1,
    "twice": 1,
    "chance": 1,
    "time": 1,
    "stumble": 2,
    "await": 8,
    "signal": 2,
    "select": 2,
    "gather": 2,
    "all": 1,
    "any": 1,
    "race": 1,
    "all_settled": 1,
    "timeout": 1,
    "finally": 1,
}
# What makes a future that is waited for at once, this often, or later, or never.
BEGUN = (
    "sleep",
    "peek",
    "call back",
    "call",
    "slow call",
    "fail later",
    "run",
    "awakeable",
    "outside",
    "time",
    "signal",
)
NOW = 0.5
STOPS = 0.3
STEPS = ("async", "def", "slow", "flaky", "stubborn", "terminal")
OPS_MAX = (8, 4, 3)
STATE_RETENTION = timedelta(milliseconds=200)
INACTIVITIES = tuple(timedelta(milliseconds=ms) for ms in (0, 1, 40, 60_000))


def layer_name(layer: int) -> str:
    return f"ObjectInterpreterL{layer}"


LAYERS = [layer_name(layer) for layer in range(LAYER_COUNT)]


# -- writing -----------------------------------------------------------------------------------


class Author:
    """Mutable: its chance. Writes programs that end, whatever happens to them on the way.

    Where objects call back those that called them, some calls are refused, and it cannot be told
    from the programs any more how far each counter is increased.
    """

    def __init__(self, random: Random, keys: tuple[str, ...], *, calls_back: bool) -> None:
        self._random = random
        self._keys = keys
        self._kinds = [kind for kind in WEIGHTS if calls_back or kind != "call back"]
        self._weights = [WEIGHTS[kind] for kind in self._kinds]
        self._count = 0

    def program(self, layer: int = 0) -> Program:
        program = [self._op(layer) for _ in range(self._random.randint(1, OPS_MAX[layer]))]
        if self._random.random() < STOPS:
            program.insert(0, ["stops when cancelled"])
        return program

    def key(self) -> str:
        return self._random.choice(self._keys)

    def _op(self, layer: int) -> Op:
        kind = self._random.choices(self._kinds, self._weights)[0]
        op = self._written(kind, layer)
        return ["now", op] if kind in BEGUN and self._random.random() < NOW else op

    def _written(self, kind: str, layer: int) -> Op:
        random = self._random
        self._count += 1
        match kind:
            case "set":
                return [kind, random.choice("abc"), self._count]
            case "get" | "clear":
                return [kind, random.choice("abc")]
            case "add indirectly":
                return [kind, random.randrange(LAYER_COUNT), self.key()]
            case "add later":
                return [kind, random.randrange(LAYER_COUNT), self.key(), random.choice([1, 80])]
            case "peek":
                return [kind, random.randrange(LAYER_COUNT), self.key()]
            case "call back":
                # Where it may be called from: perhaps it waits for us.
                return [kind, random.randint(0, layer), self.key()]
            case "sleep" | "doze and cancel":
                return [kind, random.choice([0, 1, 5, 30, 400, 3_600_000])]
            case "call" | "fail later" | "recover":
                return [kind, f"text {self._count}"]
            case "slow call":
                return [kind, random.choice([1, 10, 200]), f"text {self._count}"]
            case "run":
                return [kind, random.choice(STEPS)]
            case "awakeable":
                return [kind, random.choice(["resolve", "reject"])]
            case "next" if layer + 1 < LAYER_COUNT:
                return [kind, self.key(), self.program(layer + 1), random.choice((True, False))]
            case "next":
                return ["add"]
            case "latch" | "twice":
                return [kind, f"{kind} {random.randrange(4)}"]
            case "await" | "finally":
                return [kind, random.randrange(8)]
            case "select" | "gather" | "all" | "any" | "race" | "all_settled":
                return [kind, *random.choices(range(8), k=random.randint(1, 3))]
            case "timeout":
                return [kind, random.randrange(8), random.choice([0, 20, 2_000])]
            case _:
                return [kind]


def increments(program: Program, place: Place) -> Counter[Place]:
    """How often each counter is increased by a program that is performed to its end."""
    layer, _ = place
    counted: Counter[Place] = Counter()
    for op in program:
        match op:
            case ["add"] | ["dance"]:
                counted[place] += 1
            case ["add indirectly" | "add later", to_layer, key, *_]:
                counted[to_layer, key] += 1
            case ["next", key, inner, _]:
                counted += increments(inner, (layer + 1, key))
            case _:
                pass
    return counted


# -- performing --------------------------------------------------------------------------------


class Stage:
    """Mutable: what handlers share that is in no journal. One for all lives of a process.

    Attributes:
        is_stormy: Whether steps and handlers fail at random.
        outside: Awakeables that somebody out there is asked to complete.
    """

    def __init__(self, random: Random, tell: Callable[[BaseException], None] = print) -> None:
        self.random = random
        self._tell = tell
        self.is_stormy = True
        self.outside: dict[str, None] = {}
        self.token_count = 0
        self._seen: dict[tuple[str, int], list[Any]] = {}

    def observing(self, ctx: Context) -> Callable[[Any], None]:
        """What to tell whatever this attempt observes."""
        # The first number of the seed tells the lives of an id apart.
        life = (ctx.request().id, ctx.random().getrandbits(64))
        seen = self._seen.setdefault(life, [])
        position = 0

        def observe(value: Any) -> None:
            nonlocal position
            if position < len(seen):
                if seen[position] != value:
                    # Not raised: a handler's failure would be retried, and forgotten.
                    what = f"observation {position} of {ctx.request().id} is {value!r}, and was"
                    earlier = f"{seen[position]!r} on an earlier attempt"
                    self._tell(AssertionError(f"{what} {earlier}"))
            else:
                self.keep(life, value)
            position += 1

        return observe

    def keep(self, life: tuple[str, int], value: Any) -> None:
        """Nobody has observed so much before."""
        self._seen[life].append(value)

    def token(self) -> int:
        """Never the same twice: a step that ran again unseen would show."""
        self.token_count += 1
        return self.token_count

    def delay_s(self) -> float:
        return self.random.choice((0.0, 0.001, 0.02)) * self.random.random()

    def fails(self, probability: float) -> bool:
        return self.is_stormy and self.random.random() < probability


class StageError(Exception):
    """A failure that the next attempt may not have."""


class Cast:
    """Mutable: the stage it stands on. Made once, because definitions take longer than a program.

    `services` are by inactivity timeout: the sooner handlers suspend, the more is replayed. Those
    that are `forgetful` have their objects' state cleared soon after nobody writes to it.
    """

    def __init__(self) -> None:
        self.stage = Stage(Random(0))  # noqa: S311 - repeatable is the point.
        self.services = {inactivity: self._services(inactivity) for inactivity in INACTIVITIES}
        self.forgetful = {
            inactivity: self._services(inactivity, STATE_RETENTION) for inactivity in INACTIVITIES
        }

    def _services(
        self, inactivity: timedelta, state_retention: timedelta | None = None
    ) -> list[Definition]:
        options: Any = {
            "inactivity_timeout": inactivity,
            "invocation_retry_policy": InvocationRetryPolicy(
                initial_interval=timedelta(milliseconds=5), max_interval=timedelta(seconds=1)
            ),
        }
        helper = Service("ServiceInterpreterHelper", **options)
        latch = Workflow("Latch", **options)
        layers = [
            VirtualObject(layer_name(layer), state_retention=state_retention, **options)
            for layer in range(LAYER_COUNT)
        ]
        called = _add_helpers(helper)
        called.update(_add_latch(latch))
        for layer, definition in enumerate(layers):
            _add_layer(self, layer, definition, called)
        return [*layers, helper, latch]


def _add_layer(cast: Cast, layer: int, definition: VirtualObject, helper: dict[str, Any]) -> None:
    async def interpret(ctx: ObjectContext, program: Program) -> int:
        return await Performance(cast.stage, ctx, layer, helper).play(program)

    async def counter(ctx: ObjectSharedContext) -> int:
        return await ctx.get(COUNTER, type_hint=int) or 0

    helper[f"interpret {layer}"] = definition.handler()(interpret)
    helper[f"counter {layer}"] = definition.handler(kind="shared")(counter)


def _add_helpers(service: Service) -> dict[str, Any]:
    async def echo(ctx: Context, text: str) -> str:  # noqa: ARG001 - handlers take one.
        return text

    async def echo_later(ctx: Context, asked: list[Any]) -> str:
        ms, text = asked
        await ctx.sleep(timedelta(milliseconds=ms))
        return str(text)

    async def terminal_failure(ctx: Context, text: str) -> None:  # noqa: ARG001 - the same.
        raise TerminalError(text, 418)

    async def add_to(ctx: Context, place: list[Any]) -> None:
        layer, key = place
        ctx.object_send(helper[f"interpret {layer}"], key, [["add"]])

    async def settle(ctx: Context, asked: list[str]) -> None:
        awakeable_id, how = asked
        if how == "resolve":
            ctx.resolve_awakeable(awakeable_id, "settled")
        else:
            ctx.reject_awakeable(awakeable_id, "refused", 402)

    async def tell(ctx: Context, invocation_id: str) -> None:
        ctx.resolve_signal(invocation_id, "news", "told")

    async def dance(ctx: Context, partner: str) -> str:
        awakeable_id, answered = ctx.awakeable(type_hint=str)
        ctx.resolve_awakeable(partner, awakeable_id)
        return await answered

    async def doze(ctx: Context, ms: int) -> str:
        try:
            await ctx.sleep(timedelta(milliseconds=ms))
        except TerminalError as error:
            # In other words, so that its caller can tell this cancellation from its own.
            raise TerminalError("disturbed", 409) from error
        return "woke up"

    handlers: list[Any] = [echo, echo_later, terminal_failure, add_to, settle, tell, dance, doze]
    helper: dict[str, Any] = {fn.__name__: service.handler()(fn) for fn in handlers}
    return helper


def _add_latch(latch: Workflow) -> dict[str, Any]:
    async def run(ctx: WorkflowContext) -> str:
        ctx.set("waits", True)  # noqa: FBT003 - a value like any other.
        return await ctx.promise("open", type_hint=str)

    async def open_(ctx: WorkflowSharedContext, by: str) -> str:
        promise = ctx.promise("open", type_hint=str)
        already = await promise.peek()
        try:
            await promise.resolve(by)
        except TerminalError as error:
            return f"{error.status_code} {already}"
        return "opened"

    return {"run": latch.main()(run), "open": latch.handler("open")(open_)}


class Performance:
    """Mutable: one attempt at one program."""

    def __init__(
        self, stage: Stage, ctx: ObjectContext, layer: int, helper: dict[str, Any]
    ) -> None:
        self._stage = stage
        self._ctx = ctx
        self._layer = layer
        self._helper = helper
        self._observe = stage.observing(ctx)
        self._futures: list[Any] = []
        self._stops = False

    async def play(self, program: Program) -> int:
        for op in program:
            await self._perform(op)
        return len(program)

    async def _perform(self, op: Op) -> None:
        ctx, helper = self._ctx, self._helper
        match op:
            case ["stops when cancelled"]:
                self._stops = True
            case ["set", name, value]:
                ctx.set(name, value)
            case ["get", name]:
                self._observe(await ctx.get(name))
            case ["clear", name]:
                ctx.clear(name)
            case ["keys"]:
                self._observe(await ctx.state_keys())
            case ["add"]:
                await self._add()
            case ["add indirectly", layer, key]:
                ctx.service_send(helper["add_to"], [layer, key])
            case ["add later", layer, key, ms]:
                later = timedelta(milliseconds=ms)
                ctx.object_send(helper[f"interpret {layer}"], key, [["add"]], send_delay=later)
            case ["chance"]:
                _say("by chance")
                self._observe([ctx.random().random(), str(ctx.uuid())])
            case ["stumble"]:
                if self._stage.fails(0.5):
                    raise StageError("stumbled")
            case ["recover", text]:
                await self._outcome(ctx.service_call(helper["terminal_failure"], text))
            case ["dance"]:
                await self._dance()
            case ["next", key, program, waits]:
                future = ctx.object_call(helper[f"interpret {self._layer + 1}"], key, program)
                await self._keep(future, waits=waits)
            case ["latch", name]:
                handle = ctx.workflow_send(helper["run"], name, None)
                await self._outcome(ctx.workflow_call(helper["open"], name, "somebody"))
                self._futures.append(ctx.attach_invocation(await handle.invocation_id()))
            case ["doze and cancel", ms]:
                dozing = ctx.service_call(helper["doze"], ms)
                await dozing.cancel_invocation()
                self._futures.append(dozing)
            case ["twice", key]:
                self._futures += [
                    ctx.service_call(helper["echo"], key, idempotency_key=key) for _ in range(2)
                ]
            case ["await" | "finally" | "select" | "gather", *places]:
                await self._wait(op[0], [f for place in places for f in self._future(place)])
            case ["all" | "any" | "race" | "all_settled", *places]:
                combined = [f for place in places for f in self._future(place)]
                if combined:
                    self._futures.append(getattr(RestatePromise, op[0])(*combined))
            case ["timeout", place, ms]:
                for future in self._future(place):
                    self._futures.append(future.or_timeout(timedelta(milliseconds=ms)))
            case ["now", begun]:
                await self._outcome(self._begin(begun))
            case _:
                self._futures.append(self._begin(op))

    def _begin(self, op: Op) -> Any:
        """What makes a future and is waited for later, or never."""
        ctx, helper = self._ctx, self._helper
        match op:
            case ["sleep", ms]:
                return ctx.sleep(timedelta(milliseconds=ms))
            case ["call", text]:
                return ctx.service_call(helper["echo"], text)
            case ["slow call", ms, text]:
                return ctx.service_call(helper["echo_later"], [ms, text])
            case ["peek", layer, key]:
                return ctx.object_call(helper[f"counter {layer}"], key, None)
            case ["call back", layer, key]:
                return ctx.object_call(helper[f"interpret {layer}"], key, [["get", "a"]])
            case ["fail later", text]:
                return ctx.service_call(helper["terminal_failure"], text)
            case ["time"]:
                return ctx.time()
            case ["run", how]:
                return self._step(how)
            case ["awakeable", how]:
                awakeable_id, future = ctx.awakeable(type_hint=str)
                ctx.service_send(helper["settle"], [awakeable_id, how])
                return future
            case ["signal"]:
                ctx.service_send(helper["tell"], ctx.request().id)
                return ctx.signal("news", type_hint=str)
            case ["outside"]:
                awakeable_id, future = ctx.awakeable(type_hint=str)
                self._stage.outside[awakeable_id] = None
                return future
            case _:
                raise AssertionError(f"no such operation: {op}")

    def _step(self, how: str) -> Any:
        stage, ctx = self._stage, self._ctx

        async def takes_a_while() -> int:
            await asyncio.sleep(stage.delay_s())
            return stage.token()

        async def takes_long() -> int:
            await asyncio.sleep(0.2 * stage.random.random())
            return stage.token()

        def flaky() -> int:
            if stage.fails(0.5):
                raise StageError("flaky")
            return stage.token()

        def terminal() -> int:
            raise TerminalError(f"terminal {stage.token()}", 422)

        retried = RunOptions[int](max_attempts=3, initial_retry_interval=timedelta(milliseconds=10))
        match how:
            case "async":
                return ctx.run_typed(how, takes_a_while)
            case "def":
                return ctx.run_typed(how, stage.token)
            case "slow":
                return ctx.run_typed(how, takes_long)
            case "flaky":
                return ctx.run_typed(how, flaky)
            case "stubborn":
                return ctx.run_typed(how, flaky, retried)
            case _:
                return ctx.run_typed(how, terminal)

    async def _add(self) -> None:
        count = await self._ctx.get(COUNTER, type_hint=int) or 0
        self._observe(count)
        self._ctx.set(COUNTER, count + 1)

    async def _dance(self) -> None:
        awakeable_id, asked = self._ctx.awakeable(type_hint=str)
        self._ctx.service_send(self._helper["dance"], awakeable_id)
        partner = await self._outcome(asked)
        if isinstance(partner, str):
            self._ctx.resolve_awakeable(partner, "danced")
            await self._add()

    async def _keep(self, future: Any, *, waits: bool) -> None:
        if waits:
            await self._outcome(future)
        else:
            self._futures.append(future)

    async def _wait(self, how: str, futures: list[Any]) -> None:
        if not futures:
            return
        match how:
            case "select":
                named = {str(n): future for n, future in enumerate(futures)}
                await self._outcome(_first_name(select(**named)))
            case "gather":
                await self._outcome(_names(gather(*futures)))
                for future in futures:
                    await self._outcome(future)
            case "finally":
                try:
                    await self._outcome(futures[0])
                finally:
                    self._ctx.set("finally", "was here")
            case _:
                await self._outcome(futures[0])

    def _future(self, place: int) -> Iterator[Any]:
        if self._futures:
            yield self._futures[place % len(self._futures)]

    async def _outcome(self, future: Awaitable[Any]) -> Any:
        """What an await gives, noted. A failure is a value here, except a cancellation to some."""
        try:
            value = await future
        except TerminalError as error:
            self._observe([error.status_code, error.message])
            if self._stops and error.message == "cancelled":
                raise
            return None
        self._observe(_without_futures(value))
        return value


def _without_futures(value: Any) -> Any:
    """Of all that have settled, the futures themselves are the value: of these, how many."""
    if not isinstance(value, list):
        return value
    if any(isinstance(one, RestateDurableFuture) for one in value):
        return len(value)
    return [_without_futures(one) for one in value]


def _say(text: str) -> None:
    writer = output_var.get()
    assert writer is not None, "a handler is at work, and its output is nobody's"
    writer.write("stdout", f"{text}\n")


async def _first_name(selecting: Awaitable[list[Any]]) -> str:
    try:
        return str((await selecting)[0])
    except TerminalError as error:
        return f"failed: {error.message}"


async def _names(gathering: Awaitable[list[Any]]) -> int:
    return len(await gathering)
