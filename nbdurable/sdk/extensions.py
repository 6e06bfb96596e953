"""For libraries that attach something of their own to an attempt: a session, a span, a cache."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any, Generic, ParamSpec, TypeVar, cast

from nbdurable.errors import ContextMisuseError
from nbdurable.sdk.context import Context

P = ParamSpec("P")
T = TypeVar("T")

_NOTHING = object()


class contextvar(Generic[P, T]):  # noqa: N801 - the official SDK's name.
    """An asynchronous context manager whose value is found where it is needed.

    Invocation context managers may yield nothing; what this one's yields is its `value`, in the
    handler and in everything that handler calls.

    ```python
    @contextvar
    @asynccontextmanager
    async def session():
        async with connect() as connection:
            yield connection

    greeter = Service("Greeter", invocation_context_managers=[session])

    @greeter.handler()
    async def greet(ctx, name):
        return await session.value.fetch(name)
    ```
    """

    def __init__(self, func: Callable[P, AbstractAsyncContextManager[T]]) -> None:
        self.func = func
        self._value: ContextVar[object] = ContextVar("value", default=_NOTHING)

    @property
    def value(self) -> T:
        """What the context manager has yielded.

        Raises:
            LookupError: It was not entered here.
        """
        value = self._value.get()
        if value is _NOTHING:
            name = getattr(self.func, "__name__", "the context manager")
            raise LookupError(
                f"{name}.value is there only inside of {name}; name it in"
                " invocation_context_managers of the service or the handler"
            )
        return cast("T", value)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[None]:
        """Enter the wrapped context manager, and yield nothing."""

        @asynccontextmanager
        async def entered() -> AsyncGenerator[None, None]:
            async with self.func(*args, **kwargs) as value:
                token = self._value.set(value)
                try:
                    yield
                finally:
                    self._value.reset(token)

        return entered()


def set_extension_data(ctx: Context, key: str, value: Any) -> None:
    """Keep something with this attempt; at its end `value.__close__()` is called, if it has one."""
    _data_of(ctx)[key] = value


def get_extension_data(ctx: Context, key: str) -> Any:
    """Return what was kept under this key in this attempt, else None."""
    return _data_of(ctx).get(key)


def clear_extension_data(ctx: Context, key: str) -> None:
    """Forget it without closing it."""
    _data_of(ctx).pop(key, None)


async def close_extension_data(data: dict[str, Any]) -> None:
    """At the end of an attempt, whatever its outcome."""
    import inspect
    import logging

    for key, value in data.items():
        close = getattr(value, "__close__", None)
        if not callable(close):
            continue
        try:
            closed = close()
            if inspect.isawaitable(closed):
                await closed
        except Exception:  # border: a library's own; the handler's outcome stands.
            logging.getLogger("nbdurable").warning(
                "extension data %r could not be closed", key, exc_info=True
            )
    data.clear()


def _data_of(ctx: Context) -> dict[str, Any]:
    data = getattr(ctx, "extension_data", None)
    if data is None:
        raise ContextMisuseError(
            f"{type(ctx).__name__} keeps no extension data; pass the ctx that a handler is given"
        )
    return cast("dict[str, Any]", data)
