"""ctx used where it can record nothing: each mistake is found at the call, and said.

What is not found here would be a journal that replay cannot repeat, or a wait without end.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Coroutine
from typing import Protocol

from nbdurable.errors import ArgumentError, ContextMisuseError
from nbdurable.invoker.thread import HandlerThread
from nbdurable.sdk.blocking import discard
from nbdurable.sdk.context import current_context_var, executing_step_var
from nbdurable.sdk.options import RunOptions

# Enough to recognise a value by.
SHOWN_CHARS_MAX = 80


class Used(Protocol):
    """What is asked of the attempt that a ctx belongs to."""

    loop_thread_id: int
    thread: HandlerThread | None
    has_returned: bool

    @property
    def label(self) -> str: ...


def check_use(attempt: Used) -> None:
    """Let a handler's own code pass.

    Raises:
        ContextMisuseError: It is somebody else's, or comes too late.
    """
    step = executing_step_var.get()
    if step is not None:
        raise ContextMisuseError(
            f"ctx is used inside the step {step!r}; replay takes a step's result from the journal"
            " and does not run it, so what it asks of ctx would be missing. Use ctx before or after"
            " the step, and pass the step what it needs as arguments"
        )
    if attempt.has_returned:
        raise ContextMisuseError(
            f"this ctx belongs to {attempt.label}, which has ended: nothing can be added to its"
            " journal. Await what a handler has begun before it returns, and keep neither its ctx"
            " nor its futures"
        )
    current = getattr(current_context_var.get(), "attempt", attempt)
    if current is not attempt:
        raise ContextMisuseError(
            f"this ctx belongs to {attempt.label}, and the code that uses it to {current.label};"
            " use the ctx that the handler was given, and pass values between invocations by calls,"
            " promises or state"
        )
    if threading.get_ident() != attempt.loop_thread_id and not on_own_thread(attempt):
        raise ContextMisuseError(
            f"the ctx of {attempt.label} is used in another thread than its handler's, where the"
            " order of its calls is not repeatable; call blocking functions as steps"
            " (ctx.run_typed('name', function)) and use ctx in the handler only"
        )


def on_own_thread(attempt: Used) -> bool:
    """Whether this is the thread of the attempt's `def` handler."""
    return attempt.thread is not None and attempt.thread.is_current


def refuse_to_await(attempt: Used) -> None:
    """A `def` handler may run a loop of its own; what is ours does not run on it."""
    if on_own_thread(attempt):
        raise ContextMisuseError(
            f"a future of {attempt.label}, a `def` handler, is awaited; write: future.result(), or"
            " nbdurable.wait(…) for anything else, or make the handler an `async def`"
        )


def refuse_to_block(attempt: Used, awaitable: object) -> None:
    """Waiting by blocking is for `def` handlers; on a loop it would stop all others."""
    try:
        check_use(attempt)
    except ContextMisuseError:
        discard(awaitable)
        raise
    if on_own_thread(attempt):
        return
    discard(awaitable)
    raise ContextMisuseError(
        f".result() and wait() block, which is for `def` handlers; in an `async def` one, as that"
        f" of {attempt.label} is, write: await ctx.run_typed(…)"
    )


def refuse_step(name: object, action: object, options: object) -> None:
    """What `ctx.run_typed` is given, while the line that gives it is in sight.

    Raises:
        ArgumentError: It is no name, nothing to call, or no options.
    """
    if not isinstance(name, str):
        raise ArgumentError(
            f"a step's name is a text, not {name!r}; write: ctx.run_typed('name', …)"
        )
    if not callable(action):
        is_begun = isinstance(action, Coroutine)
        was = "a coroutine" if is_begun else _short(action)
        discard(action)
        raise ArgumentError(
            f"the step {name!r} is given {was}, the result of a call, and no function to call;"
            f" write: ctx.run_typed({name!r}, function, argument=…)"
        )
    if not isinstance(options, RunOptions):
        function = getattr(action, "__name__", "function")
        raise ArgumentError(
            f"the third argument of the step {name!r} is {_short(options)}, and that is the place"
            f" of its RunOptions; name the function's arguments: ctx.run_typed({name!r},"
            f" {function}, {_first_parameter(action)}={_short(options)})"
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[:SHOWN_CHARS_MAX]}…"


def _first_parameter(action: Callable[..., object]) -> str:
    try:
        return next(iter(inspect.signature(action).parameters), "argument")
    except (TypeError, ValueError):
        # A builtin may have no signature.
        return "argument"


def never_awaited(step: str, label: str) -> str:
    """A step is executed when it is waited for; this one was not."""
    return (
        f"{label}: the step {step!r} was never awaited, so it was not executed; write:"
        f" await ctx.run_typed({step!r}, …)"
    )
