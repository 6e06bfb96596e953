"""`durable.approval`: ask a person, in the words and with the choices that they need."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, cast, overload

from nbdurable.errors import ContextMisuseError
from nbdurable.sdk.cells import cell_steps
from nbdurable.sdk.context import current_context
from nbdurable.sdk.future import RestateDurableFuture

T = TypeVar("T")


class Asks(Protocol):
    """A context whose questions a person can be shown."""

    def approval(
        self, name: str, type_hint: Any, title: str | None, context: Any
    ) -> RestateDurableFuture[Any]: ...


@overload
def approval(
    name: str, *, title: str | None = None, context: Any = None
) -> RestateDurableFuture[bool]: ...


@overload
def approval(
    name: str, type: type[T], *, title: str | None = None, context: Any = None
) -> RestateDurableFuture[T]: ...


def approval(
    name: str, type: Any = bool, *, title: str | None = None, context: Any = None
) -> RestateDurableFuture[Any]:
    """Wait for a person's answer; it may take a year, and no process.

    In a workflow it is the promise of this name, elsewhere an awakeable. Who is asked sees a form
    for the type: buttons for `bool`, choices for `Literal` and `Enum`, fields for a dataclass, a
    msgspec or a pydantic model.

    Args:
        name: Of the promise; `%durable approve KEY NAME` and buttons answer it.
        type: What the answer is.
        title: The question, as a sentence.
        context: What the answer depends on: a text, or any value, shown as JSON.

    Raises:
        TerminalError: At the await: it was rejected, with the reason.

    Example:
        >>> class Refund(msgspec.Struct):
        ...     amount: float
        ...     reason: Literal["late", "broken"]
        >>> refund = await durable.approval("refund", Refund, title="How much?", context=order)
    """
    ctx = current_context()
    if ctx is None and (steps := cell_steps()) is not None:
        return steps.promise(name, type, title, context).value()
    if ctx is None:
        raise ContextMisuseError(
            "durable.approval() asks for a run: call it in a handler, or in a cell of a notebook"
            " run"
        )
    if not hasattr(ctx, "approval"):
        raise ContextMisuseError(
            "this context shows nobody a question; use ctx.promise(name) or ctx.awakeable()"
        )
    return cast("Asks", ctx).approval(name, type, title, context)
