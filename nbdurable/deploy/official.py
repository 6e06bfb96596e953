"""Serve handlers written for nbdurable by the official restate-sdk, to a Restate cluster.

Each handler is given the official ctx behind one of ours, which does three things: an error passes
as the class that each side knows, a combinator of ours works on official futures, and a serde of
ours writes what it writes here. What only nbdurable has (`def` handlers, `RestatePromise`,
`or_timeout`, `.result()`) is refused with a sentence.

restate-sdk is imported when an app is first served: `pip install 'nbdurable[restate]'`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, assert_never

from nbdurable.errors import (
    ContextMisuseError,
    DefinitionError,
    RetryableError,
    SdkInternalBaseException,
    SuspendedException,
    TerminalError,
)
from nbdurable.invoker.payloads import run_serde
from nbdurable.sdk.context import DEFAULT_RUN_OPTIONS, current_context_var
from nbdurable.sdk.definition import Definition
from nbdurable.sdk.future import Combination, DurableFuture, DurablePromise
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
    except ImportError as error:
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


def _official_service(restate: Any, ours: Definition) -> Any:
    tag = ours.service_tag
    kinds = {
        "service": restate.Service,
        "object": restate.VirtualObject,
        "workflow": restate.Workflow,
    }
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
            # The official SDK's own, on its way out; see `_ours`.
            raise error.__cause__ or error from None
        except (TerminalError, RetryableError) as error:
            raise _theirs(restate, error) from error
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


# -- errors --------------------------------------------------------------------------------------


def _theirs(restate: Any, error: TerminalError | RetryableError) -> Exception:
    """As the official SDK knows it."""
    theirs: Exception
    match error:
        case TerminalError():
            theirs = restate.TerminalError(error.message, error.status_code, error.metadata)
        case RetryableError():
            theirs = restate.exceptions.RetryableError(
                error.message, error.status_code, error.retry_after
            )
        case _:
            assert_never(error)
    return theirs


def _ours(restate: Any, error: BaseException) -> BaseException:
    """As user code of nbdurable catches it."""
    if isinstance(error, restate.TerminalError):
        return TerminalError(error.message, error.status_code, error.metadata)
    if isinstance(error, restate.SdkInternalBaseException):
        return SuspendedException(str(error))
    return error


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

        @functools.wraps(found)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._wrap(found(*args, **kwargs))

        return call

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
        official = self._restate.RunOptions(
            **{**vars(options), "serde": run_serde(options, call), "type_hint": None}
        )
        return self._wrap(self._official.run_typed(name, self._step(call), official))

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

    async def await_any(self, futures: list[DurableFuture[Any]]) -> None:
        await self.awaited(self._restate.wait_completed(*_officials(futures)))

    async def await_all(self, futures: list[DurableFuture[Any]]) -> None:
        await self.awaited(self._restate.gather(*_officials(futures)))

    def completed(self, futures: list[DurableFuture[Any]]) -> list[bool]:
        return [future.is_completed() for future in futures]

    def combine(self, combination: Combination, futures: list[DurableFuture[Any]]) -> NoReturn:
        raise ContextMisuseError(
            f"RestatePromise.{combination}() is nbdurable's: restate-sdk for Python has gather(),"
            " select() and as_completed()"
        )

    def or_timeout(self, future: DurableFuture[Any], delta: timedelta) -> NoReturn:
        raise ContextMisuseError(
            "or_timeout() is nbdurable's; with restate-sdk write: select(value=future,"
            " late=ctx.sleep(…))"
        )

    def block_on(self, awaitable: Awaitable[Any]) -> NoReturn:
        raise ContextMisuseError("restate-sdk runs `async def` handlers only; write: await …")

    # -- inside -------------------------------------------------------------------------------

    async def awaited(self, awaitable: Awaitable[T]) -> T:
        try:
            return await awaitable
        except BaseException as error:
            ours = _ours(self._restate, error)
            if ours is error:
                raise
            raise ours from error

    def _step(self, call: functools.partial[Any]) -> Callable[[], Any]:
        async def run_async() -> Any:
            try:
                return await call()
            except (TerminalError, RetryableError) as error:
                raise _theirs(self._restate, error) from error

        def run_blocking() -> Any:
            try:
                return call()
            except (TerminalError, RetryableError) as error:
                raise _theirs(self._restate, error) from error

        return run_async if inspect.iscoroutinefunction(call.func) else run_blocking

    def _wrap(self, result: Any) -> Any:
        if isinstance(result, tuple):
            return tuple(self._wrap(part) for part in result)
        if isinstance(result, self._restate.DurablePromise):
            return BridgedPromise(self, result)
        if hasattr(result, "__await__") and hasattr(result, "is_completed"):
            return BridgedFuture(self, result)
        return result


class BridgedFuture(DurableFuture[Any]):
    """An official future among ours."""

    context: Any

    def __init__(self, context: BridgedContext, official: Any) -> None:
        self.context = context
        self.official = official

    def __getattr__(self, name: str) -> Any:
        return getattr(self.official, name)

    def is_completed(self) -> bool:
        return bool(self.official.is_completed())

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.context.awaited(self.official).__await__()  # type: ignore[no-any-return] # Any.


class BridgedPromise(DurablePromise[Any]):
    """An official promise among ours."""

    def __init__(self, context: BridgedContext, official: Any) -> None:
        super().__init__(official.name, official.serde)
        self._context = context
        self._official = official

    def value(self) -> BridgedFuture:
        return BridgedFuture(self._context, self._official.value())

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.value().__await__()

    def peek(self) -> BridgedFuture:
        return BridgedFuture(self._context, self._official.peek())

    def resolve(self, value: Any) -> BridgedFuture:
        return BridgedFuture(self._context, self._official.resolve(value))

    def reject(self, message: str, code: int = 500) -> BridgedFuture:
        return BridgedFuture(self._context, self._official.reject(message, code))


def _officials(futures: list[DurableFuture[Any]]) -> list[Any]:
    return [future.official for future in futures if isinstance(future, BridgedFuture)]
