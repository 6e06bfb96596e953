"""What a person does to invocations: end, pause, resume and restart them, answer them."""

from __future__ import annotations

from typing import Any, Literal

from nbdurable.client.asking import Asking
from nbdurable.client.calls import Addressed, refuse_address
from nbdurable.client.questions import (
    RestartOf,
)
from nbdurable.core.ids import (
    InvocationId,
)
from nbdurable.core.proposals import (
    AcceptMismatch,
    CancelInvocation,
    Cleaned,
    CleanUp,
    CompleteAwakeable,
    CompletePromise,
    Invoked,
    KillInvocation,
    PauseInvocation,
    PurgeInvocation,
    PurgeJournal,
    ResumeInvocation,
    SendSignal,
)
from nbdurable.core.values import Answered, Failure, Result
from nbdurable.errors import (
    ConflictError,
    HttpError,
)
from nbdurable.sdk.serde import DEFAULT_SERDE, Serde


class Deeds(Asking):
    """One proposal each."""

    async def cancel(self, invocation_id: str) -> None:
        """The handler sees a TerminalError with code 409 at its await, and may compensate."""
        await self._do(CancelInvocation(invocation_id=InvocationId(invocation_id)))

    async def kill(self, invocation_id: str) -> None:
        """End it now, without running any of its code."""
        await self._do(KillInvocation(invocation_id=InvocationId(invocation_id)))

    async def pause(self, invocation_id: str) -> None:
        await self._do(PauseInvocation(invocation_id=InvocationId(invocation_id)))

    async def resume(
        self, invocation_id: str, revision: int | Literal["keep", "latest"] = "keep"
    ) -> None:
        """Try again now what is paused or backs off, perhaps on another revision of its code."""
        await self._do(
            ResumeInvocation(invocation_id=InvocationId(invocation_id), revision=revision)
        )

    async def accept_mismatch(self, invocation_id: str) -> None:
        """Let what is recorded stand for what the code asks now, and go on behind it.

        Raises:
            ConflictError: It is not paused by a journal mismatch, or by one of another kind.
        """
        await self._do(AcceptMismatch(invocation_id=InvocationId(invocation_id)))

    async def restart_as_new(
        self,
        invocation_id: str,
        from_entry: int = 1,
        revision: int | Literal["keep", "latest"] = "latest",
    ) -> InvocationId:
        """Start a completed invocation anew: its input, and its journal before `from_entry`.

        Args:
            invocation_id: The completed one; it stays as it is.
            from_entry: Index of the first entry that is not taken over; 1 takes the input only.
            revision: Of the code that the new one runs.

        Returns:
            The id of the new invocation.

        Raises:
            InvocationNotFoundError: There is no such invocation.
            ConflictError: It has not completed.
            HttpError: 422, it is of a workflow, which runs once per key; 410, its journal is gone;
                400, it has no such entry.
        """
        if not isinstance(from_entry, int):
            raise HttpError(400, f"from_entry is the index of an entry, not {from_entry!r}")
        of = InvocationId(invocation_id)
        seed = self._draw_seed()
        proposal = await self._ask(
            RestartOf(invocation_id=of, from_entry=from_entry, revision=revision, new_seed=seed)
        )
        if proposal is None:
            raise ConflictError(f"The invocation '{of}' is not yet completed.")
        answer = await self._do(proposal)
        assert isinstance(answer, Invoked)
        return answer.invocation_id

    async def purge(self, invocation_id: str) -> None:
        """Forget a completed invocation; with a workflow's run, its state and promises too."""
        await self._do(PurgeInvocation(invocation_id=InvocationId(invocation_id)))

    async def purge_journal(self, invocation_id: str) -> None:
        """Forget what a completed invocation did; that it was, and its result, stay."""
        await self._do(PurgeJournal(invocation_id=InvocationId(invocation_id)))

    async def clean_up(self) -> int:
        """Purge now what has been kept for as long as it should be; how many were."""
        purged_count = 0
        while True:
            answer = await self._do(CleanUp())
            assert isinstance(answer, Cleaned)
            purged_count += answer.purged_count
            if answer.is_done:
                return purged_count

    async def resolve_awakeable(
        self,
        awakeable_id: str,
        value: Any = None,
        serde: Serde[Any] = DEFAULT_SERDE,
        answered: Answered | None = None,
    ) -> None:
        """`answered`: who says so, and a comment, to be kept beside it."""
        result, payload = await self._success(serde, value, "awakeable's value")
        await self._do(
            CompleteAwakeable(
                awakeable_id=awakeable_id, result=result, payload=payload, answered=answered
            )
        )

    async def reject_awakeable(
        self,
        awakeable_id: str,
        message: str,
        code: int = 500,
        answered: Answered | None = None,
    ) -> None:
        failure = Failure(code=code, message=message)
        await self._do(
            CompleteAwakeable(awakeable_id=awakeable_id, result=failure, answered=answered)
        )

    async def resolve_promise(
        self,
        workflow: str,
        key: str,
        promise: str,
        value: Any = None,
        serde: Serde[Any] = DEFAULT_SERDE,
        scope: str | None = None,
        answered: Answered | None = None,
    ) -> None:
        """ConflictError when it was completed before: a promise is written once.

        `answered`: who says so, and a comment, to be kept beside it.
        """
        refuse_address(Addressed(key, None, None, scope))
        result, payload = await self._success(serde, value, f"promise {promise!r}")
        await self._do(
            CompletePromise(
                service=workflow,
                key=key,
                promise=promise,
                result=result,
                payload=payload,
                scope=scope,
                **_by(answered),
            )
        )

    async def reject_promise(
        self,
        workflow: str,
        key: str,
        promise: str,
        message: str,
        code: int = 500,
        scope: str | None = None,
        answered: Answered | None = None,
    ) -> None:
        refuse_address(Addressed(key, None, None, scope))
        failure = Failure(code=code, message=message)
        await self._do(
            CompletePromise(
                service=workflow,
                key=key,
                promise=promise,
                result=failure,
                scope=scope,
                **_by(answered),
            )
        )

    async def resolve_signal(
        self, invocation_id: str, name: str, value: Any = None, serde: Serde[Any] = DEFAULT_SERDE
    ) -> None:
        """Send a value under a name; the next wait for this name takes it, also if that is later.

        Raises:
            InvocationNotFoundError: There is no such invocation.
            ConflictError: It has ended.
        """
        result, payload = await self._success(serde, value, f"signal {name!r}")
        await self._send_signal(invocation_id, name, result, payload)

    async def reject_signal(
        self, invocation_id: str, name: str, message: str, code: int = 500
    ) -> None:
        """Whoever takes this signal sees a TerminalError."""
        await self._send_signal(invocation_id, name, Failure(code=code, message=message), None)

    async def _send_signal(
        self, invocation_id: str, name: str, result: Result, payload: bytes | None
    ) -> None:
        to = InvocationId(invocation_id)
        await self._do(SendSignal(invocation_id=to, name=name, result=result, payload=payload))


def _by(answered: Answered | None) -> dict[str, Any]:
    return {} if answered is None else {"by": answered.by, "comment": answered.comment}
