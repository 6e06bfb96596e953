"""Serve handlers written for nbdurable by the official restate-sdk, to a Restate cluster.

Each handler is given the official ctx behind one of ours, which does three things: an error passes
as the class that each side knows, a combinator of ours works on official futures, and a serde of
ours writes what it writes here. What cannot be had there (`def` handlers, and `.result()` with
them) is refused with a sentence.

restate-sdk is imported when an app is first served: `pip install 'nbdurable[restate]'`.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from nbdurable.deploy.errors import ours, theirs, theirs_again
from nbdurable.deploy.futures import (
    Bridged,
    BridgedFuture,
    BridgedHandle,
    BridgedPromise,
    Combined,
    Timed,
)
from nbdurable.deploy.steps import official_step
from nbdurable.errors import ContextMisuseError, DefinitionError, SdkInternalBaseException
from nbdurable.invoker.payloads import run_serde
from nbdurable.sdk.context import DEFAULT_RUN_OPTIONS, current_context_var
from nbdurable.sdk.definition import Definition
from nbdurable.sdk.future import Combination, DurableFuture
from nbdurable.sdk.handler import Handler
from nbdurable.sdk.options import InvocationRetryPolicy, RunOptions
from nbdurable.sdk.serde import DEFAULT_SERDE, Serde

if TYPE_CHECKING:
    from nbdurable.deploy.endpoint import App

T = TypeVar("T")


def official_app(app: App) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """Return the official SDK's ASGI application for the same services.

    Raises:
        ImportError: restate-sdk is not installed.
        DefinitionError: A handler uses what a cluster has not.
    """
    try:
        import restate
    except ModuleNotFoundError as error:
        if error.name != "restate":
            raise
        raise ImportError(
            "serving an app to a Restate cluster needs the official SDK; write: pip install"
            " 'nbdurable[restate]'"
        ) from error
    return restate.app(  # type: ignore[no-any-return] # restate-sdk says nothing of it.
        [_official_service(restate, service) for service in app],
        app.protocol,
        app.identity_keys,
        _official_codec(restate, app.journal_value_codec),
    )


# -- definitions ---------------------------------------------------------------------------------

_SERVICE_OPTIONS = (
    "inactivity_timeout",
    "abort_timeout",
    "journal_retention",
    "idempotency_retention",
    "ingress_private",
)
_HANDLER_OPTIONS = (*_SERVICE_OPTIONS, "metadata")
_KEYED_OPTIONS = ("enable_lazy_state", "state_preload")
_RUN_OPTIONS = (
    "max_attempts",
    "max_duration",
    "initial_retry_interval",
    "max_retry_interval",
    "retry_interval_factor",
    "max_retry_duration",
)


def _official_service(restate: Any, ours: Definition) -> Any:
    tag = ours.service_tag
    kinds = {
        "service": restate.Service,
        "object": restate.VirtualObject,
        "workflow": restate.Workflow,
    }
    if getattr(ours, "state_retention", None) is not None:
        raise DefinitionError(
            f"{tag.name!r} has a state_retention, and Restate keeps state until it is cleared;"
            " leave it out, and clear the state in a handler, sent with a delay"
        )
    options = _SERVICE_OPTIONS if tag.kind == "service" else (*_SERVICE_OPTIONS, *_KEYED_OPTIONS)
    theirs = kinds[tag.kind](
        tag.name,
        description=tag.description,
        metadata=tag.metadata,
        invocation_retry_policy=_official_policy(restate, ours.invocation_retry_policy),
        **{option: getattr(ours, option) for option in options},
    )
    for handler in ours.handlers.values():
        _add_handler(restate, theirs, handler)
    return theirs


def _add_handler(restate: Any, service: Any, handler: Handler[Any, Any]) -> None:
    from restate.handler import RESTATE_UNIQUE_HANDLER_SYMBOL

    if not handler.is_async:
        raise DefinitionError(
            f"handler {handler.name!r} of {handler.service_tag.name!r} is a `def`, which"
            f" restate-sdk does not run; write: async def {handler.name}(ctx, …)"
        )
    io = handler.handler_io
    is_main = handler.kind == "workflow"
    wanted = {*_HANDLER_OPTIONS, *(("workflow_retention",) if is_main else ())}
    wanted |= set() if handler.service_tag.kind == "service" else set(_KEYED_OPTIONS)
    wanted -= {"idempotency_retention"} if is_main else set()
    how = {"kind": handler.kind} if handler.service_tag.kind == "object" else {}
    decorate = service.main if is_main else service.handler
    official = decorate(
        name=handler.name,
        accept=io.accept,
        content_type=io.content_type,
        input_serde=io.input_serde,
        output_serde=io.output_serde,
        invocation_retry_policy=_official_policy(restate, handler.invocation_retry_policy),
        invocation_context_managers=handler.context_managers,
        **{option: getattr(handler, option) for option in wanted},
        **how,
    )(_bridged(restate, handler))
    # `ctx.service_call(greet, …)` names our function; the official ctx looks for its own handler.
    vars(handler.fn)[RESTATE_UNIQUE_HANDLER_SYMBOL] = vars(official)[RESTATE_UNIQUE_HANDLER_SYMBOL]


def _bridged(restate: Any, handler: Handler[Any, Any]) -> Callable[..., Any]:
    """The handler as the official SDK calls it: with its ctx, and its errors."""

    @functools.wraps(handler.fn)
    async def handle(ctx: Any, *arguments: Any) -> Any:
        token = current_context_var.set(BridgedContext(restate, ctx))  # type: ignore[arg-type] # It quacks.
        try:
            return await handler.fn(current_context_var.get(), *arguments)
        except SdkInternalBaseException as error:
            raise theirs_again(error) from None
        except Exception as error:
            known = theirs(restate, error)
            if known is None:
                raise
            raise known from error
        finally:
            current_context_var.reset(token)

    return handle


def _official_policy(restate: Any, policy: InvocationRetryPolicy | None) -> Any:
    return None if policy is None else restate.InvocationRetryPolicy(**vars(policy))


def _official_codec(restate: Any, codec: Any) -> Any:
    """The official SDK tells a codec from its provider by class."""
    if codec is None or not hasattr(codec, "encode"):
        return codec

    class Codec(restate.JournalValueCodec):  # type: ignore[misc] # Its base is not typed here.
        def encode(self, buf: bytes) -> bytes:
            return bytes(codec.encode(buf))

        async def decode(self, buf: bytes) -> bytes:
            return bytes(await codec.decode(buf))

    return Codec()


# -- ctx and futures -----------------------------------------------------------------------------


class BridgedContext:
    """The official ctx, as handlers of nbdurable know a ctx. Also the context of its futures."""

    def __init__(self, restate: Any, official: Any) -> None:
        self._restate = restate
        self._official = official

    def __getattr__(self, name: str) -> Any:
        """Whatever the official ctx has: its results are wrapped, everything else passes."""
        found = getattr(self._official, name)
        if not callable(found):
            return found

        return self.wrapping(name, found)

    @property
    def is_replaying(self) -> bool:
        return bool(self._official.vm.is_replaying())

    def run_typed(
        self,
        name: str,
        action: Callable[..., Any],
        options: RunOptions[Any] = DEFAULT_RUN_OPTIONS,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        call = functools.partial(action, *args, **kwargs)
        shared = {option: getattr(options, option) for option in _RUN_OPTIONS}
        official = self._restate.RunOptions(serde=run_serde(options, call), **shared)
        step = official_step(self._restate, name, call, getattr(options, "timeout", None))
        return self.wrapped(self._official.run_typed(name, step, official), f"step {name!r}")

    def run(
        self,
        name: str,
        action: Callable[..., Any],
        serde: Serde[Any] = DEFAULT_SERDE,
        max_attempts: int | None = None,
        max_retry_duration: timedelta | None = None,
        type_hint: type[Any] | None = None,
        args: tuple[Any, ...] | None = None,
    ) -> Any:
        options: RunOptions[Any] = RunOptions(
            serde=serde,
            max_attempts=max_attempts,
            max_duration=max_retry_duration,
            type_hint=type_hint,
        )
        return self.run_typed(name, action, options, *(args or ()))

    # -- for the combinators ------------------------------------------------------------------

    async def await_some(
        self, futures: list[DurableFuture[Any]]
    ) -> tuple[list[DurableFuture[Any]], list[DurableFuture[Any]]]:
        ours = _bridged_ones(futures)
        while not any([await future.is_settled() for future in ours]):
            await self.await_leaves([leaf for future in ours for leaf in future.open_leaves()])
        completed = [future for future in futures if future.is_completed()]
        return completed, [future for future in futures if future not in completed]

    async def await_all(self, futures: list[DurableFuture[Any]]) -> None:
        ours = _bridged_ones(futures)
        officials = [future.official for future in ours if isinstance(future, BridgedFuture)]
        await self.awaited(self._restate.gather(*officials))
        for future in ours:
            while not await future.is_settled():
                await self.await_leaves(future.open_leaves())

    async def await_leaves(self, officials: list[Any]) -> None:
        await self.awaited(self._restate.wait_completed(*officials))

    async def as_completed(
        self, futures: list[DurableFuture[Any]]
    ) -> AsyncIterator[DurableFuture[Any]]:
        while futures:
            completed, futures = await self.await_some(futures)
            for future in completed:
                yield future

    def combine(self, combination: Combination, futures: list[DurableFuture[Any]]) -> Combined:
        return Combined(self, combination, tuple(_bridged_ones(futures)))

    def or_timeout(self, future: DurableFuture[Any], delta: timedelta) -> Timed:
        (bridged,) = _bridged_ones([future])
        return Timed(self, bridged, self.sleep(delta), delta)

    def block_on(self, awaitable: Awaitable[Any]) -> NoReturn:
        raise ContextMisuseError("restate-sdk runs `async def` handlers only; write: await …")

    # -- inside -------------------------------------------------------------------------------

    async def awaited(self, awaitable: Awaitable[T]) -> T:
        try:
            return await awaitable
        except BaseException as error:
            known = ours(self._restate, error)
            if known is error:
                raise
            raise known from error

    def wrapping(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """The same method, with a result that belongs to this ctx."""

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.wrapped(method(*args, **kwargs), name)

        return call

    def wrapped(self, result: Any, what: str) -> Any:
        restate = self._restate
        match result:
            case tuple():
                return tuple(self.wrapped(part, what) for part in result)
            case restate.DurablePromise():
                return BridgedPromise(self, result)
            case restate.RestateDurableFuture():
                return BridgedFuture(self, result, what)
            case restate.SendHandle():
                return BridgedHandle(self, result)
            case restate.ScopedContext():
                return BridgedScope(self, result)
            case _:
                return result


class BridgedScope:
    """What `ctx.scope()` gives: calls, whose results belong to the ctx."""

    def __init__(self, context: BridgedContext, official: Any) -> None:
        self._context = context
        self._official = official

    def __getattr__(self, name: str) -> Any:
        return self._context.wrapping(name, getattr(self._official, name))


def _bridged_ones(futures: list[DurableFuture[Any]]) -> list[Bridged]:
    """All of them: what a combinator is given has passed `own_futures`."""
    return [future for future in futures if isinstance(future, Bridged)]
