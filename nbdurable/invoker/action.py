"""What a step does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, NamedTuple

from nbdurable.core.values import RetryPolicy
from nbdurable.invoker.wire import Written


class Action(NamedTuple):
    """And how its result becomes bytes. `retry` None: the invocation's policy."""

    name: str
    call: Callable[[], Any]
    is_async: bool
    write: Callable[[Any], Written]
    retry: RetryPolicy | None
    timeout: timedelta | None = None


def is_coroutine_function(call: Callable[..., Any]) -> bool:
    inner = call.func if isinstance(call, partial) else call
    return iscoroutinefunction(inner) or iscoroutinefunction(getattr(inner, "__call__", None))  # noqa: B004 - an object whose call is async.
