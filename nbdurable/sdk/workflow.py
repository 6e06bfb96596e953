"""A workflow: one run per key, and handlers to talk to it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Optional, TypeVar, Union

from nbdurable.errors import DefinitionError
from nbdurable.sdk.definition import KeyedDefinition
from nbdurable.sdk.handler import Handler, HandlerIO
from nbdurable.sdk.options import InvocationRetryPolicy
from nbdurable.sdk.serde import DEFAULT_SERDE, Serde

I = TypeVar("I")  # noqa: E741 - the official SDK's name for an input type.
O = TypeVar("O")  # noqa: E741 - the official SDK's name for an output type.
T = TypeVar("T")


class Workflow(KeyedDefinition):
    """A main handler that runs once per key, and shared handlers that reach the run.

    ```python
    payment = Workflow("Payment")

    @payment.main()
    async def run(ctx: WorkflowContext, order: dict) -> str:
        return await ctx.promise("approval", type_hint=str)

    @payment.handler()
    async def approve(ctx: WorkflowSharedContext, by: str) -> None:
        await ctx.promise("approval").resolve(by)
    ```

    Takes what `VirtualObject` takes.
    """

    _kind = "workflow"

    def main(
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
        workflow_retention: Optional[timedelta] = None,
        enable_lazy_state: Optional[bool] = None,
        state_preload: Optional[Union[bool, list[str]]] = None,
        ingress_private: Optional[bool] = None,
        invocation_retry_policy: Optional[InvocationRetryPolicy] = None,
        invocation_context_managers: Optional[
            list[Callable[[], AbstractAsyncContextManager[None]]]
        ] = None,
    ) -> Callable[[T], T]:
        """Make a function the main handler; takes what `Service.handler` takes, and one more.

        Args:
            workflow_retention: How long a finished run's result, state and promises are kept.

        Raises:
            DefinitionError: When applied: there is a main handler already, or the signature, the
                name or the settings cannot work.
        """
        return self._decorator(
            "workflow",
            name,
            HandlerIO(accept, content_type, input_serde, output_serde),
            invocation_context_managers,
            metadata=metadata,
            inactivity_timeout=inactivity_timeout,
            abort_timeout=abort_timeout,
            journal_retention=journal_retention,
            workflow_retention=workflow_retention,
            enable_lazy_state=enable_lazy_state,
            state_preload=state_preload,
            ingress_private=ingress_private,
            invocation_retry_policy=invocation_retry_policy,
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
        enable_lazy_state: Optional[bool] = None,
        state_preload: Optional[Union[bool, list[str]]] = None,
        ingress_private: Optional[bool] = None,
        invocation_retry_policy: Optional[InvocationRetryPolicy] = None,
        invocation_context_managers: Optional[
            list[Callable[[], AbstractAsyncContextManager[None]]]
        ] = None,
    ) -> Callable[[T], T]:
        """Make a function a shared handler; the arguments are those of `Service.handler`.

        Raises:
            DefinitionError: When applied: signature, name or settings cannot work.
        """
        return self._decorator(
            "shared",
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

    def _add(self, handler: Handler[Any, Any]) -> None:
        mains = [other.name for other in self.handlers.values() if other.kind == "workflow"]
        if handler.kind == "workflow" and mains not in ([], [handler.name]):
            raise DefinitionError(
                f"workflow {self.name!r} has the main handler {mains[0]!r} already; write "
                f"@{self.name.lower()}.handler() over {handler.name!r}"
            )
        super()._add(handler)
