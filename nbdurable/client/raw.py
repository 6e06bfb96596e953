"""Calls by name, bytes in and bytes out: for a surface that passes on what somebody else wrote.

A call over HTTP costs little more than a call in this process: see `calling.py`, `returning.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from nbdurable.client.calling import Calling, Doing, expires_at_ms_of
from nbdurable.client.returning import Returning, heard
from nbdurable.client.seeds import Seeds
from nbdurable.core.attempt import ref_of, success_of
from nbdurable.core.facts import Completed
from nbdurable.core.ids import InvocationId, keyed_invocation_id, random_invocation_id
from nbdurable.core.manifest import ServiceManifest
from nbdurable.core.proposals import (
    Answer,
    CompleteAwakeable,
    Invoke,
    Invoked,
    Proposal,
    Refused,
)
from nbdurable.core.values import Answered, Failure, Result, Target
from nbdurable.engine.callers import Outcome
from nbdurable.engine.loop import Engine
from nbdurable.engine.ports import Clock

T = TypeVar("T")
# An ingress knows no person: only that whoever asks has the token.
_BY_HTTP = Answered(by="HTTP")


class RawCall(NamedTuple):
    """`is_run`: of a workflow's main handler, which runs once per key."""

    target: Target
    payload: bytes
    headers: Mapping[str, str]
    idempotency_key: str | None = None
    limit_key: str | None = None
    start_at_ms: int | None = None
    is_run: bool = False


class Ended(NamedTuple):
    """What an invocation came to.

    `expires_at_ms` is when it will be forgotten, None while that is nobody's concern: for whoever
    started it. `content_type` is None where the caller knows which handler it called.
    """

    invocation_id: InvocationId
    result: Result
    payload: bytes
    expires_at_ms: int | None = None
    content_type: str | None = None


class RawClient:
    """Mutable: what is on its way back. Owned by the loop it was made on; make one per loop."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.engine = engine
        self._clock = clock
        self.returning = Returning(asyncio.get_running_loop())
        self._draw_seed = Seeds()

    @property
    def services(self) -> Mapping[str, ServiceManifest]:
        """The latest revision of each."""
        return self.engine.services

    def now_ms(self) -> int:
        return self._clock.now_ms()

    async def call(self, call: RawCall) -> Ended | Invoked | Refused:
        """Invoke and wait for the end. `Invoked` is the run that a workflow's key has already.

        Cancelling the wait leaves the invocation alone.

        Raises:
            EngineClosedError: Nobody can say what became of it; it goes on at the next open.
        """
        invoke = self._invoke(call)
        calling = Calling(self.engine, self.returning, invoke, is_run=call.is_run)
        came_to = await calling.came_to()
        if isinstance(came_to, Outcome):
            id_, expires_at_ms = invoke.invocation_id, calling.expires_at_ms
            return Ended(id_, came_to.result, came_to.payload, expires_at_ms)
        return came_to

    async def send(self, call: RawCall) -> Invoked | Refused:
        answer = await self._do(self._invoke(call))
        assert isinstance(answer, Invoked | Refused), answer
        return answer

    async def attach(self, invocation_id: InvocationId) -> Ended | None:
        """Wait for the end; None when there is no such invocation."""
        attaching = _Attaching(self, invocation_id)
        try:
            await self.ask(attaching.begin)
            ended: Ended | None = await attaching.future
        except asyncio.CancelledError:
            self.engine.leave(invocation_id, attaching)
            raise
        return ended

    async def output(self, invocation_id: InvocationId) -> Ended | bool:
        """What it came to; else whether there is such an invocation, which then runs still."""

        def look() -> Ended | bool:
            state = self.engine.machine.state
            ended = state.completed.get(invocation_id)
            if ended is None:
                return invocation_id in state.invocations
            return self.ended(ended, self.engine.outcome(invocation_id))

        return await heard(self.engine.look(look))

    async def resolve_awakeable(self, awakeable_id: str, payload: bytes) -> Answer:
        result = success_of(payload)
        return await self._do(
            CompleteAwakeable(
                awakeable_id=awakeable_id, result=result, payload=payload, answered=_BY_HTTP
            )
        )

    async def reject_awakeable(self, awakeable_id: str, message: str) -> Answer:
        failure = Failure(code=500, message=message)
        return await self._do(
            CompleteAwakeable(awakeable_id=awakeable_id, result=failure, answered=_BY_HTTP)
        )

    async def ask(self, question: Callable[[], T]) -> T:
        """Look at the engine between two batches."""
        return await heard(self.engine.ask(question))

    # -- inside -------------------------------------------------------------------------------

    def _invoke(self, call: RawCall) -> Invoke:
        target, seed = call.target, self._draw_seed()
        invocation_id = (
            keyed_invocation_id(
                target.service, target.key, target.handler, call.idempotency_key, target.scope
            )
            if call.is_run or call.idempotency_key is not None
            else random_invocation_id(seed)
        )
        return Invoke(
            invocation_id=invocation_id,
            seed=seed,
            target=target,
            argument=ref_of(call.payload),
            payload=call.payload,
            headers=call.headers,
            idempotency_key=call.idempotency_key,
            limit_key=call.limit_key,
            start_at_ms=call.start_at_ms,
        )

    async def _do(self, proposal: Proposal) -> Answer:
        doing = Doing(self.engine, self.returning)
        self.engine.submit(proposal, doing)
        answer: Answer = await doing.future
        return answer

    def ended(self, ended: Completed, outcome: Outcome) -> Ended:
        """On the engine's thread."""
        handler = self.engine.machine.state.handler(ended.target, ended.revision)
        return Ended(
            ended.id,
            outcome.result,
            outcome.payload,
            expires_at_ms_of(ended),
            "application/json" if handler is None else handler.content_type,
        )


class _Attaching(Doing):
    def __init__(self, client: RawClient, invocation_id: InvocationId) -> None:
        super().__init__(client.engine, client.returning)
        self._client = client
        self._invocation_id = invocation_id

    def begin(self) -> None:
        try:
            self.engine.join(self._invocation_id, self)
        except KeyError:
            self.hand_back(None)

    def set_result(self, result: Outcome) -> None:
        ended = self.engine.machine.state.completed.get(self._invocation_id)
        if ended is None:
            # It was purged in the moment it ended: all that is left of it is the result.
            self.hand_back(Ended(self._invocation_id, result.result, result.payload))
        else:
            self.hand_back(self._client.ended(ended, result))
