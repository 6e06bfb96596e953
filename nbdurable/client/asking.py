"""What every client of an engine is made of: proposals and questions, and waiting for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from nbdurable.client.access import Access
from nbdurable.client.operator import error_of
from nbdurable.client.questions import (
    Question,
)
from nbdurable.client.returning import heard
from nbdurable.client.seeds import Seeds
from nbdurable.core.attempt import success_of
from nbdurable.core.proposals import (
    Answer,
    Proposal,
    Refused,
)
from nbdurable.core.values import Failure, Success
from nbdurable.engine.callers import Outcome
from nbdurable.invoker.local import LocalLink
from nbdurable.invoker.report import terminal_error_of
from nbdurable.invoker.wire_source import WireSource
from nbdurable.sdk.serde import Serde

T = TypeVar("T")


class Asking:
    """Stateless; every method is one proposal to the engine, or one look at it."""

    def __init__(
        self,
        access: Access,
        link: LocalLink,
        *,
        wires: WireSource | None = None,
        draw_seed: Callable[[], int] | None = None,
    ) -> None:
        """`link` is where this process runs its own handlers."""
        self._access = access
        self._link = link
        self._wires = wires or link.wires
        self._draw_seed = draw_seed or Seeds()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._link.name}>"

    def wait(self, asked: Coroutine[Any, Any, T]) -> T:
        """Run one of the methods above to its end from synchronous code, in any other thread."""
        try:
            self._access.check_alive()
        except BaseException:
            asked.close()
            raise
        asking = asyncio.run_coroutine_threadsafe(asked, self._access.loop)
        try:
            return asking.result()
        except BaseException:
            # Interrupted: nobody will hear the answer, so the engine need not go on asking.
            asking.cancel()
            raise

    # -- inside -------------------------------------------------------------------------------

    async def _success(self, serde: Serde[Any], value: Any, root: str) -> tuple[Success, bytes]:
        payload, comparable = (await self._wires.get()).write(serde, value, root)
        return success_of(payload, comparable=comparable), payload

    async def _value(self, outcome: Outcome, serde: Serde[Any]) -> Any:
        if isinstance(outcome.result, Failure):
            raise terminal_error_of(outcome.result)
        return await (await self._wires.get()).read(serde, outcome.payload)

    async def _do(self, proposal: Proposal) -> Answer:
        answer = await heard(self._access.propose(proposal))
        if isinstance(answer, Refused):
            raise error_of(answer)
        return answer

    async def _ask(self, question: Question[T]) -> T:
        return await heard(self._access.ask(question))
