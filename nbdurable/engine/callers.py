"""Who waits for the result of an invocation, and is told once it is durable."""

from __future__ import annotations

from typing import NamedTuple

from nbdurable.core.ids import InvocationId
from nbdurable.core.state import EngineState
from nbdurable.core.values import Failure, Result
from nbdurable.engine.letters import Reply
from nbdurable.engine.vault import Vault
from nbdurable.errors import JournalDamagedError


class Outcome(NamedTuple):
    """The result of an invocation, with its bytes."""

    result: Result
    payload: bytes


class Callers:
    """Mutable: those who wait, by invocation. Owned by the engine's thread."""

    def __init__(self) -> None:
        self._waiting: dict[InvocationId, list[Reply[Outcome]]] = {}

    def __contains__(self, invocation_id: object) -> bool:
        return invocation_id in self._waiting

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, invocation_id: InvocationId, caller: Reply[Outcome]) -> None:
        self._waiting.setdefault(invocation_id, []).append(caller)

    def remove(self, invocation_id: InvocationId, caller: Reply[Outcome]) -> None:
        waiting = self._waiting.get(invocation_id, [])
        if caller in waiting:
            waiting.remove(caller)
        if not waiting:
            self._waiting.pop(invocation_id, None)

    def tell(self, invocation_id: InvocationId, result: Result, vault: Vault) -> None:
        callers = self._waiting.pop(invocation_id, None)
        if callers is None:
            return
        try:
            outcome = outcome_of(result, vault)
        except JournalDamagedError as error:
            _fail(callers, error)
            return
        for caller in callers:
            if caller.set_running_or_notify_cancel():
                caller.set_result(outcome)

    def tell_what_ended(self, state: EngineState, vault: Vault) -> None:
        """Of what ended in a commit that was not acted upon."""
        for invocation_id in list(self._waiting):
            ended = state.completed.get(invocation_id)
            if ended is not None:
                self.tell(invocation_id, ended.result, vault)
            elif invocation_id not in state.invocations:
                # It ended and was purged in that commit, or never was: nobody can tell any more.
                _fail(self._waiting.pop(invocation_id), KeyError(invocation_id))

    def fail_all(self, error: BaseException) -> None:
        for callers in self._waiting.values():
            _fail(callers, error)
        self._waiting.clear()


def outcome_of(result: Result, vault: Vault) -> Outcome:
    """Raises JournalDamagedError when its bytes are lost."""
    if isinstance(result, Failure):
        return Outcome(result, b"")
    return Outcome(result, vault.payload(result.value.lsn))


def _fail(callers: list[Reply[Outcome]], error: BaseException) -> None:
    for caller in callers:
        if caller.set_running_or_notify_cancel():
            caller.set_exception(error)
