"""What services, objects and workflows have in common: a tag, settings, and a table of handlers.

Mutable: `handlers` grows while the decorators of a module or a cell run; after that it is only
read.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Optional, TypeVar, Union

from nbdurable.errors import DefinitionError
from nbdurable.sdk.handler import (
    Handler,
    HandlerIO,
    HandlerKind,
    HandlerSettings,
    ServiceKind,
    ServiceTag,
    caller_names,
    check_service_name,
    check_state_preload_options,
    make_handler,
    signature_of,
)
from nbdurable.sdk.options import InvocationRetryPolicy

T = TypeVar("T")


class Definition:
    """A named thing with handlers. Mutable: see the module.

    Attributes:
        handlers: By name, in the order they were defined.
        explicit_recovery: Always False; there for tools that read the official definitions.
    """

    def __init__(
        self,
        tag: ServiceTag,
        *,
        inactivity_timeout: Optional[timedelta],
        abort_timeout: Optional[timedelta],
        journal_retention: Optional[timedelta],
        idempotency_retention: Optional[timedelta],
        ingress_private: Optional[bool],
        invocation_retry_policy: Optional[InvocationRetryPolicy],
        invocation_context_managers: Optional[
            list[Callable[[], AbstractAsyncContextManager[None]]]
        ],
    ) -> None:
        check_service_name(tag.name)
        self.service_tag = tag
        self.handlers: dict[str, Handler[Any, Any]] = {}
        self.inactivity_timeout = inactivity_timeout
        self.abort_timeout = abort_timeout
        self.journal_retention = journal_retention
        self.idempotency_retention = idempotency_retention
        self.ingress_private = ingress_private
        self.invocation_retry_policy = invocation_retry_policy
        self.context_managers = invocation_context_managers
        self.explicit_recovery = False

    @property
    def name(self) -> str:
        """The name callers use."""
        return self.service_tag.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}, {len(self.handlers)} handlers>"

    def _decorator(
        self,
        kind: Optional[HandlerKind],
        name: Optional[str],
        handler_io: HandlerIO[Any, Any],
        invocation_context_managers: Optional[
            list[Callable[[], AbstractAsyncContextManager[None]]]
        ],
        **settings: typing.Unpack[HandlerSettings],
    ) -> Callable[[T], T]:
        if callable(name):
            method = "main" if kind == "workflow" else "handler"
            raise DefinitionError(
                f"a decorator of {self.name!r} lacks its parentheses; write: "
                f"@{self.name.lower()}.{method}()"
            )
        managers = [*(self.context_managers or []), *(invocation_context_managers or [])]
        settings["context_managers"] = managers or None

        def decorate(fn: Any) -> Any:
            if not inspect.isroutine(fn):
                raise DefinitionError(
                    f"{fn!r} cannot be a handler of {self.name!r}; write: "
                    "async def greet(ctx, name)"
                )

            @functools.wraps(fn)
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                return fn(*args, **kwargs)

            handler = make_handler(
                self.service_tag,
                handler_io,
                name,
                kind,
                wrapped,
                signature_of(fn, caller_names(1)),
                inspect.getdoc(fn),
                **settings,
            )
            self._add(handler)
            return wrapped

        return typing.cast("Callable[[T], T]", decorate)

    def _add(self, handler: Handler[Any, Any]) -> None:
        earlier = self.handlers.get(handler.name)
        if earlier is not None and not _same_place(earlier, handler):
            raise DefinitionError(
                f"handler {handler.name!r} of {self.name!r} is defined twice; rename one, "
                "or remove it"
            )
        self.handlers[handler.name] = handler


class KeyedDefinition(Definition):
    """A definition whose handlers are addressed by key and have state."""

    _kind: typing.ClassVar[ServiceKind]

    def __init__(
        self,
        name: str,
        description: Optional[str] = None,
        metadata: Optional[dict[str, str]] = None,
        inactivity_timeout: Optional[timedelta] = None,
        abort_timeout: Optional[timedelta] = None,
        journal_retention: Optional[timedelta] = None,
        idempotency_retention: Optional[timedelta] = None,
        enable_lazy_state: Optional[bool] = None,
        state_preload: Optional[Union[bool, list[str]]] = None,
        ingress_private: Optional[bool] = None,
        invocation_retry_policy: Optional[InvocationRetryPolicy] = None,
        invocation_context_managers: Optional[
            list[Callable[[], AbstractAsyncContextManager[None]]]
        ] = None,
        *,
        state_retention: Optional[timedelta] = None,
    ) -> None:
        super().__init__(
            ServiceTag(self._kind, name, description, metadata),
            inactivity_timeout=inactivity_timeout,
            abort_timeout=abort_timeout,
            journal_retention=journal_retention,
            idempotency_retention=idempotency_retention,
            ingress_private=ingress_private,
            invocation_retry_policy=invocation_retry_policy,
            invocation_context_managers=invocation_context_managers,
        )
        check_state_preload_options(state_preload, enable_lazy_state)
        self.enable_lazy_state = enable_lazy_state
        self.state_preload = state_preload
        if state_retention is not None and self._kind == "workflow":
            raise DefinitionError(
                f"the state of workflow {name!r} is kept for as long as its run; write:"
                " main(workflow_retention=...) instead of state_retention"
            )
        self.state_retention = state_retention


def by_name(services: Iterable[Definition]) -> dict[str, Definition]:
    """Services that are to run side by side.

    Raises:
        DefinitionError: One is no service, or two have one name, of which only one could be called.
    """
    if isinstance(services, Definition):
        raise DefinitionError(f"{services!r} is one service; write a list of it: [{services.name}]")
    named: dict[str, Definition] = {}
    for service in services:
        if not isinstance(service, Definition):
            raise DefinitionError(
                f"{service!r} is no service; write: [greeter], where greeter is a Service, a"
                " VirtualObject or a Workflow"
            )
        if service.name in named:
            raise DefinitionError(f"service {service.name!r} is named twice; rename one")
        named[service.name] = service
    return named


def _same_place(earlier: Handler[Any, Any], later: Handler[Any, Any]) -> bool:
    """Whether a handler is defined again, by a cell that was edited or run again.

    Every version of a cell has a file name of its own. Two functions of one name in one file, at
    different lines, are a mistake instead.
    """
    before, after = inspect.unwrap(earlier.fn), inspect.unwrap(later.fn)
    if (before.__module__, before.__qualname__) != (after.__module__, after.__qualname__):
        return False
    place, later_place = _place(before), _place(after)
    return place[0] != later_place[0] or place[1] == later_place[1]


def _place(fn: Any) -> tuple[str, int]:
    code = getattr(fn, "__code__", None)
    # What is not Python (a builtin, a compiled function) is told apart by identity.
    return (code.co_filename, code.co_firstlineno) if code is not None else ("", id(fn))
