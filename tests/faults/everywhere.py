"""Kill -9 at each point of a run, one after the other.

    python everywhere.py FOLDER

Before and after each await of a handler, at each step of each commit, each absorb, an opening.
A process is forked for each point before anything is open in this one. It opens the journal, lets
the run of the process before it finish, and begins one of its own, of which it dies at that point.
Every line of `side.txt` is one write(2): what really ran, and what the handler was told.
"""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import nbdurable
from nbdurable import Service, TerminalError, VirtualObject, Workflow
from nbdurable.sdk import InvocationRetryPolicy
from nbdurable.store.duck import DuckStore
from nbdurable.wiring import DurableEngine

FOLDER = Path(sys.argv[1])
SOON = timedelta(milliseconds=1)
RESULT = {"made": 3, "both": [1, 2], "greeting": "hello", "heard": "yes", "undone": 1, "counted": 2}
# What happens when a journal is opened that a kill has left: its facts are absorbed, and it begins.
AT_OPENING = ("absorb", "absorb: committed to base", "absorbed", "commit", "committed")

flow, helper, counter = Workflow("Flow"), Service("Helper"), VirtualObject("Counter")


class Points:
    """Mutable: how often each was passed, and at which of them this process dies."""

    def __init__(self) -> None:
        self.side = os.open(FOLDER / "side.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.passed = Counter[str]()
        self.dies_at: tuple[str, int] | None = None
        self.is_counting = False

    def say(self, line: str) -> None:
        os.write(self.side, f"{line}\n".encode())

    def __call__(self, name: str) -> None:
        if not self.is_counting:
            return
        self.passed[name] += 1
        if (name, self.passed[name]) == self.dies_at:
            self.say(f"killed at {name}")
            os.kill(os.getpid(), signal.SIGKILL)


point = Points()


@helper.handler()
async def greet(ctx, _) -> str:
    return await ctx.run_typed("greet", lambda: "hello")


@counter.handler()
async def count(ctx, key: str) -> int:
    """Once for each run: what is sent is there once, whoever was killed."""
    seen = [*(await ctx.get("seen") or []), key]
    ctx.set("seen", seen)
    return len([one for one in seen if one == key])


@counter.handler(kind="shared")
async def seen(ctx, _) -> list[str]:
    return await ctx.get("seen") or []


@flow.main(invocation_retry_policy=InvocationRetryPolicy(initial_interval=SOON, max_interval=SOON))
async def run(ctx, _) -> dict:
    key = ctx.key()

    def really(name: str, value: object) -> object:
        point.say(f"X {key} {name}")
        return value

    async def told(name: str, waiting) -> object:
        point(f"before {name}")
        value = await waiting
        point.say(f"R {key} {name}")
        point(f"after {name}")
        return value

    made = await told("def step", ctx.run_typed("def step", lambda: really("def step", 3)))

    async def slowly(value: int) -> object:
        await asyncio.sleep(0.006)  # Longer than what shares its commit with its beginning.
        return really("gather", value)

    both = nbdurable.gather(
        ctx.run_typed("one", slowly, value=1), ctx.run_typed("two", slowly, value=2)
    )
    pair = [await future for future in await told("gather", both)]
    await told("sleep", ctx.sleep(SOON))
    greeting = await told("call", ctx.service_call(greet, None))
    ctx.object_send(count, "all", key)
    name, awakeable = ctx.awakeable(type_hint=str)
    ctx.resolve_awakeable(name, "yes")
    heard = await told("awakeable", awakeable)
    ctx.set("state", heard)
    ctx.set("large", "x" * 50_000)
    assert await told("state", ctx.get("state")) == "yes"
    undone = 0
    try:
        await told("failing step", ctx.run_typed("failing step", fail))
    except TerminalError:
        undone = await told("undo", ctx.run_typed("undo", lambda: really("undo", 1)))
    await told("promise", ctx.promise("go on").value())
    counted = len(await told("shared", ctx.object_call(seen, "all", None)))
    return {
        "made": made,
        "both": pair,
        "greeting": greeting,
        "heard": heard,
        "undone": undone,
        "counted": 2 if counted else 0,
    }


def fail() -> None:
    raise TerminalError("no", 418)


@flow.handler()
async def go_on(ctx, _) -> None:
    await ctx.promise("go on").resolve("now")


async def finish(client, key: str) -> None:
    """Begin it if it has not begun, and see it through."""
    await client.workflow_send(run, key, None)
    await client.workflow_send(go_on, key, None, idempotency_key=f"{key} goes on")
    result = await client.workflow_attach(run, key)
    point.say(f"result {key} {json.dumps(result == RESULT)}")


async def live(key: str, left: list[str], *, counts_opening: bool) -> None:
    """In a forked child: finish what those before it have left, then run one's own."""
    point.is_counting = counts_opening
    store = DuckStore(FOLDER / "journal", absorb_commits=9, checkpoint_bytes=20_000, probe=point)
    services = [flow, helper, counter]
    async with DurableEngine(FOLDER / "journal", services, store=store) as engine:
        for other in left:
            await finish(engine.client, other)
        point.is_counting = True
        await finish(engine.client, key)
        point.is_counting = False
        point.say(f"passed {json.dumps(point.passed)}")
        counted = await engine.client.object_call(seen, "all", None)
        point.say(f"seen {json.dumps(counted)}")


class Lives:
    """Mutable: the number of the last, and whose runs are not finished."""

    def __init__(self) -> None:
        self._number = 0
        self._left: list[str] = []

    def live(self, dies_at: tuple[str, int] | None, *, counts_opening: bool = False) -> bool:
        """Whether it was killed; else it never came to that point."""
        self._number += 1
        key = f"run-{self._number}"
        child = os.fork()
        if child == 0:
            point.dies_at = dies_at
            asyncio.run(live(key, self._left, counts_opening=counts_opening))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, -signal.SIGKILL), f"exit {code} at {dies_at}"
        self._left = [*self._left, key] if code else []
        return code != 0


def last_said(what: str) -> str:
    lines = (FOLDER / "side.txt").read_text().splitlines()
    return next(line for line in reversed(lines) if line.startswith(what)).removeprefix(what)


def kill_everywhere() -> None:
    lives = Lives()
    lives.live(None)
    for name, times in json.loads(last_said("passed ")).items():
        for occurrence in range(1, times + 1):
            lives.live((name, occurrence))
    for name in AT_OPENING:
        lives.live(("before promise", 1))
        assert lives.live((name, 1), counts_opening=True), name
    lives.live(None)


kill_everywhere()
