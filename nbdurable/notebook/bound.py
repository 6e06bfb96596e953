"""The name a cell binds: `Greeter.greet("World")`, `Counter["user123"].add(5)`.

A call submits at once, in a few milliseconds, and answers with a handle. Inside a handler the same
call goes through its ctx, so that it is journaled and not made again by every replay, and answers
with a durable future. A bound handler is also what ctx calls take:
`await ctx.service_call(Greeter.greet, "Ada")`.
"""

# ruff: noqa: ANN401 - what a handler takes is the user's: any value.
from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any, Final

from nbdurable.client.base import RestateClientSendHandle
from nbdurable.client.engine import EngineClient
from nbdurable.client.picture import clock_time
from nbdurable.client.views import InvocationView, first_line
from nbdurable.errors import DefinitionError, HttpError, NbdurableError
from nbdurable.notebook.capture import shown_here
from nbdurable.notebook.handle import Handle
from nbdurable.notebook.session import Session
from nbdurable.notebook.spelling import no_such
from nbdurable.notebook.tracebacks import said
from nbdurable.sdk import Handler, RestateDurableCallFuture, SendHandle, current_context
from nbdurable.sdk.definition import Definition
from nbdurable.sdk.handler import stand_for

# None is a value that a handler may be sent.
_NOTHING: Final = object()


class BoundDefinition:
    """What a cell's name stands for. Its attributes are its handlers."""

    def __init__(self, session: Session, definition: Definition) -> None:
        self._session = session
        self._definition = definition
        self.__doc__ = "\n".join(_described(one) for one in definition.handlers.values())

    def __repr__(self) -> str:
        tag = self._definition.service_tag
        kind = {"object": "virtual object"}.get(tag.kind, tag.kind)
        return f"<{kind} {tag.name}: {', '.join(self._definition.handlers)}>"

    def __dir__(self) -> list[str]:
        return list(self._definition.handlers)

    def __getattr__(self, name: str) -> BoundHandler:
        return BoundHandler(self._session, _handler(self._definition, name), None)

    def __getitem__(self, key: str) -> BoundKey:
        tag = self._definition.service_tag
        if tag.kind == "service":
            first = next(iter(self._definition.handlers))
            problem = f"{tag.name} is a service and has no keys; write: {tag.name}.{first}(…)"
            raise said(TypeError(problem))
        if not isinstance(key, str):
            raise said(TypeError(f'keys are texts; write: {tag.name}["{key}"]'))
        return BoundKey(self._session, self._definition, key)


class BoundKey:
    """One object or one workflow: `Counter["user123"]`. Its attributes are its handlers."""

    def __init__(self, session: Session, definition: Definition, key: str) -> None:
        self._session = session
        self._definition = definition
        self._key = key

    def __repr__(self) -> str:
        name = f'{self._definition.name}["{self._key}"]'
        return f"<{name}: {', '.join(self._definition.handlers)}>"

    def __dir__(self) -> list[str]:
        return list(self._definition.handlers)

    def __getattr__(self, name: str) -> BoundHandler:
        return BoundHandler(self._session, _handler(self._definition, name), self._key)


class BoundHandler:
    """A handler, ready to be called, or to be named in a ctx call or to a schedule.

    Attributes:
        key: Of the object or the workflow, if one was named.
    """

    def __init__(self, session: Session, handler: Handler[Any, Any], key: str | None) -> None:
        self._session = session
        self._handler = handler
        self.key = key
        self.__doc__ = handler.description
        self.__name__ = handler.name
        self.__signature__ = _signature(handler)
        stand_for(handler, self)

    def __repr__(self) -> str:
        parameter = "" if self._handler.arity == 1 else "…"
        return f"<handler {self._written}({parameter})>"

    def __call__(
        self, arg: Any = _NOTHING, *, idempotency_key: str | None = None
    ) -> Handle | RestateDurableCallFuture[Any]:
        """Submit, and return the handle; inside a handler, call and return the future.

        A second call with the same idempotency key attaches.
        """
        value = self._checked(arg, None)
        ctx = current_context()
        if ctx is None:
            return self._submit(value, None, idempotency_key)
        me: Any = self
        match self._handler.service_tag.kind:
            case "service":
                return ctx.service_call(me, value, idempotency_key)
            case "object":
                return ctx.object_call(me, self.key or "", value, idempotency_key)
            case "workflow":
                return ctx.workflow_call(me, self.key or "", value, idempotency_key)

    def send(
        self,
        arg: Any = _NOTHING,
        *,
        delay: timedelta | None = None,
        idempotency_key: str | None = None,
    ) -> Handle | SendHandle:
        """Submit without meaning to wait; `delay` later if given, even if this kernel dies."""
        value = self._checked(arg, delay)
        ctx = current_context()
        if ctx is None:
            return self._submit(value, delay, idempotency_key)
        me: Any = self
        match self._handler.service_tag.kind:
            case "service":
                return ctx.service_send(me, value, delay, idempotency_key)
            case "object":
                return ctx.object_send(me, self.key or "", value, delay, idempotency_key)
            case "workflow":
                return ctx.workflow_send(me, self.key or "", value, delay, idempotency_key)

    @property
    def _written(self) -> str:
        """As it is written in a cell."""
        tag = self._handler.service_tag
        key = "" if self.key is None else f'["{self.key}"]'
        return f"{tag.name}{key}.{self._handler.name}"

    def _submit(self, value: Any, delay: timedelta | None, idempotency_key: str | None) -> Handle:
        client = self._session.client
        try:
            with shown_here(self._session.shell):
                sent = client.wait(self._send(client, value, delay, idempotency_key))
            notice = client.wait(self._notice(sent)) if sent.existing else ""
        except HttpError as error:
            name = self._handler.service_tag.name
            raise said(
                DefinitionError(f"{error.message}; run the cell that defines {name}")
            ) from None
        except NbdurableError as error:
            self._session.forget_dead_engine(error)
            raise said(error) from None
        target = self._written.replace('["', "/").replace('"].', "/")
        if self.key is None:
            target = f"{self._handler.service_tag.name}/{self._handler.name}"
        serde = self._handler.handler_io.output_serde
        return Handle(self._session, sent.invocation_id, target, serde, notice)

    def _checked(self, arg: Any, delay: object) -> Any:
        """The value to call with; what cannot work is one sentence."""
        tag, name = self._handler.service_tag, self._handler.name
        problem = ""
        if tag.kind != "service" and self.key is None:
            problem = f'{tag.name} is keyed; write: {tag.name}["my-key"].{name}(…)'
        elif self._handler.arity == 1 and arg is not _NOTHING:
            problem = f"{name} takes no input; write: {self._written}()"
        elif self._handler.arity > 1 and arg is _NOTHING:
            problem = f"{name} takes one input; write: {self._written}(…)"
        elif not isinstance(delay, timedelta | None):
            seconds = delay if isinstance(delay, int | float) else 5
            problem = f"delay is a timedelta; write: delay=timedelta(seconds={seconds})"
        if problem:
            raise said(TypeError(problem))
        return None if arg is _NOTHING else arg

    async def _send(
        self, client: EngineClient, arg: Any, delay: timedelta | None, idempotency_key: str | None
    ) -> RestateClientSendHandle:
        # It carries the handler as a decorated function does, which is all that the client reads.
        me: Any = self
        key = self.key or ""
        match self._handler.service_tag.kind:
            case "service":
                return await client.service_send(me, arg, delay, idempotency_key)
            case "object":
                return await client.object_send(me, key, arg, delay, idempotency_key)
            case "workflow":
                return await client.workflow_send(me, key, arg, delay, idempotency_key)

    async def _notice(self, sent: RestateClientSendHandle) -> str:
        view: InvocationView = await self._session.client.invocation(sent.invocation_id)
        when = f"began {clock_time(view.created_at_ms)}"
        if view.completed_at_ms is not None:
            when += f" and ended {clock_time(view.completed_at_ms)}"
        if self._handler.kind == "workflow":
            return (
                f"attached to the run of {self.key} that {when}; a workflow runs once per key,"
                " with the input it began with"
            )
        return f"attached to the call with this idempotency key that {when}"


def _handler(definition: Definition, name: str) -> Handler[Any, Any]:
    handler = definition.handlers.get(name)
    if handler is None:
        what = f"{definition.name} has no handler"
        error = AttributeError(no_such(what, name, list(definition.handlers)))
        # IPython asks every object for its own reprs; those must not look like typing errors.
        raise error if name.startswith("_") else said(error)
    return handler


def _signature(handler: Handler[Any, Any]) -> inspect.Signature:
    """As one calls it: the handler's input, and not its ctx."""
    own = [*inspect.signature(handler.fn).parameters.values()][1 : handler.arity]
    given = [one.replace(kind=inspect.Parameter.POSITIONAL_ONLY) for one in own]
    key = inspect.Parameter("idempotency_key", inspect.Parameter.KEYWORD_ONLY, default=None)
    return inspect.Signature([*given, key])


def _described(handler: Handler[Any, Any]) -> str:
    what = f": {first_line(handler.description)}" if handler.description else ""
    return f"{handler.name}({'' if handler.arity == 1 else '…'}){what}"
