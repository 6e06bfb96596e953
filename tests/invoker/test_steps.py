"""`@durable.step`: written once, a step in every handler and a plain function elsewhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from support.running import until_status

from nbdurable import (
    BytesSerde,
    Context,
    DefinitionError,
    InvocationRetryPolicy,
    RunOptions,
    Service,
    TerminalError,
    durable,
)
from nbdurable.wiring import DurableEngine

Opened = Callable[..., DurableEngine]
NOW = timedelta(0)
SOON = timedelta(milliseconds=1)
FAST = RunOptions(initial_retry_interval=SOON)
AT_ONCE = InvocationRetryPolicy(initial_interval=SOON, max_interval=SOON)

calls: list[Any] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    calls.clear()


@durable.step
def double(n: int) -> int:
    """Twice as much."""
    calls.append(("double", n))
    return 2 * n


@durable.step(name="fetch page")
async def fetch(url: str, *, retries: int = 0) -> str:
    calls.append(("fetch", url))
    return f"<{url}>"


@durable.step
def quadruple(n: int) -> int:
    return double(double(n))


def serving(*handlers: Callable[..., Any], **settings: Any) -> tuple[Service, dict[str, Any]]:
    service = Service("S", **settings)
    for handler in handlers:
        service.handler()(handler)
    return service, {name: handler.fn for name, handler in service.handlers.items()}


async def test_outside_of_handlers_it_is_the_function_itself():
    """It can be tried in a cell and tested without an engine."""
    assert double(3) == 6
    assert await fetch("a") == "<a>"
    assert (double.__name__, double.__doc__) == ("double", "Twice as much.")


async def test_inside_an_async_handler_each_call_is_a_step(opened: Opened):
    async def handle(ctx: Context) -> list[Any]:
        return [await double(1), await double(2), await fetch("a", retries=1)]

    service, served = serving(handle, inactivity_timeout=NOW)
    async with opened(service) as engine:
        sent = await engine.client.service_send(served["handle"], None)
        assert await engine.client.attach(sent.invocation_id) == [2, 4, "<a>"]
        entries = await engine.client.journal(sent.invocation_id)
    steps = [(entry.name, entry.arguments) for entry in entries if entry.kind == "Run"]
    assert steps == [("double", "(1)"), ("double", "(2)"), ("fetch page", "('a', retries=1)")]
    assert calls == [("double", 1), ("double", 2), ("fetch", "a")]


async def test_inside_a_def_handler_a_def_step_returns_its_value(opened: Opened):
    """The handler reads as a script does, and survives as a handler does."""
    threads: list[str] = []

    @durable.step
    def where() -> str:
        threads.append(threading.current_thread().name)
        return "here"

    def handle(ctx: Context) -> list[Any]:
        return [double(3) + 1, where(), fetch("a").result(), durable.wait(fetch("b"))]

    service, served = serving(handle)
    async with opened(service) as engine:
        assert await engine.client.service_call(served["handle"], None) == [7, "here", "<a>", "<b>"]
    assert threads[0].startswith("nbdurable-step")


async def test_a_finished_step_is_not_run_again(opened: Opened):
    attempts: list[int] = []

    async def handle(ctx: Context) -> int:
        attempts.append(1)
        found = await double(21)
        if len(attempts) < 3:
            raise ValueError("again")
        return found

    service, served = serving(handle, invocation_retry_policy=AT_ONCE)
    async with opened(service) as engine:
        assert await engine.client.service_call(served["handle"], None) == 42
    assert calls == [("double", 21)]


async def test_a_step_inside_a_step_is_part_of_it(opened: Opened):
    """Only the outer one is recorded, so only the outer one can be."""

    async def handle(ctx: Context) -> int:
        return await quadruple(1)

    service, served = serving(handle)
    async with opened(service) as engine:
        sent = await engine.client.service_send(served["handle"], None)
        assert await engine.client.attach(sent.invocation_id) == 4
        kinds = [entry.kind for entry in await engine.client.journal(sent.invocation_id)]
    assert kinds == ["Input", "Run", "Output"]


@pytest.mark.parametrize(("retries", "runs"), [(0, 1), (3, 4)])
async def test_retries_are_the_runs_after_the_first(opened: Opened, retries: int, runs: int):
    @durable.step(retries=retries, options=FAST)
    def flaky() -> None:
        calls.append("run")
        raise ValueError("no")

    async def handle(ctx: Context) -> None:
        await flaky()

    service, served = serving(handle)
    async with opened(service) as engine:
        with pytest.raises(TerminalError, match=r"ValueError\('no'\)"):
            await engine.client.service_call(served["handle"], None)
    assert calls == ["run"] * runs


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_run_that_takes_too_long_has_failed(opened: Opened, kind: str):
    """Of the tries after the first one, which never ends, one is quick enough."""
    let_go, soon_enough = threading.Event(), timedelta(milliseconds=200)

    @durable.step(timeout=soon_enough, retries=100, options=FAST)
    def slow() -> str:
        calls.append("run")
        if len(calls) == 1:
            let_go.wait()
        return "in time"

    @durable.step(timeout=soon_enough, retries=100, options=FAST)
    async def slow_async() -> str:
        calls.append("run")
        if len(calls) == 1:
            await asyncio.Event().wait()
        return "in time"

    async def handle(ctx: Context) -> str:
        return await (slow() if kind == "def" else slow_async())

    service, served = serving(handle)
    try:
        async with opened(service) as engine:
            assert await engine.client.service_call(served["handle"], None) == "in time"
    finally:
        let_go.set()
    assert len(calls) >= 2


async def test_the_last_timeout_names_the_step_and_the_time(opened: Opened):
    @durable.step(timeout=SOON, retries=0)
    async def slow() -> None:
        await asyncio.sleep(10)

    async def handle(ctx: Context) -> None:
        await slow()

    service, served = serving(handle)
    async with opened(service) as engine:
        with pytest.raises(TerminalError, match=r"the step 'slow' took longer than 0:00:00\.001"):
            await engine.client.service_call(served["handle"], None)


async def test_a_timeout_of_the_steps_own_is_its_own(opened: Opened):
    @durable.step(timeout=timedelta(minutes=1), retries=0)
    async def own() -> None:
        raise TimeoutError("the other side did not answer")

    async def handle(ctx: Context) -> None:
        await own()

    service, served = serving(handle)
    async with opened(service) as engine:
        with pytest.raises(TerminalError, match="the other side did not answer"):
            await engine.client.service_call(served["handle"], None)


async def test_options_are_those_of_any_step(opened: Opened):
    @durable.step(options=RunOptions(serde=BytesSerde()))
    def raw() -> bytes:
        return b"\x00\xff"

    async def handle(ctx: Context) -> list[int]:
        return list(await raw())

    service, served = serving(handle)
    async with opened(service) as engine:
        assert await engine.client.service_call(served["handle"], None) == [0, 255]


class Secretive:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


async def test_arguments_are_shown_short_and_never_compared(opened: Opened):
    """An object's repr holds an address, which is another one in every replay."""

    @durable.step
    def take(*args: Any) -> int:
        return len(args)

    async def handle(ctx: Context) -> list[int]:
        plain = await take("x" * 500, object(), 3, list(range(500)))
        odd = await take(Secretive())
        await ctx.sleep(SOON)
        return [plain, odd, await take("\ud800")]

    service, served = serving(handle, inactivity_timeout=NOW)
    async with opened(service) as engine:
        sent = await engine.client.service_send(served["handle"], None)
        assert await engine.client.attach(sent.invocation_id) == [4, 1, 1]
        entries = await engine.client.journal(sent.invocation_id)
        assert (await engine.client.invocation(sent.invocation_id)).attempt > 1
    shown = [entry.arguments or "" for entry in entries if entry.kind == "Run"]
    assert len(shown[0]) < 130
    assert shown[1].startswith("(<Secretive instance at 0x")
    assert shown[2] == r"('\ud800')"


async def test_a_forgotten_await_is_said(opened: Opened, caplog: pytest.LogCaptureFixture):
    async def handle(ctx: Context) -> None:
        double(1)

    service, served = serving(handle)
    async with opened(service) as engine:
        await engine.client.service_call(served["handle"], None)
    assert "the step 'double' was never awaited" in caplog.text
    assert calls == []


async def test_a_value_that_was_not_awaited_is_no_result(opened: Opened):
    async def handle(ctx: Context) -> Any:
        return [double(1)]

    service, served = serving(handle)
    async with opened(service) as engine:
        sent = await engine.client.service_send(served["handle"], None)
        view = await until_status(engine, sent.invocation_id, "paused")
    assert "it has to be awaited. Write `await` before it" in str(view.failure)


@pytest.mark.parametrize(
    ("decorate", "says"),
    [
        (lambda: durable.step(retries=-1), "retries is a count, not -1; write: retries=3"),
        (lambda: durable.step(retries=True), "retries is a count"),
        (lambda: durable.step(timeout=5), "write: timedelta(seconds=5)"),
        (lambda: durable.step(retries=1, options=RunOptions(max_attempts=2)), "keep one"),
        (lambda: durable.step(7), "write @durable.step over a function"),
        (lambda: durable.step(Secretive), "write @durable.step over a function"),
        (lambda: durable.step(numbers), "yields, and a step has one result"),
    ],
)
def test_what_cannot_work_is_said_where_it_is_written(decorate: Callable[[], Any], says: str):
    with pytest.raises(DefinitionError) as raised:
        decorate()
    assert says in str(raised.value)


def numbers():
    yield 1


def test_outside_of_handlers_there_is_no_context() -> None:
    """`durable.current_context()` is how one's own decorators tell."""
    assert durable.current_context() is None
