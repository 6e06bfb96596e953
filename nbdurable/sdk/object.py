"""A virtual object: handlers with a key and state; one writer per key at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Literal, Optional, TypeVar, Union

from nbdurable.sdk.definition import KeyedDefinition
from nbdurable.sdk.handler import HandlerIO
from nbdurable.sdk.options import InvocationRetryPolicy
from nbdurable.sdk.serde import DEFAULT_SERDE, Serde

I = TypeVar("I")  # noqa: E741 - the official SDK's name for an input type.
O = TypeVar("O")  # noqa: E741 - the official SDK's name for an output type.
T = TypeVar("T")


class VirtualObject(KeyedDefinition):
    """Handlers addressed by key, with a few named values kept per key.

    ```python
    counter = VirtualObject("Counter")

    @counter.handler()
    async def add(ctx: ObjectContext, amount: int) -> int:
        total = (await ctx.get("total", type_hint=int) or 0) + amount
        ctx.set("total", total)
        return total
    ```

    Takes what `Service` takes, and:

    Args:
        enable_lazy_state: Old spelling of `state_preload`, the other way round.
        state_preload: Which values an attempt is started with: all, none, or those named.
        state_retention: After so long without a write a key's state is cleared, unless a call
            holds the key or waits for it. None: never. Restate has no such option.
    """

    _kind = "object"

    def handler(
        self,
        name: Optional[str] = None,
        kind: Optional[Literal["exclusive", "shared"]] = "exclusive",
        accept: str = "application/json",
        content_type: str = "application/json",
        input_serde: Serde[I] = DEFAULT_SERDE,
        output_serde: Serde[O] = DEFAULT_SERDE,
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
    ) -> Callable[[T], T]:
        """Make a function a handler; the arguments are those of `Service.handler`, and `kind`.

        Args:
            kind: "exclusive" handlers of one key run one after the other and may write; "shared"
                ones (`ctx: ObjectSharedContext`) run at any time and only read.

        Raises:
            DefinitionError: When applied: signature, name or settings cannot work.
        """
        return self._decorator(
            kind,
            name,
            HandlerIO(accept, content_type, input_serde, output_serde),
            invocation_context_managers,
            metadata=metadata,
            inactivity_timeout=inactivity_timeout,
            abort_timeout=abort_timeout,
            journal_retention=journal_retention,
            idempotency_retention=idempotency_retention,
            enable_lazy_state=enable_lazy_state,
            state_preload=state_preload,
            ingress_private=ingress_private,
            invocation_retry_policy=invocation_retry_policy,
        )
