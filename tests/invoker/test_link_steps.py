"""Steps and their failures, whatever link runs the handler."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from support.running import AT_ONCE, NEVER_AGAIN, SOON, HandClock, until_status

from nbdurable import (
    Context,
    RetryableError,
    RunOptions,
    Service,
    TerminalError,
    gather,
)
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine

Opened = Callable[..., DurableEngine]


async def test_steps_may_be_async_or_not_and_run_once(opened: Opened):
    greeter, ran = Service("Greeter"), []

    async def hello(name: str) -> str:
        ran.append("hello")
        return f"hello {name}"

    def shout(text: str) -> str:
        ran.append(threading.current_thread().name)
        return text.upper()

    @greeter.handler()
    async def greet(ctx: Context, name: str) -> str:
        text = await ctx.run_typed("hello", hello, name=name)
        again = await ctx.run_typed("shout", shout, RunOptions(), text)
        return await ctx.run_typed("lambda", lambda: again + "!")

    async with opened(greeter) as engine:
        assert await engine.client.service_call(greet, "ada") == "HELLO ADA!"
    assert ran[0] == "hello"
    assert ran[1].startswith("nbdurable-step")


async def test_a_step_that_is_not_awaited_is_not_executed(opened: Opened):
    service, ran = Service("S"), []

    @service.handler()
    async def handle(ctx: Context) -> None:
        ctx.run_typed("never", ran.append, RunOptions(), 1)
        await ctx.run_typed("once", ran.append, RunOptions(), 2)

    async with opened(service) as engine:
        await engine.client.service_call(handle, None)
    assert ran == [2]


async def test_steps_awaited_together_run_together(opened: Opened):
    service = Service("S")
    meeting = threading.Barrier(2, timeout=5)

    @service.handler()
    async def handle(ctx: Context) -> list[int]:
        both = [ctx.run_typed(f"step {n}", lambda n=n: meeting.wait() * 0 + n) for n in (1, 2)]
        return [await future for future in await gather(*both)]

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == [1, 2]


async def test_a_failing_step_is_retried_by_its_own_policy_in_the_same_attempt(opened: Opened):
    service, attempts, tries = Service("S"), [], []

    def flaky() -> int:
        tries.append(attempts[-1])
        if len(tries) < 3:
            raise ValueError(f"try {len(tries)}")
        return len(tries)

    @service.handler()
    async def handle(ctx: Context) -> int:
        attempts.append(len(attempts) + 1)
        return await ctx.run_typed("flaky", flaky, RunOptions(initial_retry_interval=SOON))

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == 3
    assert tries == [1, 1, 1]


async def test_a_step_out_of_attempts_is_a_terminal_error_one_can_catch(opened: Opened):
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> str:
        try:
            await ctx.run_typed("bad", lambda: 1 / 0, RunOptions(max_attempts=1))
        except TerminalError as error:
            return f"{error.status_code} {error.message}"
        return "no error"

    async with opened(service) as engine:
        said = await engine.client.service_call(handle, None)
    assert said == "500 ZeroDivisionError('division by zero')"


async def test_without_a_policy_a_failing_step_fails_the_attempt(opened: Opened):
    service, attempts, tries = Service("S", invocation_retry_policy=AT_ONCE), [], []

    def flaky() -> str:
        tries.append(attempts[-1])
        if len(tries) < 3:
            raise ValueError("not yet")
        return "done"

    @service.handler()
    async def handle(ctx: Context) -> str:
        attempts.append(len(attempts) + 1)
        await ctx.run_typed("before", lambda: None)
        return await ctx.run_typed("flaky", flaky)

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == "done"
    assert len(tries) == 3
    assert tries == list(range(tries[0], tries[0] + 3))


async def test_a_finished_step_is_not_run_again_by_a_retry(opened: Opened):
    service, ran, attempts = Service("S", invocation_retry_policy=AT_ONCE), [], []

    @service.handler()
    async def handle(ctx: Context) -> list[int]:
        attempts.append(1)
        first = await ctx.run_typed("count", lambda: ran.append(1) or len(ran))
        if len(attempts) < 3:
            raise ValueError("again")
        return [first, len(attempts)]

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == [1, 3]
    assert ran == [1]


@pytest.mark.parametrize("where", ["in the handler", "in a step", "as a cause"])
async def test_a_terminal_error_ends_the_invocation_and_reaches_the_caller(
    opened: Opened, where: str
):
    service = Service("S")

    def refuse() -> None:
        raise TerminalError("no tea", 418, {"pot": "brown"})

    @service.handler()
    async def handle(ctx: Context) -> None:
        match where:
            case "in a step":
                await ctx.run_typed("refuse", refuse)
            case "as a cause":
                try:
                    refuse()
                except TerminalError as error:
                    raise ValueError("wrapped") from error
            case _:
                refuse()

    @service.handler()
    async def caller(ctx: Context) -> list[Any]:
        try:
            await ctx.service_call(handle, None)
        except TerminalError as error:
            return [error.status_code, error.message, error.metadata]
        return []

    async with opened(service) as engine:
        with pytest.raises(TerminalError, match="no tea") as raised:
            await engine.client.service_call(handle, None)
        assert raised.value.status_code == 418
        said = await engine.client.service_call(caller, None)
        assert said == [418, "no tea", {"pot": "brown"}]


@pytest.mark.parametrize(
    "error",
    [
        TerminalError(ValueError("not a text")),  # type: ignore[arg-type]
        TerminalError("half \ud800"),
        TerminalError("x", "418"),  # type: ignore[arg-type]
        TerminalError("x", metadata={"n": 1}),  # type: ignore[dict-item]
    ],
)
async def test_what_people_put_into_a_terminal_error_never_harms_the_journal(
    opened: Opened, error: TerminalError
):
    """A message that is no text, or no UTF-8, once stopped the engine at its commit."""
    service, store = Service("S"), MemoryStore()

    @service.handler()
    async def handle(ctx: Context) -> None:
        raise error

    async with opened(service, store=store) as engine:
        with pytest.raises(TerminalError):
            await engine.client.service_call(handle, None)
    async with opened(service, store=store) as engine:
        assert [view.is_done for view in await engine.client.invocations()] == [True]


async def test_an_error_with_an_odd_status_code_or_repr_never_harms_the_journal(opened: Opened):
    service, store = Service("S", invocation_retry_policy=NEVER_AGAIN), MemoryStore()

    class Odd(Exception):
        status_code = "E42"

        def __repr__(self) -> str:
            raise RuntimeError("no repr either")

    @service.handler()
    async def handle(ctx: Context) -> None:
        raise Odd

    async with opened(service, store=store) as engine:
        sent = await engine.client.service_send(handle, None)
        view = await until_status(engine, sent.invocation_id, "paused")
        assert "repr cannot be made" in str(view.failure)
    async with opened(service, store=store) as engine:
        assert len(await engine.client.invocations()) == 1


async def test_a_retryable_error_says_when(opened: Opened):
    service, clock, attempts = Service("S"), HandClock(), []

    @service.handler()
    async def handle(ctx: Context) -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise RetryableError("busy", retry_after=timedelta(hours=3))
        return "done"

    async with opened(service, clock=clock) as engine:
        sent = await engine.client.service_send(handle, None)
        view = await until_status(engine, sent.invocation_id, "backing-off")
        assert view.next_retry_at_ms == clock.now_ms() + 3 * 3_600_000
        await clock.turn(engine, 3 * 3_600_000)
        assert await engine.client.attach(sent.invocation_id) == "done"


async def test_a_value_without_bytes_names_its_step_and_pauses(opened: Opened):
    """Retrying cannot heal it, so nobody waits for seventy attempts."""
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> None:
        await ctx.run_typed("fetch", lambda: {"rows": [1, {2}]})

    async with opened(service) as engine:
        sent = await engine.client.service_send(handle, None)
        view = await until_status(engine, sent.invocation_id, "paused")
        assert view.attempt == 1
        assert "step 'fetch'" in str(view.failure)
        assert '["rows"][1]' in str(view.failure)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_step_that_exits_fails_like_any_other(opened: Opened, kind: str):
    """`sys.exit()` in a step once ended the thread that all handlers run on."""
    service, tries = Service("S", invocation_retry_policy=AT_ONCE), []

    def leave() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise SystemExit(3)
        return "stayed"

    async def leave_async() -> str:
        return leave()

    @service.handler()
    async def handle(ctx: Context) -> str:
        return await ctx.run_typed("leave", leave if kind == "sync" else leave_async)

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == "stayed"


async def test_a_handler_that_exits_fails_like_any_other(opened: Opened):
    service, tries = Service("S", invocation_retry_policy=AT_ONCE), []

    @service.handler()
    async def handle(ctx: Context) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise SystemExit(3)
        return "stayed"

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == "stayed"


class Odd(BaseException):
    """As `pytest.fail()` raises: no Exception, so that nobody swallows it by accident."""


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("odd", [Odd, StopIteration, StopAsyncIteration, GeneratorExit])
@pytest.mark.parametrize("where", ["step", "handler"])
async def test_whatever_is_raised_is_a_failure(
    opened: Opened, kind: str, odd: type[BaseException], where: str
):
    """Such a run once stayed `running` for ever, and nothing said why."""
    service, tries = Service("S", invocation_retry_policy=AT_ONCE), []

    def work() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise odd("no")
        return "done"

    async def work_async() -> str:
        return work()

    async def handle_async(ctx: Context) -> str:
        if where == "handler":
            return work()
        return await ctx.run_typed("work", work if kind == "sync" else work_async)

    def handle_sync(ctx: Context) -> str:
        return work()

    is_sync = where == "handler" and kind == "sync"
    handle = service.handler("handle")(handle_sync if is_sync else handle_async)
    async with opened(service) as engine:
        sent = await engine.client.service_send(handle, None)
        assert await engine.client.attach(sent.invocation_id) == "done"
        view = await engine.client.invocation(sent.invocation_id)
        assert (len(tries), view.attempt >= 2) == (2, True)


async def test_a_step_in_which_something_was_cancelled_fails_like_any_other(opened: Opened):
    """Its handler once waited for it for ever."""
    service, tries = Service("S", invocation_retry_policy=AT_ONCE), []

    async def awkward() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise asyncio.CancelledError
        return "done"

    @service.handler()
    async def handle(ctx: Context) -> str:
        return await ctx.run_typed("awkward", awkward)

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == "done"
