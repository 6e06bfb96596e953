"""One handler: a user's function, how its input and output are written, and its settings.

A decorator makes a `Handler` and leaves it on the function it returns, so that a call can name the
function (`ctx.service_call(greet, "Ada")`) and find service, handler and serdes.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Generic, Literal, Optional, TypeVar, Union

from nbdurable.errors import DefinitionError, TerminalError
from nbdurable.sdk import canonical_json
from nbdurable.sdk.context import HandlerType
from nbdurable.sdk.options import InvocationRetryPolicy
from nbdurable.sdk.serde import DefaultSerde, MsgspecJsonSerde, PydanticJsonSerde, Serde

I = TypeVar("I")  # noqa: E741 - the official SDK's name for an input type.
O = TypeVar("O")  # noqa: E741 - the official SDK's name for an output type.
T = TypeVar("T")

HandlerKind = Literal["exclusive", "shared", "workflow"]
ServiceKind = Literal["object", "service", "workflow"]

# Restate's rules for names; a handler's name is also a segment of its URL.
SERVICE_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9._-]*")
HANDLER_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]*")

# First segments of Restate's own URLs. Source: restate-semantics.md, 1.1 (names) and 2 (paths).
RESERVED_PREFIXES = ("restate", "openapi")

INPUT_ARITY = 2  # A context and one input; Restate has no other call.

_HANDLER_ATTRIBUTE = "__nbdurable_handler__"


@dataclass
class ServiceTag:
    """What a service is called, and what kind of thing it is."""

    kind: ServiceKind
    name: str
    description: Optional[str] = None
    metadata: Optional[dict[str, str]] = None


@dataclass
class TypeHint(Generic[T]):
    """What the signature says about an input or an output."""

    annotation: Optional[T] = None
    """Without `| None`, which every payload may be."""
    is_void: bool = False
    """There is nothing there: no second parameter, or no return annotation."""
    generate_json_schema: Callable[[], dict[str, Any]] | None = None
    """Makes the schema when asked; None if the annotation says no more than JSON does."""


@dataclass
class HandlerIO(Generic[I, O]):
    """How a handler's input is read and its output written."""

    accept: str
    content_type: str
    input_serde: Serde[I]
    output_serde: Serde[O]
    input_type: Optional[TypeHint[Any]] = None
    output_type: Optional[TypeHint[Any]] = None


class HandlerSettings(typing.TypedDict, total=False):
    """What a decorator passes through unread; each None falls back to the service's setting."""

    metadata: Optional[dict[str, str]]
    inactivity_timeout: Optional[timedelta]
    abort_timeout: Optional[timedelta]
    journal_retention: Optional[timedelta]
    idempotency_retention: Optional[timedelta]
    workflow_retention: Optional[timedelta]
    enable_lazy_state: Optional[bool]
    state_preload: Optional[Union[bool, list[str]]]
    ingress_private: Optional[bool]
    invocation_retry_policy: Optional[InvocationRetryPolicy]
    context_managers: Optional[list[Callable[[], AbstractAsyncContextManager[None]]]]


@dataclass
class Handler(Generic[I, O]):
    """A handler as the invoker and the manifest see it.

    Attributes:
        kind: None for a service's handler.
        fn: What the decorator returned; calls the user's function.
        arity: 1 (ctx) or 2 (ctx and input).
        is_async: Whether calling `fn` gives something to await.
        context_managers: The service's, then the handler's own.
    """

    service_tag: ServiceTag
    handler_io: HandlerIO[I, O]
    kind: Optional[HandlerKind]
    name: str
    fn: Callable[..., Any]
    arity: int
    description: Optional[str] = None
    metadata: Optional[dict[str, str]] = None
    inactivity_timeout: Optional[timedelta] = None
    abort_timeout: Optional[timedelta] = None
    journal_retention: Optional[timedelta] = None
    idempotency_retention: Optional[timedelta] = None
    workflow_retention: Optional[timedelta] = None
    enable_lazy_state: Optional[bool] = None
    state_preload: Optional[Union[bool, list[str]]] = None
    ingress_private: Optional[bool] = None
    invocation_retry_policy: Optional[InvocationRetryPolicy] = None
    context_managers: Optional[list[Callable[[], AbstractAsyncContextManager[None]]]] = None
    explicit_recovery: bool = False
    is_async: bool = True


def make_handler(
    service_tag: ServiceTag,
    handler_io: HandlerIO[I, O],
    name: str | None,
    kind: Optional[HandlerKind],
    wrapped: Callable[..., Any],
    signature: inspect.Signature,
    description: Optional[str] = None,
    **settings: typing.Unpack[HandlerSettings],
) -> Handler[I, O]:
    """Check a function's signature and make it a handler of a service.

    Args:
        name: None takes the function's own.
        wrapped: Receives the handler as a private attribute.
        signature: Of the user's function, from `signature_of`.

    Raises:
        DefinitionError: The signature, the name or the settings cannot work.
    """
    handler_name = name or str(getattr(wrapped, "__name__", ""))
    _check_name(handler_name, HANDLER_NAME, f"handler of {service_tag.name!r}", ", '_'")
    check_state_preload_options(settings.get("state_preload"), settings.get("enable_lazy_state"))
    parameters = list(signature.parameters.values())
    _check_returns_once(wrapped, handler_name, service_tag)
    _check_parameters(parameters, handler_name, service_tag)
    handler = Handler(
        service_tag=service_tag,
        handler_io=_with_type_hints(handler_io, parameters, signature.return_annotation),
        kind=kind,
        name=handler_name,
        fn=wrapped,
        arity=len(parameters),
        description=description,
        is_async=inspect.iscoroutinefunction(inspect.unwrap(wrapped)),
        **settings,
    )
    stand_for(handler, wrapped)
    return handler


def stand_for(handler: Handler[Any, Any], called: object) -> None:
    """Let something be named in calls, as `ctx.service_call(called, …)`, for this handler."""
    vars(called)[_HANDLER_ATTRIBUTE] = handler


def handler_from_callable(wrapper: HandlerType[I, O]) -> Handler[I, O]:
    """Return the handler a decorated function stands for.

    Raises:
        DefinitionError: The function was not decorated.
    """
    handler = handler_of(wrapper)
    if handler is None:
        shown = getattr(wrapper, "__qualname__", None) or repr(wrapper)
        raise DefinitionError(
            f"{shown} is not a handler; decorate it with @my_service.handler() and pass the "
            "function itself, not its name or its result"
        )
    return typing.cast("Handler[I, O]", handler)


def handler_of(called: object) -> Handler[Any, Any] | None:
    """The handler a decorated function stands for; None of any other function."""
    return typing.cast(
        "Handler[Any, Any] | None", getattr(called, "__dict__", {}).get(_HANDLER_ATTRIBUTE)
    )


OnThread: typing.TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a `def` handler, which may block, where it holds nobody up."""


async def run_handler(
    handler: Handler[I, O],
    ctx: Any,
    in_buffer: bytes,
    on_thread: OnThread | None = None,
    read: Callable[[Serde[Any], bytes], Any] | None = None,
) -> O:
    """Read the input and run the handler to its end.

    Args:
        on_thread: None runs a `def` handler right here.
        read: Has the input read; None lets its serde do it.

    Raises:
        TerminalError: The input cannot be read; trying again would not help.
    """
    call = partial(handler.fn, ctx)
    if handler.arity > 1:
        try:
            serde = handler.handler_io.input_serde
            argument = serde.deserialize(in_buffer) if read is None else read(serde, in_buffer)
        except Exception as error:
            raise TerminalError(f"Unable to parse an input argument. {error}") from error
        call = partial(handler.fn, ctx, argument)
    out = call() if handler.is_async or on_thread is None else await on_thread(call)
    if inspect.isawaitable(out):
        # Of an `async def`, whoever has wrapped it; or a future that a `def` handler returns.
        out = await out
    return typing.cast("O", out)


def signature_of(fn: Callable[..., Any], local_names: dict[str, Any]) -> inspect.Signature:
    """Return a signature whose annotations are types, as far as their names can be found.

    Args:
        fn: A user's function.
        local_names: Names visible where it was decorated: types defined inside another function
            are found there only. What is found nowhere (a name imported for type checkers alone)
            counts as not annotated.
    """
    try:
        return inspect.signature(fn, eval_str=True)
    except NameError:
        signature = inspect.signature(fn)
    names = getattr(inspect.unwrap(fn), "__globals__", {})

    def found(annotation: Any) -> Any:
        if not isinstance(annotation, str):
            return annotation
        try:
            # The user's own source, evaluated as inspect.signature would.
            return eval(annotation, names, local_names)  # noqa: S307
        except Exception:  # noqa: BLE001 - border: an annotation is an arbitrary expression.
            return inspect.Signature.empty

    return signature.replace(
        parameters=[
            parameter.replace(annotation=found(parameter.annotation))
            for parameter in signature.parameters.values()
        ],
        return_annotation=found(signature.return_annotation),
    )


def caller_names(depth: int) -> dict[str, Any]:
    """Return the local names of the function `depth` calls above the one that asks."""
    return sys._getframe(depth + 1).f_locals  # noqa: SLF001 - inspect reads all source to tell.


def check_service_name(name: str) -> None:
    """Refuse what Restate would refuse when the service is deployed there."""
    _check_name(name, SERVICE_NAME, "service", ", '_', '.', '-'")
    for prefix in RESERVED_PREFIXES:
        if name.lower().startswith(prefix):
            raise DefinitionError(
                f"{name!r} cannot be the name of a service: what begins with {prefix!r} is reserved"
            )


def check_state_preload_options(
    state_preload: Optional[Union[bool, list[str]]], enable_lazy_state: Optional[bool]
) -> None:
    """Refuse the old and the new spelling of one setting together."""
    if state_preload is not None and enable_lazy_state is not None:
        raise DefinitionError(
            "state_preload and enable_lazy_state say the same thing; keep state_preload"
        )


def _check_name(name: object, rule: re.Pattern[str], what: str, punctuation: str) -> None:
    if not isinstance(name, str) or not rule.fullmatch(name):
        raise DefinitionError(
            f"{name!r} cannot be the name of a {what}; start with a letter and go on with "
            f"letters, digits{punctuation}"
        )


def _check_returns_once(fn: Callable[..., Any], handler_name: str, service_tag: ServiceTag) -> None:
    inner = inspect.unwrap(fn)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise DefinitionError(
            f"handler {handler_name!r} of {service_tag.name!r} yields, and a handler has one"
            " result; return a list, or send each part to a handler of its own"
        )


def _check_parameters(
    parameters: list[inspect.Parameter], handler_name: str, service_tag: ServiceTag
) -> None:
    where = f"handler {handler_name!r} of {service_tag.name!r}"
    if not parameters:
        raise DefinitionError(
            f"{where} takes no context; write: async def {handler_name}(ctx, name)"
        )
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            how = " by keyword" if parameter.kind is parameter.KEYWORD_ONLY else ""
            shown = str(parameter.replace(annotation=parameter.empty, default=parameter.empty))
            raise DefinitionError(
                f"{where} takes {shown!r}{how}, but handlers are called with a "
                f"context and one input; write: async def {handler_name}(ctx, name)"
            )
    if len(parameters) > INPUT_ARITY:
        extra = ", ".join(repr(parameter.name) for parameter in parameters[1:])
        raise DefinitionError(
            f"{where} takes {len(parameters) - 1} inputs ({extra}), but a handler has one; put "
            f"them into a dict or a dataclass: async def {handler_name}(ctx, order)"
        )


def _with_type_hints(
    handler_io: HandlerIO[I, O], parameters: list[inspect.Parameter], returned: Any
) -> HandlerIO[I, O]:
    annotation = parameters[1].annotation if len(parameters) == INPUT_ARITY else None
    input_type: TypeHint[Any] = TypeHint(is_void=len(parameters) == 1)
    output_type: TypeHint[Any] = TypeHint(is_void=returned in (None, inspect.Signature.empty))
    input_serde, output_serde = handler_io.input_serde, handler_io.output_serde
    if not input_type.is_void:
        input_type, input_serde = _described(annotation, input_serde)
    if not output_type.is_void:
        output_type, output_serde = _described(returned, output_serde)
    return HandlerIO(
        accept=handler_io.accept,
        content_type=handler_io.content_type,
        input_serde=input_serde,
        output_serde=output_serde,
        input_type=input_type,
        output_type=output_type,
    )


def _described(annotation: Any, serde: Serde[T]) -> tuple[TypeHint[Any], Serde[T]]:
    unsaid = annotation is inspect.Parameter.empty
    core_type: Any = None if unsaid else _without_none(annotation)
    hint: TypeHint[Any] = TypeHint(annotation=core_type)
    if not canonical_json.mentions_model(core_type):
        return hint, serde
    if canonical_json.is_pydantic(core_type):
        hint.generate_json_schema = lambda: core_type.model_json_schema(mode="serialization")
    else:
        hint.generate_json_schema = lambda: _msgspec_schema(core_type)
    # A serde the user has chosen, or given a type of its own, knows better than the annotation.
    if not isinstance(serde, DefaultSerde) or serde.type_hint is not None:
        return hint, serde
    if canonical_json.is_pydantic(core_type):
        return hint, PydanticJsonSerde(core_type)
    if canonical_json.is_struct(core_type):
        return hint, MsgspecJsonSerde(core_type)
    return hint, serde.with_maybe_type(core_type)


def _msgspec_schema(core_type: Any) -> dict[str, Any]:
    import msgspec

    return msgspec.json.schema(core_type)


def _without_none(annotation: Any) -> Any:
    arguments = typing.get_args(annotation)
    present = [argument for argument in arguments if argument is not types.NoneType]
    is_union = typing.get_origin(annotation) in (Union, types.UnionType)
    return present[0] if is_union and len(present) == 1 else annotation
