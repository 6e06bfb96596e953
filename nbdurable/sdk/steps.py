"""`@durable.step`: a function whose calls inside handlers are steps."""

from __future__ import annotations

import functools
import inspect
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Optional, ParamSpec, TypeVar, overload

from nbdurable.errors import DefinitionError
from nbdurable.sdk.context import current_context, executing_step_var
from nbdurable.sdk.options import RunOptions

P = ParamSpec("P")
T = TypeVar("T")

# Enough to tell two calls apart; what they were called with is not what the journal is for.
ARGUMENTS_CHARS_MAX = 120

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 40


@dataclass
class StepOptions(RunOptions[T]):
    """`RunOptions`, and what only steps of nbdurable have."""

    timeout: Optional[timedelta] = None
    """Of one run; a run that takes longer has failed, and is tried again like any other."""
    arguments: Optional[str] = None
    """Shown in the journal beside the name. Replay does not compare it."""


@overload
def step(fn: Callable[P, T], /) -> Callable[P, T]: ...


@overload
def step(
    *,
    name: Optional[str] = None,
    retries: Optional[int] = None,
    timeout: Optional[timedelta] = None,
    options: Optional[RunOptions[Any]] = None,
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...


def step(
    fn: Optional[Callable[..., Any]] = None,
    /,
    *,
    name: Optional[str] = None,
    retries: Optional[int] = None,
    timeout: Optional[timedelta] = None,
    options: Optional[RunOptions[Any]] = None,
) -> Any:
    """Make every call of a function inside a handler a step of that handler.

    ```python
    @durable.step(retries=3, timeout=timedelta(seconds=10))
    def fetch(url: str) -> dict: ...

    @report.handler()
    async def build(ctx: Context, url: str) -> dict:
        return await fetch(url)  # In a `def` handler: return fetch(url)
    ```

    In an `async def` handler a step is awaited, whatever the function is; in a `def` handler a
    `def` function returns its value. Outside of handlers, and inside another step, the function is
    called as if nothing had been written above it. Steps are at-least-once, as `ctx.run_typed` is.

    Args:
        fn: `def` or `async def`.
        name: Of the step; None takes the function's.
        retries: How often a failing run is repeated, before the step fails with a `TerminalError`.
            None leaves it to the invocation's policy.
        timeout: Of one run. The thread of a `def` function is not stopped by it: its result is
            dropped, and the thread is busy until the function returns.
        options: Whatever else `RunOptions` has, such as a serde.

    Raises:
        DefinitionError: The function or an option cannot work.
    """
    if fn is None:
        return functools.partial(_decorated, name, _options(retries, timeout, options))
    return _decorated(name, _options(retries, timeout, options), fn)


def _decorated(
    name: Optional[str], options: StepOptions[Any], fn: Callable[..., Any]
) -> Callable[..., Any]:
    written: object = fn
    if not callable(written) or inspect.isclass(written):
        raise DefinitionError(f"{fn!r} cannot be a step; write @durable.step over a function")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise DefinitionError(
            f"{fn.__qualname__} yields, and a step has one result; return a list, or make each part"
            " a step of its own"
        )
    step_name = name or str(getattr(fn, "__name__", ""))
    if not step_name:
        raise DefinitionError("this step has no name; write: @durable.step(name='…')")
    is_async = inspect.iscoroutinefunction(fn)

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        context = current_context()
        if context is None or executing_step_var.get() is not None:
            return fn(*args, **kwargs)
        shown = replace(options, arguments=_shown(args, kwargs))
        future = context.run_typed(step_name, fn, shown, *args, **kwargs)
        if not is_async and getattr(context, "is_blocking", False):
            return future.result()
        return future

    return call


def _options(
    retries: Optional[int], timeout: Optional[timedelta], options: Optional[RunOptions[Any]]
) -> StepOptions[Any]:
    given = options or RunOptions()
    if retries is not None:
        if not is_count(retries):
            raise DefinitionError(f"retries is a count, not {retries!r}; write: retries=3")
        if given.max_attempts is not None:
            raise DefinitionError(
                "retries and RunOptions(max_attempts=…) say the same thing; keep one"
            )
    if timeout is not None and not isinstance(timeout, timedelta):
        raise DefinitionError(
            f"timeout is a timedelta, not {timeout!r}; write: timedelta(seconds={timeout!r})"
        )
    fields = {**vars(given), "timeout": timeout}
    if retries is not None:
        fields["max_attempts"] = retries + 1
    return StepOptions(**fields)


def is_count(value: object) -> bool:
    """Whether it is a whole number from 0 on, which True is not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _shown(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    try:
        parts = [_short.repr(arg) for arg in args]
        parts += [f"{name}={_short.repr(value)}" for name, value in kwargs.items()]
    except Exception:  # noqa: BLE001 - border: a repr is the user's code.
        return "(…)"
    text = ", ".join(parts).encode(errors="backslashreplace").decode()
    if len(text) > ARGUMENTS_CHARS_MAX:
        text = f"{text[:ARGUMENTS_CHARS_MAX]}…"
    return f"({text})"
