"""Steps and waits in the cells of a notebook that runs durably: `durable.run` and its like.

A cell is run again from its top, so what it does is found by name and key, not by position: a step
that has finished is not done again, a wait that is over is not waited for again. In a handler the
same words are those of its ctx.

Owns: the words, and which of the two they mean. What a cell's mean is for `batch` to say, which
connects a kernel to the run that it belongs to.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

from nbdurable.errors import ArgumentError, ContextMisuseError
from nbdurable.kernels import steps
from nbdurable.sdk.context import DEFAULT_RUN_OPTIONS, current_context
from nbdurable.sdk.future import DurablePromise

T = TypeVar("T")

SECRET_PREFIX = "secret://"  # noqa: S105 - what stands for one.
# A text so short is found in places where it is no secret, and they would all be blotted out.
SECRET_CHARS_MIN = 6


class Place(NamedTuple):
    """Where a step of a cell is, whichever try it is: `nth` counts those of its name and key."""

    execution: int
    name: str
    key_digest: str
    nth: int


class CellSteps(Protocol):
    """What the run that a kernel belongs to does for its cells."""

    def place(self, name: str, key: str) -> Place:
        """That of the next step of this name and key, for whoever may try it more than once."""

    async def run(
        self,
        name: str,
        call: Callable[[], Any],
        key: str,
        *,
        fresh: bool,
        place: Place | None = None,
    ) -> Any:
        """Do a step, or give what is recorded; without a place of its own it takes the next."""

    async def sleep(self, delta: timedelta, name: str) -> None: ...

    async def turn(self, name: str, limit: int, per: timedelta) -> timedelta:
        """How long to wait before one more of these may begin, which is then counted.

        A limit of 0 counts none, and only asks for how long they are held up.
        """

    async def hold(self, name: str, pause: timedelta) -> None:
        """None of these may begin before so long."""

    def promise(
        self, name: str, type_hint: Any, title: str | None, context: Any
    ) -> DurablePromise[Any]: ...

    def secret(self, name: str) -> str: ...


def cell_steps() -> CellSteps | None:
    """What this kernel belongs to, if it is that of a notebook run."""
    found: CellSteps | None = steps()
    return found


async def run(
    name: str,
    function: Callable[..., Any],
    /,
    *args: Any,
    key: object = None,
    fresh: bool = False,
    **kwargs: Any,
) -> Any:
    """Call a function once, and give its recorded result from then on.

    In a cell of a notebook run a step is found by its name and its key, so an edited or repeated
    cell keeps the steps that have finished. Same name and key twice in a cell are two steps, the
    first and the second, also where the first has raised; `map(retry=…)` tries one step again.

    Args:
        key: What tells this step from others of its name; by default what it is called with.
        fresh: Do it again, whatever is recorded.

    Raises:
        TerminalError: The function has raised it; so it will the next time.
        ArgumentError: In a handler, where steps have no keys, one is given.

    Example:
        >>> receipt = await durable.run("charge", charge, order, key=order.id)
    """
    ctx = current_context()
    if ctx is not None:
        if key is not None or fresh:
            raise ArgumentError(
                f"in a handler a step is found by its place in the journal: call {name!r} without"
                " key= and fresh="
            )
        return await ctx.run_typed(name, function, DEFAULT_RUN_OPTIONS, *args, **kwargs)
    here = _steps_for("run")
    if not callable(function):
        raise ArgumentError(f"the step {name!r} is given {function!r}, which is no function")
    told = _argument_text(args, kwargs) if key is None else str(key)
    return await here.run(name, lambda: function(*args, **kwargs), told, fresh=fresh)


async def sleep(delta: timedelta, name: str = "") -> None:
    """Sleep for as long, counted from when this was first reached.

    A notebook run that sleeps for more than a minute has no kernel and no process meanwhile.
    """
    ctx = current_context()
    if ctx is not None:
        await ctx.sleep(delta, name or None)
        return
    await _steps_for("sleep").sleep(delta, name)


def promise(name: str, type: Any = None) -> DurablePromise[Any]:
    """A promise of the run: whoever knows the run and the name can resolve it, once.

    Raises:
        ContextMisuseError: Neither a workflow nor a notebook run is here.
    """
    ctx = current_context()
    if ctx is None:
        return _steps_for("promise").promise(name, type, None, None)
    if not hasattr(ctx, "promise"):
        raise ContextMisuseError("only workflows and notebook runs have promises")
    found: DurablePromise[Any] = ctx.promise(name, type_hint=type)
    return found


def secret(name: str) -> str:
    """The value of this environment variable, kept out of journal, checkpoint and notebook.

    Outputs of cells that show it show `secret://NAME` instead. A variable that holds more than the
    value alone is not saved, and has to be made again in a cell tagged `setup`.

    Args:
        name: Of the variable; `secret://NAME`, as a parameter has it, means the same.

    Raises:
        LookupError: There is none.
    """
    name = name.removeprefix(SECRET_PREFIX)
    here = cell_steps()
    return secret_of(name, os.environ) if here is None else here.secret(name)


def secret_of(name: str, environment: Mapping[str, str]) -> str:
    """Its value; LookupError says what to do."""
    value = environment.get(name)
    if value is None:
        raise LookupError(f"there is no secret {name}: set the environment variable {name}")
    if len(value) < SECRET_CHARS_MIN:
        raise LookupError(
            f"the secret {name} has fewer than {SECRET_CHARS_MIN} characters; what is so short"
            " cannot be told from other text, and so not kept out of it"
        )
    return value


def stop(reason: str = "") -> None:
    """End this notebook here, on purpose: the run has succeeded, later cells do not run.

    Raises:
        ContextMisuseError: This is a handler, which returns.
    """
    if current_context() is not None:
        raise ContextMisuseError("durable.stop() ends a notebook; a handler ends by return")
    if reason:
        print(reason)  # noqa: T201 - for whoever reads the notebook.
    raise SystemExit(0)


def _steps_for(word: str) -> CellSteps:
    here = cell_steps()
    if here is None:
        raise ContextMisuseError(
            f"durable.{word}() is for handlers, and for cells of a notebook that runs durably"
            " (`nbdurable run report.ipynb`); a notebook that is open runs cells as steps with"
            " %%durable_step"
        )
    return here


def _argument_text(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The same for the same arguments in another process, so without addresses."""
    text = repr((args, sorted(kwargs.items())))
    if " at 0x" in text:
        raise ArgumentError(
            "what the step is called with has no text of its own to be found by; give it a key:"
            " durable.run(name, function, …, key=…)"
        )
    return text


def is_awaitable(value: object) -> bool:
    return inspect.isawaitable(value)
