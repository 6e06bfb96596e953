"""Every field of `RunOptions` does what it says, and `retry_after` outranks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from support.running import HandClock, until, until_status

from nbdurable import (
    BytesSerde,
    Context,
    RetryableError,
    RunOptions,
    Service,
    TerminalError,
)
from nbdurable.client.views import EntryView, InvocationView
from nbdurable.wiring import DurableEngine

Opened = Callable[..., DurableEngine]
SECOND = timedelta(seconds=1)
SOON = timedelta(milliseconds=1)


class Order(msgspec.Struct):
    total: int


class Failing:
    """A step that fails until it was tried often enough. Mutable: `tries`."""

    def __init__(self, failures: int, error: Exception | None = None, took: Any = None) -> None:
        self.failures = failures
        self.error = error or ValueError("no")
        self.tries = 0
        self.took = took

    def __call__(self) -> int:
        self.tries += 1
        if self.took is not None:
            self.took()
        if self.tries <= self.failures:
            raise self.error
        return self.tries


def stepping(step: Callable[..., Any], options: RunOptions[Any]) -> tuple[Service, Any]:
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> Any:
        return await ctx.run_typed("step", step, options)

    return service, handle


def waits_to(at_ms: int) -> Callable[[InvocationView, tuple[EntryView, ...]], bool]:
    return lambda _, entries: any(entry.next_retry_at_ms == at_ms for entry in entries)


async def delays_ms(opened: Opened, options: RunOptions[Any], count: int) -> list[int]:
    """How long each of the first waits is, by the engine's clock, which stands still."""
    step, clock, seen = Failing(99), HandClock(), {}

    def look(_: Any, entries: tuple[EntryView, ...]) -> bool:
        """After every commit, so that no wait is missed by a test that is slower than it."""
        last = entries[-1]
        if last.next_retry_at_ms is not None:
            seen[last.failure_count] = last.next_retry_at_ms - clock.now_ms()
        return len(seen) >= count

    service, handle = stepping(step, options)
    async with opened(service, clock=clock) as engine:
        sent = await engine.client.service_send(handle, None)
        await until(engine, sent.invocation_id, look)
    return [seen[n] for n in range(1, count + 1)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (RunOptions(max_attempts=9), [50, 100]),
        (RunOptions(initial_retry_interval=2 * SOON), [2, 4, 8]),
        (RunOptions(initial_retry_interval=4 * SOON, retry_interval_factor=3.0), [4, 12, 36]),
        (RunOptions(initial_retry_interval=4 * SOON, max_retry_interval=9 * SOON), [4, 8, 9, 9]),
        (RunOptions(retry_interval_factor=1.0, initial_retry_interval=3 * SOON), [3, 3, 3]),
        (RunOptions(initial_retry_interval=timedelta(hours=1)), [10_000]),
    ],
)
async def test_waits_grow_as_the_options_say(
    opened: Opened, options: RunOptions[Any], expected: list[int]
):
    """50 ms, doubled, at most 10 s, where nothing is said."""
    assert await delays_ms(opened, options, len(expected)) == expected


@pytest.mark.parametrize(("max_attempts", "tries"), [(0, 1), (1, 1), (3, 3)])
async def test_attempts_are_counted_with_the_first(opened: Opened, max_attempts: int, tries: int):
    step = Failing(10)
    options = RunOptions(max_attempts=max_attempts, initial_retry_interval=SOON)
    service, handle = stepping(step, options)
    async with opened(service) as engine:
        with pytest.raises(TerminalError, match=r"ValueError\('no'\)") as raised:
            await engine.client.service_call(handle, None)
    assert (step.tries, raised.value.status_code) == (tries, 500)


@pytest.mark.parametrize("field", ["max_duration", "max_retry_duration"])
async def test_no_run_begins_after_the_duration(opened: Opened, field: str):
    clock = HandClock()
    step = Failing(10, took=lambda: clock.pass_by(6_000))
    options = RunOptions(**{field: 10 * SECOND}, initial_retry_interval=SOON)
    service, handle = stepping(step, options)
    async with opened(service, clock=clock) as engine:
        with pytest.raises(TerminalError):
            await engine.client.service_call(handle, None)
    assert step.tries == 3


@pytest.mark.parametrize("field", ["max_duration", "max_retry_duration"])
async def test_no_duration_at_all_is_one_run(opened: Opened, field: str):
    """Zero is a bound, not an absent one."""
    step = Failing(10)
    service, handle = stepping(step, RunOptions(**{field: timedelta(0)}))
    async with opened(service) as engine:
        with pytest.raises(TerminalError):
            await engine.client.service_call(handle, None)
    assert step.tries == 1


async def test_a_first_run_that_takes_longer_than_all_may_is_the_last(opened: Opened):
    clock = HandClock()
    step = Failing(10, took=lambda: clock.pass_by(3_600_000))
    service, handle = stepping(step, RunOptions(max_duration=timedelta(minutes=1)))
    async with opened(service, clock=clock) as engine:
        with pytest.raises(TerminalError):
            await engine.client.service_call(handle, None)
    assert step.tries == 1


async def test_serde_and_type_hint_shape_the_result(opened: Opened):
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> list[Any]:
        raw = await ctx.run_typed("raw", lambda: b"\x00\xff", RunOptions(serde=BytesSerde()))
        typed = await ctx.run_typed("typed", lambda: {"total": 3}, RunOptions(type_hint=Order))
        by_old_name = await ctx.run("old", lambda n: n, type_hint=int, args=(7,))
        return [list(raw), type(typed).__name__, by_old_name]

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == [[0, 255], "Order", 7]


def test_no_field_is_forgotten_here() -> None:
    """A field that came with a later SDK would be accepted and ignored."""
    assert {field.name for field in fields(RunOptions)} == {
        "serde",
        "type_hint",
        "max_attempts",
        "max_duration",
        "initial_retry_interval",
        "max_retry_interval",
        "retry_interval_factor",
        "max_retry_duration",
    }


@pytest.mark.parametrize("options", [RunOptions(), RunOptions(max_attempts=3)])
async def test_retry_after_in_a_step_outranks_the_policy(opened: Opened, options: RunOptions[Any]):
    """The other side has said when it will answer again."""
    clock = HandClock()
    step = Failing(1, RetryableError("busy", retry_after=timedelta(hours=3)))
    service, handle = stepping(step, options)
    async with opened(service, clock=clock) as engine:
        sent = await engine.client.service_send(handle, None)
        await until(engine, sent.invocation_id, waits_to(clock.now_ms() + 3 * 3_600_000))


async def test_retry_after_of_a_cause_is_heard(opened: Opened):
    """Wrapping an error for the log must not lose when to try again; nor must it in a handler."""
    service, clock = Service("S"), HandClock()

    def fetch() -> None:
        raise RetryableError("busy", retry_after=timedelta(hours=3))

    @service.handler()
    async def handle(ctx: Context) -> None:
        try:
            fetch()
        except RetryableError as error:
            raise ValueError("while fetching") from error

    async with opened(service, clock=clock) as engine:
        sent = await engine.client.service_send(handle, None)
        view = await until_status(engine, sent.invocation_id, "backing-off")
    assert view.next_retry_at_ms == clock.now_ms() + 3 * 3_600_000


async def test_retry_after_does_not_outlive_the_attempts(opened: Opened):
    step = Failing(5, RetryableError("busy", 503, retry_after=SOON))
    service, handle = stepping(step, RunOptions(max_attempts=2))
    async with opened(service) as engine:
        with pytest.raises(TerminalError, match="busy"):
            await engine.client.service_call(handle, None)
    assert step.tries == 2


@pytest.mark.parametrize("how", ["step", "call", "send and attach", "call of a def handler"])
async def test_metadata_of_a_terminal_error_survives_every_way_it_takes(opened: Opened, how: str):
    """It is where people keep the reason a machine can read."""
    service = Service("S")

    def refuse() -> None:
        raise TerminalError("declined", 402, {"reason": "funds"})

    @service.handler()
    async def failing(ctx: Context) -> None:
        refuse()

    @service.handler()
    async def handle(ctx: Context) -> None:
        match how:
            case "step":
                await ctx.run_typed("refuse", refuse)
            case "call":
                await ctx.service_call(failing, None)
            case _:
                sent = ctx.service_send(failing, None)
                await ctx.attach_invocation(await sent.invocation_id())

    @service.handler()
    def blocking(ctx: Context) -> None:
        ctx.service_call(failing, None).result()

    outer = blocking if how.endswith("def handler") else handle
    async with opened(service) as engine:
        with pytest.raises(TerminalError) as raised:
            await engine.client.service_call(outer, None)
    said = raised.value
    assert (said.message, said.status_code, said.metadata) == ("declined", 402, {"reason": "funds"})
