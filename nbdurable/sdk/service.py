"""A service: handlers without a key, each invocation on its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Optional, TypeVar

from nbdurable.sdk.definition import Definition
from nbdurable.sdk.handler import HandlerIO, ServiceTag
from nbdurable.sdk.options import InvocationRetryPolicy
from nbdurable.sdk.serde import DEFAULT_SERDE, Serde

I = TypeVar("I")  # noqa: E741 - the official SDK's name for an input type.
O = TypeVar("O")  # noqa: E741 - the official SDK's name for an output type.
T = TypeVar("T")


class Service(Definition):
    """Handlers that run side by side and share nothing.

    ```python
    greeter = Service("Greeter")

    @greeter.handler()
    async def greet(ctx: Context, name: str) -> str:
        return await ctx.run_typed("compose", compose, name=name)
    ```

    Args:
        name: What callers use; letters, digits, `_`, `.` and `-`.
        description: For readers.
        metadata: For tools.
        inactivity_timeout: After this long without progress an attempt is asked to suspend. One
            that only sleeps, and for longer, is unwound at once.
        abort_timeout: After this long more it is stopped.
        journal_retention: How long a finished invocation's journal is kept.
        idempotency_retention: How long an idempotency key is remembered.
        ingress_private: True refuses calls from outside; handlers may still call each other.
        invocation_retry_policy: For invocations of every handler.
        invocation_context_managers: Entered around every attempt of every handler.
    """

    def __init__(
        self,
        name: str,
        description: Optional[str] = None,
        metadata: Optional[dict[str, str]] = None,
        inactivity_timeout: Optional[timedelta] = None,
        abort_timeout: Optional[timedelta] = None,
        journal_retention: Optional[timedelta] = None,
        idempotency_retention: Optional[timedelta] = None,
        ingress_private: Optional[bool] = None,
        invocation_retry_policy: Optional[InvocationRetryPolicy] = None,
        invocation_context_managers: Optional[
            list[Callable[[], AbstractAsyncContextManager[None]]]
        ] = None,
    ) -> None:
        super().__init__(
            ServiceTag("service", name, description, metadata),
            inactivity_timeout=inactivity_timeout,
            abort_timeout=abort_timeout,
            journal_retention=journal_retention,
            idempotency_retention=idempotency_retention,
            ingress_private=ingress_private,
            invocation_retry_policy=invocation_retry_policy,
            invocation_context_managers=invocation_context_managers,
        )

    def handler(
        self,
        name: Optional[str] = None,
        accept: str = "application/json",
        content_type: str = "application/json",
        input_serde: Serde[I] = DEFAULT_SERDE,
        output_serde: Serde[O] = DEFAULT_SERDE,
        metadata: Optional[dict[str, str]] = None,
        inactivity_timeout: Optional[timedelta] = None,
        abort_timeout: Optional[timedelta] = None,
        journal_retention: Optional[timedelta] = None,
        idempotency_retention: Optional[timedelta] = None,
        ingress_private: Optional[bool] = None,
        invocation_retry_policy: Optional[InvocationRetryPolicy] = None,
        invocation_context_managers: Optional[
            list[Callable[[], AbstractAsyncContextManager[None]]]
        ] = None,
    ) -> Callable[[T], T]:
        """Make a function `async def f(ctx)` or `async def f(ctx, input)` a handler.

        A `def` works as well: it runs on a thread of its own, may block, and waits for what ctx
        calls return with `.result()` or `nbdurable.wait()` where an `async def` writes `await`.

        The arguments that the service has too override the service's for this handler.

        Args:
            name: None takes the function's name.
            accept: Content type of requests; wildcards allowed.
            content_type: Content type of responses.
            input_serde: Reads the input; the default one follows the annotation.
            output_serde: Writes the output; the default one follows the annotation.

        Raises:
            DefinitionError: When applied: signature, name or settings cannot work.
        """
        return self._decorator(
            None,
            name,
            HandlerIO(accept, content_type, input_serde, output_serde),
            invocation_context_managers,
            metadata=metadata,
            inactivity_timeout=inactivity_timeout,
            abort_timeout=abort_timeout,
            journal_retention=journal_retention,
            idempotency_retention=idempotency_retention,
            ingress_private=ingress_private,
            invocation_retry_policy=invocation_retry_policy,
        )
