"""What libraries attach to an attempt: there while it lives, closed when it ends."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from support.running import until_status

from nbdurable import Context, ContextMisuseError, InvocationRetryPolicy, Service, TerminalError
from nbdurable.extensions import (
    clear_extension_data,
    contextvar,
    current_context,
    get_extension_data,
    set_extension_data,
)
from nbdurable.wiring import DurableEngine

Opened = Callable[..., DurableEngine]
NOW = timedelta(0)


@contextvar
@asynccontextmanager
async def session(name: str = "default") -> AsyncIterator[str]:
    yield f"session {name}"


@contextvar
@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield None


async def test_the_value_of_a_context_manager_is_found_in_the_handler(opened: Opened):
    service = Service("S", invocation_context_managers=[session])

    def in_a_step() -> str:
        return session.value

    @service.handler(invocation_context_managers=[lambda: nothing()])  # noqa: PLW0108 - as people write it.
    async def handle(ctx: Context) -> list[Any]:
        return [session.value, await ctx.run_typed("step", in_a_step), nothing.value]

    @service.handler()
    def blocking(ctx: Context) -> str:
        return session.value

    async with opened(service) as engine:
        assert await engine.client.service_call(handle, None) == ["session default"] * 2 + [None]
        assert await engine.client.service_call(blocking, None) == "session default"


async def test_it_may_be_nested_and_says_when_it_was_not_entered():
    with pytest.raises(LookupError, match=r"session\.value is there only inside of session"):
        session.value  # noqa: B018 - asking is the point.
    async with session("outer"):
        async with session("inner"):
            assert session.value == "session inner"
        assert session.value == "session outer"


class Resource:
    """Notes that it was closed. Mutable."""

    def __init__(self, closed: list[str], name: str) -> None:
        self.closed = closed
        self.name = name

    def __close__(self) -> None:
        self.closed.append(self.name)


class AsyncResource(Resource):
    async def __close__(self) -> None:
        self.closed.append(self.name)


class Broken:
    def __close__(self) -> None:
        raise OSError("gone")


async def test_extension_data_lives_as_long_as_the_attempt(
    opened: Opened, caplog: pytest.LogCaptureFixture
):
    """Whatever its outcome: suspended, failed, retried."""
    policy = InvocationRetryPolicy(initial_interval=timedelta(milliseconds=1))
    service = Service("S", inactivity_timeout=NOW, invocation_retry_policy=policy)
    closed: list[str] = []
    attempts: list[int] = []

    @service.handler()
    async def handle(ctx: Context) -> Any:
        attempts.append(1)
        assert get_extension_data(ctx, "resource") is None
        set_extension_data(ctx, "resource", Resource(closed, f"{len(attempts)}"))
        set_extension_data(ctx, "async", AsyncResource(closed, f"{len(attempts)} async"))
        set_extension_data(ctx, "kept out", Resource(closed, "never"))
        clear_extension_data(ctx, "kept out")
        clear_extension_data(ctx, "never there")
        set_extension_data(ctx, "broken", Broken())
        set_extension_data(ctx, "plain", 7)
        assert get_extension_data(current_context(), "plain") == 7
        await ctx.awakeable()[1]
        if len(attempts) < 3:
            raise ValueError("again")
        raise TerminalError("the end")

    with caplog.at_level(logging.WARNING, "nbdurable"):
        async with opened(service) as engine:
            sent = await engine.client.service_send(handle, None)
            view = await until_status(engine, sent.invocation_id, "suspended")
            await engine.client.resolve_awakeable(view.open_awakeables[0])
            with pytest.raises(TerminalError, match="the end"):
                await engine.client.attach(sent.invocation_id)
    assert closed == ["1", "1 async", "2", "2 async", "3", "3 async"]
    assert "extension data 'broken' could not be closed" in caplog.text


def test_what_keeps_no_data_says_so():
    with pytest.raises(ContextMisuseError, match="object keeps no extension data"):
        set_extension_data(object(), "key", 1)  # type: ignore[arg-type] # The mistake itself.
