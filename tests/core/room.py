"""A room with an engine machine in it: a table test says a proposal and reads what was decided.

Every decision is checked against all invariants, so each table test is one of them too.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nbdurable.core.actions import AnyAction
from nbdurable.core.attempt import ref_of, success_of
from nbdurable.core.commands import AnyCommand
from nbdurable.core.facts import AnyFact
from nbdurable.core.ids import InvocationId, keyed_invocation_id, random_invocation_id
from nbdurable.core.machine import EngineMachine
from nbdurable.core.manifest import HandlerManifest, ServiceManifest
from nbdurable.core.proposals import (
    Answer,
    AnyStep,
    AppendCommand,
    AttemptSteps,
    CloseLink,
    Invoke,
    LoadCode,
    OpenLink,
    Proposal,
    StartEpoch,
    Timer,
    TimerFired,
)
from nbdurable.core.records import Record
from nbdurable.core.values import (
    ErrorReport,
    HandlerType,
    RetryPolicy,
    Success,
    Target,
)
from nbdurable.testing.witness import Witness

LINK = "here"


def manifest(
    name: str,
    kind: str,
    handlers: dict[str, HandlerType | None],
    *,
    digest: str = "v1",
    retry: RetryPolicy | None = None,
    keyed: bool = False,
) -> ServiceManifest:
    return ServiceManifest(
        name=name,
        type=kind,  # type: ignore[arg-type]
        digest=digest,
        handlers=tuple(
            HandlerManifest(name=handler, type=type_, retry=retry or RetryPolicy(), keyed=keyed)
            for handler, type_ in handlers.items()
        ),
    )


def greeter(**options: Any) -> ServiceManifest:
    return manifest("Greeter", "service", {"greet": None}, **options)


def counter(state_retention_ms: int | None = None, **options: Any) -> ServiceManifest:
    handlers: dict[str, HandlerType | None] = {"add": "exclusive", "peek": "shared"}
    made = manifest("Counter", "virtual_object", handlers, **options)
    return msgspec.structs.replace(made, state_retention_ms=state_retention_ms)


def payment(**options: Any) -> ServiceManifest:
    handlers: dict[str, HandlerType | None] = {"run": "workflow", "approve": "shared"}
    return manifest("Payment", "workflow", handlers, **options)


GREET = Target(service="Greeter", handler="greet")


def add(key: str = "ada") -> Target:
    return Target(service="Counter", handler="add", key=key)


def peek(key: str = "ada") -> Target:
    return Target(service="Counter", handler="peek", key=key)


def run_of(key: str = "order") -> Target:
    return Target(service="Payment", handler="run", key=key)


def approve_of(key: str = "order") -> Target:
    return Target(service="Payment", handler="approve", key=key)


def value(data: bytes = b"1") -> Success:
    return success_of(data)


def error(message: str = "boom", **fields: Any) -> ErrorReport:
    return ErrorReport(message=message, **{"code": 500, **fields})


def kinds(things: list[Any]) -> list[str]:
    return [type(thing).__name__ for thing in things]


class Room:
    """Mutable. `facts` and `actions` are those of the last decision, `records` all so far.

    Checking takes as long as the past is long: `is_checked=False` is for very long ones.
    """

    def __init__(
        self, *services: ServiceManifest, link: str = LINK, is_checked: bool = True
    ) -> None:
        self._is_checked = is_checked
        self.machine = EngineMachine()
        self.now_ms = 1_000
        self.facts: list[AnyFact] = []
        self.actions: list[AnyAction] = []
        self.records: list[Record] = []
        self.witness = Witness()
        self._seeds = 0
        self.decide(StartEpoch(owner="test", version="0"))
        for service in services:
            self.load(service, link=link)

    @property
    def state(self) -> Any:
        return self.machine.state

    def decide(self, proposal: Proposal) -> Answer:
        decision = self.machine.decide(proposal, self.now_ms)
        self.facts = [record.fact for record in decision.records]
        self.actions = decision.actions
        self.records += decision.records
        if self._is_checked:
            self.witness.check(self.machine, decision)
        return decision.answer

    # -- deployment ---------------------------------------------------------------------------

    def load(
        self, service: ServiceManifest, *, link: str = LINK, pin: bool = False, **more: Any
    ) -> Any:
        return self.decide(LoadCode(link=link, manifest=service, pin=pin, **more))

    def open_link(self, link: str = LINK, *, slots: int | None = None) -> None:
        self.decide(OpenLink(link=link, slots=slots))

    def close_link(self, link: str = LINK) -> None:
        self.decide(CloseLink(link=link))

    def restart(self, *services: ServiceManifest) -> None:
        """The process dies and another takes the journal."""
        self.decide(StartEpoch(owner="test", version="0"))
        for service in services:
            self.load(service)

    # -- invocations --------------------------------------------------------------------------

    def invoke(
        self,
        target: Target = GREET,
        *,
        idempotency_key: str | None = None,
        start_at_ms: int | None = None,
        seed: int | None = None,
    ) -> InvocationId:
        proposal = self.invocation(
            target, idempotency_key=idempotency_key, start_at_ms=start_at_ms, seed=seed
        )
        self.answer = self.decide(proposal)
        return proposal.invocation_id

    def invocation(
        self,
        target: Target = GREET,
        *,
        idempotency_key: str | None = None,
        start_at_ms: int | None = None,
        seed: int | None = None,
    ) -> Invoke:
        """The proposal that `invoke` makes."""
        self._seeds += 1
        seed = self._seeds if seed is None else seed
        if target.handler == "run" or idempotency_key is not None:
            invocation_id = keyed_invocation_id(
                target.service, target.key, target.handler, idempotency_key
            )
        else:
            invocation_id = random_invocation_id(seed)
        return Invoke(
            invocation_id=invocation_id,
            seed=seed,
            target=target,
            argument=ref_of(b"in"),
            payload=b"in",
            idempotency_key=idempotency_key,
            start_at_ms=start_at_ms,
        )

    def inv(self, invocation_id: InvocationId) -> Any:
        inv = self.machine.state.find(invocation_id)
        assert inv is not None, f"there is no {invocation_id}"
        return inv

    def status(self, invocation_id: InvocationId) -> str:
        return self.inv(invocation_id).status

    # -- attempts -----------------------------------------------------------------------------

    def steps(
        self,
        invocation_id: InvocationId,
        *steps: AnyStep,
        epoch: int | None = None,
        seed: int | None = None,
        attempt: int = 0,
    ) -> Answer:
        inv = self.inv(invocation_id)
        return self.decide(
            AttemptSteps(
                epoch=self.state.epoch if epoch is None else epoch,
                invocation_id=invocation_id,
                seed=inv.seed if seed is None else seed,
                attempt=attempt or inv.attempt,
                steps=steps,
            )
        )

    def append(
        self, invocation_id: InvocationId, command: AnyCommand, payload: bytes | None = None
    ) -> Answer:
        return self.steps(invocation_id, AppendCommand(command=command, payload=payload))

    def fire(self, invocation_id: InvocationId, completion_id: int = 0) -> Answer:
        timer = Timer(invocation_id=invocation_id, completion_id=completion_id)
        return self.decide(TimerFired(timer=timer))
