"""A call is one letter to the engine and one word back, whatever happens between."""

from __future__ import annotations

import asyncio
from typing import Any

from nbdurable.client.returning import Returning
from nbdurable.core.facts import Completed
from nbdurable.core.proposals import Answer, Invoke, Invoked, Refused
from nbdurable.engine.callers import Outcome
from nbdurable.engine.loop import Engine


class Doing:
    """A reply of the engine's that ends in a future of the loop where it is waited for."""

    def __init__(self, engine: Engine, returning: Returning) -> None:
        self.engine = engine
        self._returning = returning
        self.future: asyncio.Future[Any] = returning.loop.create_future()

    def done(self) -> bool:
        return False

    def set_running_or_notify_cancel(self) -> bool:
        return not self.future.done()

    def set_result(self, result: Any) -> None:
        self.hand_back(result)

    def set_exception(self, error: BaseException) -> None:
        self.hand_back(None, error)

    def hand_back(self, result: Any, error: BaseException | None = None) -> None:
        self._returning.put(self.future, result, error)


class Calling(Doing):
    """Told twice: that it was invoked, and then, in the same place, what it came to.

    `expires_at_ms` is known of one that had ended before: when it will be forgotten.
    """

    def __init__(
        self, engine: Engine, returning: Returning, invoke: Invoke, *, is_run: bool
    ) -> None:
        super().__init__(engine, returning)
        self._invoke = invoke
        self._invocation_id = invoke.invocation_id
        self._is_run = is_run
        self.expires_at_ms: int | None = None

    async def came_to(self) -> Outcome | Invoked | Refused:
        """Invoke and wait for the end. `Invoked` is the run that a workflow's key has already.

        Cancelling the wait leaves the invocation alone.

        Raises:
            EngineClosedError: Nobody can say what became of it; it goes on at the next open.
        """
        self.engine.submit(self._invoke, self)
        try:
            came_to: Outcome | Invoked | Refused = await self.future
        except asyncio.CancelledError:
            self.engine.leave(self._invocation_id, self)
            raise
        return came_to

    def set_result(self, result: Answer | Outcome) -> None:
        match result:
            case Invoked(existing=existing) if not (existing and self._is_run):
                if existing:
                    ended = self.engine.machine.state.completed.get(self._invocation_id)
                    self.expires_at_ms = None if ended is None else expires_at_ms_of(ended)
                self._join()
            case _:
                self.hand_back(result)

    def _join(self) -> None:
        try:
            self.engine.join(self._invocation_id, self)
        except KeyError:
            # Somebody purged it in the batch that found it.
            self.hand_back(Refused(code=404, message="invocation not found"))
        except Exception as error:  # noqa: BLE001 - border: one result that cannot be read.
            self.hand_back(None, error)


def expires_at_ms_of(ended: Completed) -> int | None:
    retention_ms = ended.completion_retention_ms
    return None if retention_ms is None else ended.completed_at_ms + retention_ms
