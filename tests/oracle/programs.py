"""Programs, and the one handler that performs them with whichever SDK it is given.

A program is a list of operations. Those that make a future leave it under their number; others
wait for such futures. All that the handler sees is its result, so that two runs that end with the
same output have seen the same, in the same order.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

# Restate's own words for who answers: an invocation and an awakeable that are not the program's.
FOREIGN_INVOCATION = "inv_foreign"
FOREIGN_AWAKEABLE = "sign_foreign"
NAMES = ("a", "b")
# Both SDKs write the same bytes for the first four; of the last two only the values are compared.
VALUES: tuple[Any, ...] = (0, -7, "text", True, None, [1, "x"], {"b": 1, "a": [2]})
COUNT_MIN, COUNT_MAX = 4, 12
MAKE_FUTURES = (
    "run",
    "run that fails",
    "run that gives up",
    "run that crashes",
    "sleep",
    "call",
    "call object",
    "awakeable",
    "promise",
    "attach",
    "signal",
)
WAIT = ("await", "gather", "select", "wait_completed", "as_completed")
ACT = (
    "send",
    "send later",
    "resolve awakeable",
    "reject awakeable",
    "peek",
    "resolve promise",
    "reject promise",
    "get",
    "set",
    "clear",
    "clear_all",
    "state_keys",
    "resolve signal",
    "reject signal",
    "cancel",
    "cancel callee",
    "random",
    "uuid",
)
END = ("fail", "crash")
# Only protocol V7 has them.
SIGNALS = ("signal", "resolve signal", "reject signal")
# Not generated, because the sides are meant to differ about them: see `test_differences.py`.
BY_HAND = ("run that hangs", "run that retries")


@dataclass(frozen=True)
class Op:
    """`of` are the numbers of operations whose futures it is about."""

    number: int
    kind: str
    of: tuple[int, ...] = ()
    name: str = "a"
    value: Any = None

    @property
    def entry(self) -> str | None:
        """What an entry of the journal is called, where the SDKs leave that to the program."""
        return "entry" if isinstance(self.value, str) else None

    def __repr__(self) -> str:
        return f"{self.number}:{self.kind}{list(self.of) or ''} {self.name} {self.value!r}"


Program = tuple[Op, ...]


def programs(*, without: tuple[str, ...] = ()) -> st.SearchStrategy[Program]:
    """Of random operations; what an operation is about was made before it."""
    kinds = [kind for kind in MAKE_FUTURES * 2 + WAIT * 3 + ACT if kind not in without]
    drawn = st.tuples(
        st.sampled_from(kinds),
        st.lists(st.integers(0, COUNT_MAX), min_size=1, max_size=3),
        st.sampled_from(NAMES),
        st.sampled_from(VALUES),
    )
    end = st.sampled_from(END).map(lambda kind: [(kind, [0], "a", None)])
    return st.builds(
        lambda begun, ended: _program(begun + ended),
        st.lists(drawn, min_size=COUNT_MIN, max_size=COUNT_MAX),
        st.just([]) | st.just([]) | end,
    ).filter(bool)


def _program(drawn: list[tuple[str, list[int], str, Any]]) -> Program:
    ops: list[Op] = []
    for number, (kind, picks, name, value) in enumerate(drawn):
        about = [op.number for op in ops if op.kind in _about(kind)]
        size = len(picks) if kind in WAIT[1:] else 1
        of = tuple(dict.fromkeys(about[i % len(about)] for i in picks[:size])) if about else ()
        if kind == "signal" and not _may_wait_again(ops, name):
            continue
        # Over there state_keys() still lists what was cleared: `test_differences.py`.
        if kind == "state_keys" and any(op.kind == "clear" for op in ops):
            continue
        if of or kind not in (*WAIT, "cancel callee"):
            ops.append(Op(number, kind, of, name, value))
    return tuple(ops)


def _may_wait_again(ops: list[Op], name: str) -> bool:
    """Not before the last wait is over: two at once share values otherwise over there.

    `test_differences.py` shows how.
    """
    waits = {op.number for op in ops if op.kind == "signal" and op.name == name}
    return waits <= {number for op in ops if op.kind == "await" for number in op.of}


def repeats_signals(program: Program) -> bool:
    """A cancellation might leave two waits for one name at once, where there was to be one."""
    names = [op.name for op in program if op.kind == "signal"]
    return len(names) != len(set(names))


def _about(kind: str) -> tuple[str, ...]:
    """The operations that an operation can be about."""
    if kind in WAIT:
        return MAKE_FUTURES
    if kind == "cancel callee":
        return ("call", "call object", "send", "send later")
    return ("awakeable",) if kind in ("resolve awakeable", "reject awakeable") else ()


def flow_of(sdk: Any, program: Program) -> tuple[Any, Any]:
    """The workflow that performs the program, and whom it calls. `sdk` is one of the packages."""
    flow, echo, store = sdk.Workflow("Flow"), sdk.Service("Echo"), sdk.VirtualObject("Store")

    @echo.handler()
    async def say(ctx, said):
        return said

    @store.handler()
    async def put(ctx, said):
        return said

    @flow.main()
    async def run(ctx, start):
        return await _Performance(sdk, ctx, say, put).perform(program)

    return flow, (echo, store)


async def _turns(number: int) -> None:
    """Steps that run together end in an order of the program's, not of whoever started them."""
    for _ in range(10 + number * 7 % 10 * 10):
        await asyncio.sleep(0)


class _Performance:
    """Mutable; one attempt at performing a program."""

    def __init__(self, sdk: Any, ctx: Any, say: Any, put: Any) -> None:
        self.sdk, self.ctx, self.say, self.put = sdk, ctx, say, put
        self.futures: dict[int, Any] = {}
        self.awakeables: dict[int, str] = {}
        self.seen: list[Any] = []

    async def perform(self, program: Program) -> list[Any]:
        for op in program:
            try:
                if op.kind in MAKE_FUTURES + BY_HAND:
                    self.futures[op.number] = self.future(op)
                elif op.kind in (*WAIT, "await again"):
                    await self.wait(op)
                else:
                    await self.act(op)
            except self.sdk.TerminalError as error:
                if op.kind == "fail":
                    raise
                self.seen.append([op.number, error.status_code, error.message])
                if op.kind == "await" and error.message == "cancelled":
                    # Over there such a future stays cancelled: `test_differences.py`.
                    self.futures.pop(op.of[0], None)
        return self.seen

    def future(self, op: Op) -> Any:
        ctx, sdk = self.ctx, self.sdk
        match op.kind:
            case "run":

                async def returns():
                    await _turns(op.number)
                    return op.value

                return ctx.run_typed(op.name, returns)
            case "run that fails":

                async def fails():
                    await _turns(op.number)
                    raise sdk.TerminalError("no", 418)

                return ctx.run_typed(op.name, fails)
            case "run that gives up" | "run that crashes" | "run that retries":

                async def raises():
                    await _turns(op.number)
                    raise ValueError("no")

                attempts = {"run that gives up": 1, "run that retries": 2}.get(op.kind)
                return ctx.run_typed(op.name, raises, sdk.RunOptions(max_attempts=attempts))
            case "run that hangs":
                return ctx.run_typed(op.name, asyncio.Event().wait)
            case "sleep":
                return ctx.sleep(timedelta(hours=1), name=op.name)
            case "call":
                headers = {"h": op.name} if op.name == "b" else None
                return ctx.service_call(self.say, op.value, headers=headers)
            case "call object":
                return ctx.object_call(self.put, op.name, op.value, idempotency_key=f"i{op.name}")
            case "awakeable":
                self.awakeables[op.number], future = ctx.awakeable()
                return future
            case "promise":
                return ctx.promise(op.name).value()
            case "signal":
                return ctx.signal(op.name)
            case _:
                return ctx.attach_invocation(FOREIGN_INVOCATION)

    async def wait(self, op: Op) -> None:
        sdk, futures = self.sdk, {str(i): self.futures[i] for i in op.of if i in self.futures}
        if not futures:
            return
        names = {id(future): name for name, future in futures.items()}
        match op.kind:
            case "await":
                for future in futures.values():
                    self.seen.append([op.number, await future])
            case "await again":
                for future in futures.values():
                    with suppress(sdk.TerminalError):
                        await future
                    self.seen.append([op.number, await future])
            case "gather":
                done = await sdk.gather(*futures.values())
                self.seen.append([op.number, [names[id(future)] for future in done]])
            case "select":
                self.seen.append([op.number, await sdk.select(**futures)])
            case "wait_completed":
                done, waiting = await sdk.wait_completed(*futures.values())
                told = [[names[id(future)] for future in some] for some in (done, waiting)]
                self.seen.append([op.number, told])
            case _:
                order = [names[id(f)] async for f in sdk.as_completed(*futures.values())]
                self.seen.append([op.number, order])

    async def act(self, op: Op) -> None:
        ctx = self.ctx
        match op.kind:
            case "send" | "send later":
                delay = timedelta(hours=1) if op.kind == "send later" else None
                self.futures[op.number] = ctx.object_send(
                    self.put, op.name, op.value, send_delay=delay
                )
            case "resolve awakeable" | "reject awakeable":
                whose = self.awakeables[op.of[0]] if op.of else FOREIGN_AWAKEABLE
                if op.kind == "resolve awakeable":
                    ctx.resolve_awakeable(whose, op.value)
                else:
                    ctx.reject_awakeable(whose, "no", 418)
            case "peek":
                self.seen.append([op.number, await ctx.promise(op.name).peek()])
            case "resolve promise":
                await ctx.promise(op.name).resolve(op.value)
            case "reject promise":
                await ctx.promise(op.name).reject("no", 418)
            case "get":
                self.seen.append([op.number, await ctx.get(op.name, entry_name=op.entry)])
            case "set":
                ctx.set(op.name, op.value, entry_name=op.entry)
            case "clear":
                ctx.clear(op.name, op.entry)
            case "clear_all":
                ctx.clear_all(op.entry)
            case "state_keys":
                self.seen.append([op.number, await ctx.state_keys(op.entry)])
            case "resolve signal":
                ctx.resolve_signal(FOREIGN_INVOCATION, op.name, op.value)
            case "reject signal":
                ctx.reject_signal(FOREIGN_INVOCATION, op.name, "no", 418)
            case "cancel":
                ctx.cancel_invocation(FOREIGN_INVOCATION)
            case "cancel callee":
                if op.of[0] in self.futures:
                    await self.futures[op.of[0]].cancel_invocation()
            case "random":
                self.seen.append([op.number, ctx.random().random()])
            case "uuid":
                self.seen.append([op.number, str(ctx.uuid())])
            case "fail":
                raise self.sdk.TerminalError("the program fails", 418)
            case _:
                raise ValueError("the program crashes")
