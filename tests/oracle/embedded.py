"""Ours: the handler of a definition on an `AttemptMachine`, without an engine.

The host below stands for the engine: it records what is proposed, and answers nothing but what
steps return, so that every other wait suspends or waits to be told.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from typing import Any

from support.running import HandClock

from nbdurable.core.attempt import success_of
from nbdurable.core.commands import (
    AnyCommand,
    AwakeableCommand,
    CallCommand,
    OneWayCallCommand,
    OutputCommand,
    entry_type,
    payload_ref,
)
from nbdurable.core.futures import Completion, FutureTree, Leaf, NamedSignal, leaves
from nbdurable.core.ids import (
    CANCEL_SIGNAL,
    InvocationId,
    parse_awakeable_id,
    random_invocation_id,
)
from nbdurable.core.journal import AttemptStart, JournalEntry
from nbdurable.core.notifications import AnyNotification, CompletionNotification, SignalNotification
from nbdurable.core.proposals import (
    AppendCommand,
    AttemptSteps,
    CompleteRun,
    FailAttempt,
    FailRun,
    Suspend,
)
from nbdurable.core.values import Failure, Result, Success, Target
from nbdurable.invoker.attempt import Attempt
from nbdurable.invoker.local import _handled
from nbdurable.invoker.seal import Seal
from nbdurable.invoker.wire import Written
from nbdurable.invoker.wire_source import WireSource
from nbdurable.sdk.definition import Definition
from oracle.journals import (
    Asked,
    Attempted,
    Came,
    Ending,
    Entry,
    Failed,
    Label,
    came_of_name,
    commands,
    until_idle,
    value_of,
)

INVOCATION = random_invocation_id(1)
# The programs pickle nothing, so that nobody asks for the key.
WIRES = WireSource(Seal(lambda: b""))
# An attempt that neither ends nor suspends by then never will.
STUCK_S_MAX = 20.0
NEVER_MS = 1_000_000_000


class Host:
    """Mutable: stands for the engine, and so records what an attempt proposes.

    What a step returns is heard by the attempt at once if it is `live`; else when no step is
    executing any more, as in request/response mode.
    """

    always_replay = False

    def __init__(self, journal: list[Entry], *, live: bool) -> None:
        self.clock = HandClock()
        self.attempt: Attempt | None = None
        self.journal = list(journal)
        self.ending: Ending | None = None
        self.tried_again: list[int] = []
        self._live = live
        self._unheard: list[JournalEntry] = []

    @property
    def pool(self) -> Executor:
        raise AssertionError("the programs of the oracle have async steps only")

    def propose(self, steps: AttemptSteps) -> None:
        for step in steps.steps:
            assert self.ending is None, f"{step} after the end of the attempt"
            match step:
                case AppendCommand(command=command, payload=payload):
                    entry = Entry(_asked(self.journal, command, payload), (command, payload))
                    self.journal.append(entry)
                    if isinstance(command, OutputCommand):
                        self.ending = Ending(how="ended")
                case CompleteRun(completion_id=number, result=result, payload=payload):
                    self._record_run(number, result, payload)
                case FailRun(completion_id=number, error=error, retry=retry):
                    if retry.gives_up(1, 0):
                        self._record_run(number, Failure(code=500, message=error.message), None)
                    else:
                        self.tried_again.append(number)
                case FailAttempt(error=error):
                    failure = Failed(error.code, error.message)
                    self.ending = Ending(how="failed", failure=failure)
                case Suspend(waiting_for=tree):
                    waits_for = _waits_for(self.journal, tree)
                    self.ending = Ending(how="suspended", waits_for=waits_for)

    def append(self, entry: Entry) -> None:
        """Record a notification and let the attempt hear it, now or when its steps have ended."""
        self.journal.append(entry)
        self._unheard.append(JournalEntry(len(self.journal), *entry.native))
        assert self.attempt is not None
        if self._live or not self.attempt._executing:
            self.attempt.deliver(self._unheard)
            self._unheard.clear()

    def suspend_later(self, suspension: AttemptSteps, after_s: float) -> None:
        """There is no clock here: what is to be said later is said."""
        self.propose(suspension)

    def inherit(self, children: Sequence[InvocationId], context: contextvars.Context) -> None:
        """Output is not routed here."""

    def is_run(self, target: Target) -> bool:
        return False

    def thread_runs(self, change: int) -> None:
        """The programs of the oracle have no `def` handlers."""

    def ended(self, attempt: Attempt) -> None:
        """Whoever waits for it waits for `attempt.finished`."""

    def _record_run(self, completion_id: int, result: Result, payload: bytes | None) -> None:
        label = _label_of(self.journal, Completion(id=completion_id))
        notification = CompletionNotification(completion_id=completion_id, of="Run", result=result)
        seen = Came(label=label, result=_result(result, payload))
        self.append(Entry(seen, (notification, payload)))


class Live:
    """Mutable: one attempt that never suspends, and is told what comes."""

    def __init__(
        self, host: Host, came: Callable[[list[Entry], Label, bytes | Failed], Entry]
    ) -> None:
        self.host = host
        self._came = came

    @property
    def journal(self) -> list[Entry]:
        return self.host.journal

    @property
    def ending(self) -> Ending | None:
        return self.host.ending

    async def idle(self) -> None:
        await until_idle(lambda: len(self.journal) if self.ending is None else -1)

    def tell(self, label: Label, result: bytes | Failed) -> None:
        self.host.append(self._came(self.journal, label, result))

    async def close(self) -> None:
        assert self.host.attempt is not None
        self.host.attempt.stop("the test is over")
        await self.host.attempt.finished.wait()


class Embedded:
    """Immutable: one handler of one definition, one invocation of it."""

    def __init__(
        self,
        definition: Definition,
        handler: str,
        *,
        argument: bytes = b"",
        key: str | None = None,
        state: dict[str, bytes] | None = None,
        seed: int = 0,
    ) -> None:
        self._handler = definition.handlers[handler]
        self._target = Target(service=definition.service_tag.name, handler=handler, key=key)
        self._argument = argument
        self._state = state or {}
        self._seed = seed

    async def attempt(self, journal: list[Entry]) -> Attempted:
        host = self._begun(journal, live=False)
        assert host.attempt is not None
        async with asyncio.timeout(STUCK_S_MAX):
            await host.attempt.finished.wait()
        assert host.ending is not None, f"the attempt has no end: {host.journal}"
        return Attempted(host.journal[len(journal) :], host.ending)

    def live(self) -> Live:
        return Live(self._begun([], live=True), self.came)

    def came(self, journal: list[Entry], label: Label, result: bytes | Failed) -> Entry:
        notification: AnyNotification
        said: Result = (
            Failure(code=result.code, message=result.message)
            if isinstance(result, Failed)
            else success_of(result)
        )
        if isinstance(label, int):
            command, _ = commands(journal)[label].native
            notification = CompletionNotification(
                completion_id=command.completion_id,
                of=entry_type(command).removeprefix("Command: "),
                result=said,
            )
        else:
            match label.split():
                case ["awakeable", number]:
                    notification = SignalNotification(signal_id=int(number), result=said)
                case ["signal", name, index]:
                    notification = SignalNotification(
                        signal_id=0, name=name, index=int(index), result=said
                    )
                case _:
                    notification = SignalNotification(signal_id=CANCEL_SIGNAL, result=said)
        payload = None if isinstance(result, Failed) else result
        seen = result if isinstance(result, Failed) else value_of(result)
        return Entry(Came(label=label, result=seen), (notification, payload))

    def _begun(self, journal: list[Entry], *, live: bool) -> Host:
        host = Host(journal, live=live)
        start = self._started(journal, NEVER_MS if live else 0)
        host.attempt = Attempt(start, host, self._handle, contextvars.Context())
        return host

    def _handle(self, attempt: Attempt) -> Coroutine[Any, Any, Written]:
        return _handled(self._handler, attempt, WIRES)

    def _started(self, journal: list[Entry], inactivity_timeout_ms: int) -> AttemptStart:
        return AttemptStart(
            epoch=1,
            invocation_id=INVOCATION,
            attempt=1,
            target=self._target,
            revision=1,
            argument=self._argument,
            headers={},
            idempotency_key=None,
            seed=self._seed,
            keyed=False,
            inactivity_timeout_ms=inactivity_timeout_ms,
            journal=tuple(
                JournalEntry(index, *entry.native) for index, entry in enumerate(journal, 1)
            ),
            state=self._state,
            failed_runs=(),
        )


def _waits_for(journal: list[Entry], tree: FutureTree) -> frozenset[Label]:
    """The official SDK waits for a name: so for its next value, whichever of those is meant."""
    labels = set[Label]()
    for leaf in leaves(tree):
        if isinstance(leaf, NamedSignal):
            next_index = came_of_name(journal, leaf.name)
            labels.add(f"signal {leaf.name} {min(leaf.index, next_index)}")
        else:
            labels.add(_label_of(journal, leaf))
    return frozenset(labels)


def _label_of(journal: list[Entry], leaf: Leaf) -> Label:
    if isinstance(leaf, NamedSignal):
        return f"signal {leaf.name} {leaf.index}"
    if not isinstance(leaf, Completion):
        return "cancel" if leaf.id == CANCEL_SIGNAL else f"awakeable {leaf.id}"
    return next(
        label
        for label, entry in enumerate(commands(journal))
        if getattr(entry.native[0], "completion_id", None) == leaf.id
    )


def _asked(journal: list[Entry], command: AnyCommand, payload: bytes | None) -> Asked:
    kind = entry_type(command).removeprefix("Command: ")
    target = getattr(command, "target", None)
    headers = getattr(command, "headers", {})
    result = getattr(command, "result", None)
    value: Any = None
    if result is not None:
        value = _result(result, payload)
    elif payload_ref(command) is not None:
        value = value_of(payload or b"")
    elif hasattr(command, "keys"):
        value = list(command.keys)
    return Asked(
        kind=kind,
        name=command.name,
        key=getattr(command, "key", None),
        target=None if target is None else (target.service, target.key, target.handler),
        value=value,
        headers=tuple(headers.items()),
        idempotency_key=getattr(command, "idempotency_key", None),
        is_delayed=getattr(command, "invoke_at_ms", None) is not None,
        whom=_whom(journal, command),
        signal=getattr(command, "signal_id", None) or getattr(command, "signal_name", None),
    )


def _whom(journal: list[Entry], command: AnyCommand) -> Label | None:
    """Whom a signal, an attach or an answer is for: `callee 3`, `awakeable 17`, or as written."""
    awakeable = getattr(command, "awakeable_id", None)
    if awakeable is not None:
        try:
            return f"awakeable {parse_awakeable_id(awakeable).signal_id}"
        except ValueError:
            return str(awakeable)
    named = getattr(command, "invocation_id", None)
    if named is None or isinstance(command, CallCommand | OneWayCallCommand | AwakeableCommand):
        return None
    for label, entry in enumerate(commands(journal)):
        called = entry.native[0]
        if isinstance(called, CallCommand | OneWayCallCommand) and called.invocation_id == named:
            return f"callee {label}"
    return str(named)


def _result(result: Result, payload: bytes | None) -> Any:
    match result:
        case Success():
            return value_of(payload or b"")
        case Failure(code=code, message=message):
            return Failed(code, message)
