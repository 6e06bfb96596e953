"""The name a cell binds: `Greeter.greet("World")`, `Counter["user123"].add(5)`.

A call submits at once, in a few milliseconds, and answers with a handle. Inside a handler such a
call would not be journaled, so there it is refused with what to write. A bound handler is also what
ctx calls take: `await ctx.service_call(Greeter.greet, "Ada")`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Final

from nbdurable.client.local import RestateClientSendHandle
from nbdurable.client.views import InvocationView
from nbdurable.errors import DefinitionError, HttpError, NbdurableError
from nbdurable.notebook.handle import Handle
from nbdurable.notebook.session import Session
from nbdurable.notebook.tracebacks import said
from nbdurable.notebook.widgets.picture import clock_time
from nbdurable.sdk import Handler, current_context
from nbdurable.sdk.definition import Definition

# None is a value that a handler may be sent.
_NOTHING: Final = object()
# Where the SDK finds the handler of a function; `ctx.service_call` looks there.
_HANDLER_ATTRIBUTE: Final = "__nbdurable_handler__"
_EXAMPLE_KEY: Final = '["my-key"]'


class BoundDefinition:
    """What a cell's name stands for. Its attributes are its handlers."""

    def __init__(self, session: Session, definition: Definition) -> None:
        self._session = session
        self._definition = definition

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
            raise said(TypeError(f"{tag.name} is a service and has no keys; write: {tag.name}"
                                 f".{first}(…)"))  # fmt: skip
        if not isinstance(key, str) or not key:
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
    """A handler, ready to be called, or to be named in a ctx call."""

    def __init__(self, session: Session, handler: Handler[Any, Any], key: str | None) -> None:
        self._session = session
        self._handler = handler
        self._key = key
        self.__doc__ = handler.description
        self.__name__ = handler.name
        vars(self)[_HANDLER_ATTRIBUTE] = handler

    def __repr__(self) -> str:
        parameter = "" if self._handler.arity == 1 else "…"
        return f"<handler {self._written}({parameter})>"

    def __call__(self, arg: Any = _NOTHING, *, idempotency_key: str | None = None) -> Handle:
        """Submit, and return the handle. A second call with the same idempotency key attaches."""
        return self._submit(arg, None, idempotency_key)

    def send(
        self,
        arg: Any = _NOTHING,
        *,
        delay: timedelta | None = None,
        idempotency_key: str | None = None,
    ) -> Handle:
        """Submit without meaning to wait; `delay` later if given, even if this kernel dies."""
        return self._submit(arg, delay, idempotency_key)

    @property
    def _written(self) -> str:
        """As it is written in a cell."""
        tag = self._handler.service_tag
        key = "" if self._key is None else f'["{self._key}"]'
        return f"{tag.name}{key}.{self._handler.name}"

    def _submit(self, arg: Any, delay: timedelta | None, idempotency_key: str | None) -> Handle:
        try:
            self._check(arg)
            if delay is not None and not isinstance(delay, timedelta):
                raise TypeError(f"delay is a timedelta; write: delay=timedelta(seconds={delay})")  # noqa: TRY301
            client = self._session.client
            value = None if arg is _NOTHING else arg
            sent = client.wait(self._send(client)(value, delay, idempotency_key))
            notice = client.wait(self._notice(sent)) if sent.existing else ""
        except HttpError as error:
            name = self._handler.service_tag.name
            todo = f"; run the cell that defines {name}" if error.status_code == 404 else ""  # noqa: PLR2004 - HTTP.
            raise said(DefinitionError(f"{error.message}{todo}")) from None
        except NbdurableError as error:
            self._session.forget_dead_engine(error)
            raise said(error) from None
        except TypeError as error:
            raise said(error) from None
        target = self._written.replace('["', "/").replace('"].', "/")
        if self._key is None:
            target = f"{self._handler.service_tag.name}/{self._handler.name}"
        serde = self._handler.handler_io.output_serde
        return Handle(self._session, sent.invocation_id, target, serde, notice)

    def _check(self, arg: Any) -> None:
        tag, name = self._handler.service_tag, self._handler.name
        if current_context() is not None:
            call = {"service": "service_call", "object": "object_call", "workflow": "workflow_call"}
            where = f"{tag.name}.{name}, " + ("" if tag.kind == "service" else "key, ")
            raise DefinitionError(
                f"a handler calls through its context, so that the call is journaled; write: "
                f"await ctx.{call[tag.kind]}({where}arg)"
            )
        if tag.kind != "service" and self._key is None:
            raise TypeError(f"{tag.name} is keyed; write: {tag.name}{_EXAMPLE_KEY}.{name}(…)")
        if self._handler.arity == 1 and arg is not _NOTHING:
            raise TypeError(f"{name} takes no input; write: {self._written}()")
        if self._handler.arity > 1 and arg is _NOTHING:
            raise TypeError(f"{name} takes one input; write: {self._written}(…)")

    def _send(self, client: Any) -> Callable[..., Coroutine[Any, Any, RestateClientSendHandle]]:
        def send(
            arg: Any, delay: timedelta | None, idempotency_key: str | None
        ) -> Coroutine[Any, Any, RestateClientSendHandle]:
            sent: Coroutine[Any, Any, RestateClientSendHandle]
            match self._handler.service_tag.kind:
                case "service":
                    sent = client.service_send(self, arg, delay, idempotency_key)
                case "object":
                    sent = client.object_send(self, self._key, arg, delay, idempotency_key)
                case "workflow":
                    sent = client.workflow_send(self, self._key, arg, delay, idempotency_key)
            return sent

        return send

    async def _notice(self, sent: RestateClientSendHandle) -> str:
        view: InvocationView = await self._session.client.invocation(sent.invocation_id)
        when = f"began {clock_time(view.created_at_ms)}"
        if view.completed_at_ms is not None:
            when += f" and ended {clock_time(view.completed_at_ms)}"
        if self._handler.kind == "workflow":
            return (
                f"attached to the run of {self._key} that {when}; a workflow runs once per key"
            )
        return f"attached to the call with this idempotency key that {when}"


def _handler(definition: Definition, name: str) -> Handler[Any, Any]:
    handler = definition.handlers.get(name)
    if handler is None:
        names = ", ".join(definition.handlers)
        error = AttributeError(f"{definition.name} has no handler {name!r}; it has: {names}")
        # IPython asks every object for its own reprs; those must not look like typing errors.
        raise error if name.startswith("_") else said(error)
    return handler
