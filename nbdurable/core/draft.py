"""A decision in the making: what a rule writes into.

Recording a fact applies it at once, through `evolve`, so that a rule that records several facts
sees the state its earlier facts made. Nothing is acted upon before the whole batch is durable.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nbdurable.core.actions import AnyAction, StopAttempt
from nbdurable.core.evolve import evolve
from nbdurable.core.facts import AnyFact
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import Answer
from nbdurable.core.records import CopyOf, Record
from nbdurable.core.state import EngineState, Invocation


@dataclass(slots=True)
class Decision:
    """What one proposal led to: facts to commit, then actions to carry out, then the answer."""

    records: list[Record]
    actions: list[AnyAction]
    answer: Answer


@dataclass(slots=True)
class Draft:
    """Mutable; lives for one decision, on the engine thread."""

    state: EngineState
    now_ms: int
    records: list[Record] = field(default_factory=list)
    actions: list[AnyAction] = field(default_factory=list)

    def record(self, fact: AnyFact, payload: bytes | CopyOf | None = None) -> int:
        """Returns the lsn under which the fact, and its payload, will be found."""
        lsn = self.state.last_lsn + 1
        evolve(self.state, lsn, self.now_ms, fact)
        self.records.append(Record(lsn, self.now_ms, fact, payload))
        return lsn

    def act(self, action: AnyAction) -> None:
        self.actions.append(action)

    def live(self, invocation_id: InvocationId) -> Invocation | None:
        return self.state.invocations.get(invocation_id)

    def stop(self, invocation: Invocation, why: str) -> None:
        """Order the live attempt, if there is one, to end without proposing anything more."""
        if invocation.link is not None:
            self.act(
                StopAttempt(
                    invocation_id=invocation.id,
                    attempt=invocation.attempt,
                    link=invocation.link,
                    why=why,
                )
            )
