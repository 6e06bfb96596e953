"""A log tells what happened once, however often the code was replayed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from support.running import until_status

import nbdurable
from nbdurable import (
    Context,
    InvocationRetryPolicy,
    ObjectContext,
    RestateLoggingFilter,
    Service,
    VirtualObject,
)
from nbdurable.wiring import DurableEngine

Opened = Callable[..., DurableEngine]
NOW = timedelta(0)
AT_ONCE = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=1), max_interval=timedelta(milliseconds=1)
)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the logger `story` lets through."""
    lines: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, keeping = nbdurable.getLogger("story"), Keeping()
    logger.addHandler(keeping)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(keeping)


story = logging.getLogger("story")


async def test_what_was_logged_before_a_suspension_is_not_logged_again(
    opened: Opened, said: list[str]
):
    service = Service("S", inactivity_timeout=NOW)

    def step() -> int:
        story.info("in the step")
        return 1

    @service.handler()
    async def handle(ctx: Context) -> None:
        story.info("begins")
        future = ctx.run_typed("step", step)
        story.info("has asked")
        await future
        story.info("has the step")
        await ctx.awakeable()[1]
        story.info("is awake")

    async with opened(service) as engine:
        sent = await engine.client.service_send(handle, None)
        view = await until_status(engine, sent.invocation_id, "suspended")
        await engine.client.resolve_awakeable(view.open_awakeables[0])
        await engine.client.attach(sent.invocation_id)
        assert (await engine.client.invocation(sent.invocation_id)).attempt > 1
    assert said == ["begins", "has asked", "in the step", "has the step", "is awake"]


async def test_def_handlers_are_muted_too(opened: Opened, said: list[str]):
    service = Service("S", inactivity_timeout=NOW)

    @service.handler()
    def handle(ctx: Context) -> None:
        story.info("begins")
        ctx.awakeable()[1].result()
        story.info("is awake")

    async with opened(service) as engine:
        sent = await engine.client.service_send(handle, None)
        view = await until_status(engine, sent.invocation_id, "suspended")
        await engine.client.resolve_awakeable(view.open_awakeables[0])
        await engine.client.attach(sent.invocation_id)
    assert said == ["begins", "is awake"]


async def test_a_handler_that_only_reads_and_writes_state_is_heard_again_behind_its_journal(
    opened: Opened, said: list[str]
):
    obj, tries = VirtualObject("O", invocation_retry_policy=AT_ONCE), []

    @obj.handler()
    async def handle(ctx: ObjectContext) -> None:
        ctx.set("a", await ctx.get("a") or 1)
        story.info("has a")
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("once")
        ctx.set("b", 2)
        story.info("has b")

    async with opened(obj) as engine:
        await engine.client.object_call(handle, "k", None)
    assert said == ["has a", "has b"]


async def test_what_comes_after_the_journals_end_is_logged_in_every_attempt(
    opened: Opened, said: list[str]
):
    """Nothing tells that it was logged before, and a line too many beats a line too few."""
    service, came_so_far = Service("S", invocation_retry_policy=AT_ONCE), []

    @service.handler()
    async def handle(ctx: Context) -> None:
        await ctx.run_typed("step", lambda: 1)
        came_so_far.append(1)
        story.info("attempt %s", len(came_so_far))
        if len(came_so_far) < 3:
            raise ValueError("again")

    async with opened(service) as engine:
        await engine.client.service_call(handle, None)
    assert said == ["attempt 1", "attempt 2", "attempt 3"]


async def test_a_notification_that_nobody_has_taken_yet_mutes_nothing(
    opened: Opened, said: list[str]
):
    """Live, results come before they are awaited all the time."""
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> None:
        ids = [ctx.awakeable() for _ in range(2)]
        for awakeable_id, _ in ids:
            ctx.resolve_awakeable(awakeable_id, 1)
        await ids[1][1]
        story.info("one")
        await ids[0][1]
        story.info("two")

    async with opened(service) as engine:
        await engine.client.service_call(handle, None)
    assert said == ["one", "two"]


def test_outside_of_handlers_nothing_is_muted(said: list[str]):
    story.info("at home")
    assert said == ["at home"]


def test_a_logger_is_filtered_once():
    """Modules ask for their logger again and again."""
    logger = nbdurable.getLogger("asked.twice")
    assert nbdurable.getLogger("asked.twice") is logger is logging.getLogger("asked.twice")
    assert [type(there) for there in logger.filters] == [RestateLoggingFilter]


def test_the_filter_still_filters_by_name():
    record = logging.LogRecord("other", logging.INFO, __file__, 1, "text", None, None)
    assert not RestateLoggingFilter("story").filter(record)
    assert RestateLoggingFilter().filter(record)


def test_the_module_has_the_official_name():
    """`import restate; restate.logging.getLogger` becomes this."""
    assert nbdurable.logging.getLogger is nbdurable.getLogger
