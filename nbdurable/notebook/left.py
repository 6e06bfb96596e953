"""What a run cell leaves to the notebook: its variables and the value of its last expression.

Inside the run: they are kept as state of its workflow, one pickle each, so that another kernel has
them as well. Outside: the kernel that has run the cell takes them as they are; any other reads what
is kept. Functions and imports are not kept, since the cell can have them anew. The result of the
run, for those who ask from elsewhere, is JSON.
"""

# ruff: noqa: ANN401 - the user's values.
from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from nbdurable.client.engine import EngineClient
from nbdurable.client.views import first_line
from nbdurable.core.values import ObjectId
from nbdurable.errors import JournalDamagedError, SerializationError
from nbdurable.invoker.wire import MESSAGE_BYTES_MAX
from nbdurable.sdk import PickleSerde, WorkflowContext
from nbdurable.sdk.pickling import PROTOCOL
from nbdurable.sdk.serde import DEFAULT_SERDE

# The state of a run cell's workflow: a variable under its name, what else there is under others.
_VARIABLE: Final = "variable "
_RESULT: Final = "result"
_NOT_KEPT: Final = "not kept"
# A result that is no JSON is told to others as it is printed, up to here.
_REPR_CHARS_MAX: Final = 2_000

# These are the same as JSON.
_PLAIN: Final = (str, bool, int, float, type(None))
_UNREADABLE: Final = object()

Fn = Callable[..., Any]


class _VariableSerde(PickleSerde):
    """A pickle that is given up when it is larger than a value may be, not when it is whole."""

    def serialize(self, obj: Any | None) -> bytes:
        if obj is None:
            return b""
        import cloudpickle

        bounded = _Bounded()
        try:
            cloudpickle.Pickler(bounded, protocol=PROTOCOL).dump(obj)
        except SerializationError:
            raise
        except Exception as error:  # border: whatever the user's values raise.
            raise SerializationError(f"cannot be pickled: {error}") from error
        return bounded.getvalue()


class _Bounded(io.BytesIO):
    """Mutable: it is written to."""

    def write(self, data: Any) -> int:
        if self.tell() + len(memoryview(data).cast("B")) > MESSAGE_BYTES_MAX:
            raise SerializationError(f"is over {MESSAGE_BYTES_MAX:,} bytes")
        return super().write(data)


_SERDE: Final = _VariableSerde()


@dataclass(slots=True)
class Left:
    """`not_kept`: why not, by name."""

    result: Any = None
    variables: dict[str, Any] = field(default_factory=dict)
    not_kept: dict[str, str] = field(default_factory=dict)


def keeping(
    fn: Fn, sets: frozenset[str], given: Mapping[str, Any], leave: Callable[..., None]
) -> Fn:
    """The handler of a run cell.

    Args:
        fn: The function that `parse.as_run` makes: its result, and its variables.
        sets: The names that the cell sets; `fn` has others as well.
        given: The notebook's names.
        leave: Told the run's id and what it leaves, before that is committed.
    """

    async def run(ctx: WorkflowContext) -> Any:
        result, names = await fn(ctx, given)
        left = Left(result, {name: names[name] for name in sorted(sets) if name in names})
        _keep(ctx, left)
        leave(ctx.request().id, left)
        return _for_others(result)

    return run


async def read_left(client: EngineClient, service: str, key: str, result: Any) -> Left:
    """What another kernel has kept of a run whose result, for others, this is."""
    state = await client.operator().state(ObjectId(service=service, key=key))
    left = Left(result)

    async def read(name: str, shown: str) -> Any:
        try:
            return await client.read_value(state.values[name], _SERDE)
        except (JournalDamagedError, SerializationError) as error:
            left.not_kept[shown] = _why(error)
            return _UNREADABLE

    for name in state.values:
        if name.startswith(_VARIABLE):
            shown = name.removeprefix(_VARIABLE)
            value = await read(name, shown)
            if value is not _UNREADABLE:
                left.variables[shown] = value
    if _RESULT in state.values and (value := await read(_RESULT, "its result")) is not _UNREADABLE:
        left.result = value
    if _NOT_KEPT in state.values:
        left.not_kept.update(await client.read_value(state.values[_NOT_KEPT], DEFAULT_SERDE))
    return left


def _keep(ctx: WorkflowContext, left: Left) -> None:
    for name, value in left.variables.items():
        try:
            ctx.set(f"{_VARIABLE}{name}", value, _SERDE)
        except SerializationError as error:
            left.not_kept[name] = _why(error)
    if not isinstance(left.result, _PLAIN):
        try:
            ctx.set(_RESULT, left.result, _SERDE)
        except SerializationError as error:
            left.not_kept["its result"] = _why(error)
    if left.not_kept:
        ctx.set(_NOT_KEPT, left.not_kept)


def _for_others(result: Any) -> Any:
    try:
        DEFAULT_SERDE.serialize(result)
    except SerializationError:
        return repr(result)[:_REPR_CHARS_MAX]
    return result


def _why(error: JournalDamagedError | SerializationError) -> str:
    return error.problem if isinstance(error, SerializationError) else first_line(str(error))
