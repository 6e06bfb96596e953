"""A step as the official SDK runs it, with what steps of nbdurable have besides.

A time limit, `@durable.step` functions that call each other as plain functions, a lambda that
returns a coroutine, and errors that pass as the class which the official SDK records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from inspect import isawaitable
from typing import Any

from nbdurable.deploy.errors import theirs
from nbdurable.invoker.action import is_coroutine_function
from nbdurable.sdk.context import executing_step_var


def official_step(
    restate: Any, name: str, call: partial[Any], limit: timedelta | None
) -> Callable[[], Awaitable[Any]]:
    """`def` functions run in a thread, as they would over there."""

    async def run() -> Any:
        executing_step_var.set(name)  # Of the task that the official SDK runs each step in.
        try:
            return await _in_time(name, call, limit)
        except Exception as error:
            known = theirs(restate, error)
            if known is None:
                raise
            raise known from error

    return run


async def _in_time(name: str, call: partial[Any], limit: timedelta | None) -> Any:
    timer = asyncio.timeout(None if limit is None else limit.total_seconds())
    try:
        async with timer:
            if is_coroutine_function(call):
                return await call()
            value = await asyncio.to_thread(call)
            return await value if isawaitable(value) else value
    except TimeoutError:
        if not timer.expired():
            raise
        raise TimeoutError(f"the step {name!r} took longer than {limit}") from None
