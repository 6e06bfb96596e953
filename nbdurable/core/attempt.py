"""The attempt machine: one attempt of one invocation, replaying one journal.

    Starting --> Replaying --> Processing --> Closed
                 (recorded commands are left)  (nothing is recorded any more)

Calls of the context become commands. In replay each is held against the recorded one and serves
its recorded result; past the end of the journal each is new, and goes into `take_steps`. Progress
is one question, `await_(tree)`.

Notifications are consumed one at a time, in journal order, and only at an await. A future never
looks completed before its turn, live or on replay: that is what makes `select` repeatable.

No IO, no clock, no asyncio. Mutable; touched by its handler's thread only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar, cast

from nbdurable.core.commands import (
    AnyCommand,
    AttachInvocationCommand,
    AwakeableCommand,
    CallCommand,
    ClearAllStateCommand,
    ClearStateCommand,
    Command,
    CompleteAwakeableCommand,
    CompletePromiseCommand,
    GetEagerStateCommand,
    GetEagerStateKeysCommand,
    GetPromiseCommand,
    OneWayCallCommand,
    OutputCommand,
    PeekPromiseCommand,
    RunCommand,
    SendSignalCommand,
    SetStateCommand,
    SignalCommand,
    SleepCommand,
    entry_type,
)
from nbdurable.core.futures import (
    Completion,
    FutureTree,
    Leaf,
    NamedSignal,
    Outcome,
    Signal,
    Stream,
    Watch,
    leaves,
)
from nbdurable.core.ids import (
    CANCEL_SIGNAL,
    FIRST_AWAKEABLE_SIGNAL,
    InvocationId,
    awakeable_id,
    child_invocation_id,
    digest_of,
    keyed_invocation_id,
)
from nbdurable.core.journal import AttemptStart
from nbdurable.core.notifications import AnyNotification, Notification, leaf_of
from nbdurable.core.proposals import (
    AnyStep,
    AppendCommand,
    CompleteRun,
    FailAttempt,
    FailRun,
    Suspend,
)
from nbdurable.core.records import cannot_hold
from nbdurable.core.replay import Mismatch, compare
from nbdurable.core.values import (
    ABANDONED,
    ErrorReport,
    Failure,
    PayloadRef,
    Question,
    Result,
    RetryPolicy,
    Success,
    Target,
)
from nbdurable.errors import ArgumentError


class Phase(Enum):
    REPLAYING = "replaying"
    PROCESSING = "processing"
    CLOSED = "closed"


class Ready(NamedTuple):
    """The tree is satisfied; `take` gives the results of its leaves."""


class ExecuteRun(NamedTuple):
    """These steps are waited for and nobody executes them yet. Execute, then ask again."""

    completion_ids: tuple[int, ...]


class WaitExternal(NamedTuple):
    """Only a notification helps. `can_suspend` when no step is executing here."""

    can_suspend: bool


class Cancelled(NamedTuple):
    """Somebody cancelled the invocation: raise a terminal 409 at this await.

    `abandoned` are the steps that were executing: stop them, their results count no more.
    """

    abandoned: tuple[int, ...]


Progress = Ready | ExecuteRun | WaitExternal | Cancelled


class Settled(NamedTuple):
    """A result with its bytes: what a future gives. `order` counts what settled before it."""

    result: Result
    payload: bytes
    order: int = 0

    @property
    def succeeded(self) -> bool:
        return isinstance(self.result, Success)


class MismatchError(Exception):
    """The code does not ask for what the journal recorded."""

    def __init__(self, mismatch: Mismatch) -> None:
        super().__init__(mismatch.describe())
        self.mismatch = mismatch


C = TypeVar("C", bound=Command)


class Recorded(NamedTuple, Generic[C]):
    command: C
    payload: bytes


class AttemptMachine:
    """Mutable; owned by the handler's thread."""

    def __init__(self, start: AttemptStart) -> None:
        self._invocation_id = start.invocation_id
        self._seed = start.seed
        self._keyed = start.keyed
        self._recorded: deque[Recorded[Any]] = deque()
        self._recorded_runs: dict[str, RunCommand] = {}
        self._unseen: deque[tuple[AnyNotification, bytes]] = deque()
        self._settled: dict[Leaf, Settled] = {}
        self._order: list[Leaf] = []
        self._watch: Watch | None = None
        self._accepted = frozenset(start.accepted)
        self._steps: list[AnyStep] = []
        self._state = dict(start.state)
        self._copied_count = start.copied_count
        self._command_index = 0
        self._next_completion_id = 1
        self._next_signal_id = FIRST_AWAKEABLE_SIGNAL
        self._signal_counts: dict[str, int] = {}
        self._notification_count = 0
        self._entry_index = 0
        self._runs_waiting: set[int] = set()
        self._runs_executing: set[int] = set()
        self._open_calls: dict[int, InvocationId] = {}
        self._wake_ups: dict[int, int] = {}
        self._closed = False
        for entry_index, entry, payload in start.journal:
            self._entry_index = entry_index
            if isinstance(entry, Notification):
                self._notification_count += 1
                self._unseen.append((entry, payload or b""))
            elif self._keyed:
                self._remember_keyed(entry)
            else:
                self._recorded.append(Recorded(entry, payload or b""))
        # Up to the await or the new command that follows the last recorded one, the code has been
        # here before.
        self._has_caught_up = not self._recorded

    # -- what the context asks ----------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        if self._closed:
            return Phase.CLOSED
        replaying = bool(self._recorded) or not self._has_caught_up
        return Phase.REPLAYING if replaying else Phase.PROCESSING

    @property
    def command_index(self) -> int:
        """Of the last command asked for; 0 is the input."""
        return self._command_index

    def run(self, name: str, key: str | None = None, arguments: str | None = None) -> Completion:
        """A step. It is executed when it is waited for, never before."""
        if self._keyed:
            known = self._recorded_runs.get(key or name)
            if known is not None:
                return self._wants_run(known.completion_id)
        command = RunCommand(
            completion_id=self._completion_id(), name=name, step_key=key, arguments=arguments
        )
        self._append(command)
        if self._keyed:
            self._recorded_runs[key or name] = command
        return self._wants_run(command.completion_id)

    def sleep(self, wake_up_at_ms: int, name: str | None = None) -> Completion:
        completion_id = self._completion_id()
        command = SleepCommand(completion_id=completion_id, wake_up_at_ms=wake_up_at_ms, name=name)
        self._wake_ups[completion_id] = self._append(command).command.wake_up_at_ms
        return Completion(id=completion_id)

    def call(
        self,
        target: Target,
        argument: bytes,
        *,
        comparable: bool = True,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        limit_key: str | None = None,
        is_run: bool = False,
    ) -> tuple[Completion, InvocationId]:
        completion_id = self._completion_id()
        invocation_id = self._callee_id(target, idempotency_key, is_run=is_run)
        command = CallCommand(
            completion_id=completion_id,
            invocation_id=invocation_id,
            target=target,
            argument=ref_of(argument, comparable=comparable),
            headers=headers or {},
            idempotency_key=idempotency_key,
            limit_key=limit_key,
        )
        recorded = self._append(command, argument)
        invocation_id = recorded.command.invocation_id
        self._open_calls[completion_id] = invocation_id
        return Completion(id=completion_id), invocation_id

    def send(
        self,
        target: Target,
        argument: bytes,
        *,
        comparable: bool = True,
        invoke_at_ms: int | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        limit_key: str | None = None,
        is_run: bool = False,
    ) -> InvocationId:
        command = OneWayCallCommand(
            invocation_id=self._callee_id(target, idempotency_key, is_run=is_run),
            target=target,
            argument=ref_of(argument, comparable=comparable),
            headers=headers or {},
            idempotency_key=idempotency_key,
            limit_key=limit_key,
            invoke_at_ms=invoke_at_ms,
        )
        return self._append(command, argument).command.invocation_id

    def get_state(self, key: str, name: str | None = None) -> bytes | None:
        """None when there is no such key. Replay gives what the first execution read."""
        value = self._state.get(key)
        ref = None if value is None else ref_of(value)
        recorded = self._append(GetEagerStateCommand(key=key, value=ref, name=name), value)
        return None if recorded.command.value is None else recorded.payload

    def state_keys(self, name: str | None = None) -> list[str]:
        command = GetEagerStateKeysCommand(keys=tuple(sorted(self._state)), name=name)
        return list(self._append(command).command.keys)

    def set_state(
        self, key: str, value: bytes, name: str | None = None, *, comparable: bool = True
    ) -> None:
        ref = ref_of(value, comparable=comparable)
        self._append(SetStateCommand(key=key, value=ref, name=name), value)
        if self._writes:
            self._state[key] = value

    def clear_state(self, key: str, name: str | None = None) -> None:
        self._append(ClearStateCommand(key=key, name=name))
        if self._writes:
            self._state.pop(key, None)

    def clear_all_state(self, name: str | None = None) -> None:
        self._append(ClearAllStateCommand(name=name))
        if self._writes:
            self._state.clear()

    def get_promise(self, key: str, question: Question | None = None) -> Completion:
        completion_id = self._completion_id()
        command = GetPromiseCommand(completion_id=completion_id, key=key, question=question)
        self._append(command)
        return Completion(id=completion_id)

    def peek_promise(self, key: str) -> Completion:
        completion_id = self._completion_id()
        self._append(PeekPromiseCommand(completion_id=completion_id, key=key))
        return Completion(id=completion_id)

    def complete_promise(self, key: str, result: Result, payload: bytes) -> Completion:
        completion_id = self._completion_id()
        command = CompletePromiseCommand(completion_id=completion_id, key=key, result=result)
        self._append(command, payload)
        return Completion(id=completion_id)

    def awakeable(
        self, name: str | None = None, question: Question | None = None
    ) -> tuple[str, Signal]:
        signal_id = self._next_signal_id
        self._next_signal_id += 1
        self._append(AwakeableCommand(signal_id=signal_id, name=name, question=question))
        return awakeable_id(self._invocation_id, self._seed, signal_id), Signal(id=signal_id)

    def complete_awakeable(self, awakeable: str, result: Result, payload: bytes) -> None:
        self._append(CompleteAwakeableCommand(awakeable_id=awakeable, result=result), payload)

    def signal(self, name: str) -> NamedSignal:
        """A wait for the next value sent under this name, whether it came already or not."""
        index = self._signal_counts.get(name, 0)
        self._signal_counts[name] = index + 1
        self._append(SignalCommand(signal_name=name, index=index))
        return NamedSignal(name=name, index=index)

    def send_signal(
        self, invocation_id: InvocationId, name: str, result: Result, payload: bytes
    ) -> None:
        command = SendSignalCommand(
            invocation_id=invocation_id, signal_id=0, signal_name=name, result=result
        )
        self._append(command, payload)

    def attach_invocation(self, invocation_id: InvocationId) -> Completion:
        completion_id = self._completion_id()
        self._append(
            AttachInvocationCommand(completion_id=completion_id, invocation_id=invocation_id)
        )
        return Completion(id=completion_id)

    def cancel_invocation(self, invocation_id: InvocationId) -> None:
        self._append(SendSignalCommand(invocation_id=invocation_id, signal_id=CANCEL_SIGNAL))

    # -- progress -----------------------------------------------------------------------------

    def stream(self, futures: Mapping[int, FutureTree], rest: Callable[[], FutureTree]) -> Stream:
        """For awaiting these one after another; `rest` is asked for what is open by then."""
        return Stream(self._order, futures, rest)

    def await_(self, awaited: FutureTree | Stream) -> Progress:
        """Consume notifications until the tree is satisfied, or say what would help.

        Raises:
            MismatchError: Recorded commands are left, so the recorded code got past this await,
                but nothing recorded satisfies it: the await was added, or its future changed.
        """
        self._has_caught_up = not self._recorded
        if not isinstance(awaited, Stream) and (
            self._watch is None or self._watch.tree is not awaited
        ):
            self._watch = Watch(awaited, self._outcome_of)
        while not self._is_over(awaited):
            if self._unseen:
                if self._consume():
                    return self._cancel()
                continue
            if self._recorded:
                why = "an await was added, or waits for another future than it did"
                raise MismatchError(
                    Mismatch(self._command_index, self._recorded[0].command, None, (), why)
                )
            runs = self._runs_wanted_by(awaited)
            if runs:
                self._runs_waiting.difference_update(runs)
                self._runs_executing.update(runs)
                return ExecuteRun(runs)
            return WaitExternal(can_suspend=not self._runs_executing)
        return Ready()

    def _is_over(self, awaited: FutureTree | Stream) -> bool:
        if isinstance(awaited, Stream):
            return awaited.is_touched
        assert self._watch is not None
        return self._watch.outcome is not None

    def _runs_wanted_by(self, awaited: FutureTree | Stream) -> tuple[int, ...]:
        if not self._runs_waiting:
            return ()
        if isinstance(awaited, Stream):
            waiting = sorted(self._runs_waiting)
            return tuple(id_ for id_ in waiting if awaited.waits_for(Completion(id=id_)))
        wanted = {leaf.id for leaf in leaves(awaited) if isinstance(leaf, Completion)}
        return tuple(sorted(wanted & self._runs_waiting))

    def _outcome_of(self, leaf: Leaf) -> Outcome:
        settled = self._settled.get(leaf)
        return None if settled is None else settled.succeeded

    def wakes_at_ms(self, awaited: Completion) -> int | None:
        """Of an open sleep; None of all else."""
        return self._wake_ups.get(awaited.id)

    def is_settled(self, leaf: Leaf) -> bool:
        return leaf in self._settled

    def take(self, leaf: Leaf) -> Settled:
        return self._settled[leaf]

    def _consume(self) -> bool:
        """Let one notification settle its future. Returns whether it was a cancellation."""
        notification, payload = self._unseen.popleft()
        leaf = leaf_of(notification)
        if leaf == Signal(id=CANCEL_SIGNAL):
            return True
        settled = Settled(notification.result, payload, len(self._settled))
        if self._settled.setdefault(leaf, settled) is settled:
            self._order.append(leaf)
            if self._watch is not None:
                self._watch.settle(leaf, succeeded=settled.succeeded)
        if isinstance(leaf, Completion):
            self._runs_waiting.discard(leaf.id)
            self._runs_executing.discard(leaf.id)
            self._open_calls.pop(leaf.id, None)
            self._wake_ups.pop(leaf.id, None)
        return False

    def _cancel(self) -> Cancelled:
        """Cancel goes depth first: called children are cancelled before the code hears of it.

        The engine has ended the steps it knew of in the commit of the signal; those whose entry
        was still under way are ended here.
        """
        abandoned = tuple(sorted(self._runs_executing))
        self._runs_executing.clear()
        for invocation_id in list(self._open_calls.values()):
            self.cancel_invocation(invocation_id)
        for completion_id in abandoned:
            self.complete_run(completion_id, Failure(code=409, message=ABANDONED))
        return Cancelled(abandoned)

    # -- what comes from outside --------------------------------------------------------------

    def notify(
        self, entry_index: int, notification: AnyNotification, payload: bytes | None
    ) -> None:
        """A committed notification. It waits for its turn; one that is known already is ignored."""
        if not self._closed and entry_index > self._entry_index:
            self._entry_index = entry_index
            self._notification_count += 1
            self._unseen.append((notification, payload or b""))

    def complete_run(self, completion_id: int, result: Result, payload: bytes = b"") -> None:
        """A step ended. Its value reaches the code once it comes back as a notification."""
        self._step(CompleteRun(completion_id=completion_id, result=result, payload=payload))

    def fail_run(
        self, completion_id: int, error: ErrorReport, retry: RetryPolicy, took_ms: int = 0
    ) -> None:
        """A step with a retry policy of its own raised; the engine says when to try again."""
        self._step(FailRun(completion_id=completion_id, error=error, retry=retry, took_ms=took_ms))

    # -- the end ------------------------------------------------------------------------------

    def output(self, result: Result, payload: bytes = b"") -> None:
        self._append(OutputCommand(result=result), payload)
        self.close()

    def fail(self, error: ErrorReport) -> None:
        self._step(FailAttempt(error=error))
        self.close()

    def suspend(self, tree: FutureTree) -> None:
        self._step(Suspend(waiting_for=tree, notification_count=self._notification_count))
        self.close()

    def close(self) -> None:
        """From now on nothing this attempt does is recorded."""
        self._closed = True

    def take_steps(self) -> tuple[AnyStep, ...]:
        """What is to be proposed to the engine, in order. Emptied by taking."""
        steps = tuple(self._steps)
        self._steps.clear()
        return steps

    @property
    def has_steps(self) -> bool:
        return bool(self._steps)

    @property
    def only_runs_pending(self) -> bool:
        """Whether all that is to be proposed is that steps have begun."""
        return all(
            isinstance(step, AppendCommand) and isinstance(step.command, RunCommand)
            for step in self._steps
        )

    # -- inside -------------------------------------------------------------------------------

    def _append(self, command: C, payload: bytes | None = None) -> Recorded[C]:
        """Hold the command against the journal, or propose it when the journal has ended."""
        if self._closed:
            return Recorded(command, payload or b"")
        unwritable = cannot_hold(command)
        if unwritable is not None:
            raise ArgumentError(
                f"what ctx is asked for cannot be recorded as a {entry_type(command)!r} entry:"
                f" {unwritable}"
            )
        self._command_index += 1
        if not self._recorded:
            self._has_caught_up = True
            self._step(AppendCommand(command=cast("AnyCommand", command), payload=payload))
            return Recorded(command, payload or b"")
        recorded = self._recorded[0]
        differences = compare(recorded.command, command)
        if differences and not self._is_accepted(recorded.command, command):
            why = "the code asks for something else than it did"
            raise MismatchError(
                Mismatch(
                    self._command_index,
                    recorded.command,
                    command,
                    differences,
                    why,
                    recorded.payload,
                    payload or b"",
                )
            )
        return self._recorded.popleft()

    def _is_accepted(self, recorded: Command, attempted: Command) -> bool:
        """Whether a person has said that the recorded entry stands for what is asked now."""
        return self._command_index in self._accepted and type(recorded) is type(attempted)

    @property
    def _writes(self) -> bool:
        """Whether the last command is this invocation's own, and no copy of what another wrote."""
        return self._command_index > self._copied_count

    def _step(self, step: AnyStep) -> None:
        if not self._closed:
            self._steps.append(step)

    def _completion_id(self) -> int:
        completion_id = self._next_completion_id
        self._next_completion_id += 1
        return completion_id

    def _callee_id(
        self, target: Target, idempotency_key: str | None, *, is_run: bool
    ) -> InvocationId:
        if is_run or idempotency_key is not None:
            return keyed_invocation_id(
                target.service,
                target.key,
                target.handler,
                None if is_run else idempotency_key,
                target.scope,
            )
        return child_invocation_id(self._seed, self._command_index + 1)

    def _wants_run(self, completion_id: int) -> Completion:
        leaf = Completion(id=completion_id)
        if leaf not in self._settled and completion_id not in self._runs_executing:
            self._runs_waiting.add(completion_id)
        return leaf

    def _remember_keyed(self, command: AnyCommand) -> None:
        """In a keyed journal a step is found by its key, whatever came before it this time."""
        if isinstance(command, RunCommand):
            self._recorded_runs[command.step_key or command.name or ""] = command
        completion_id = getattr(command, "completion_id", 0)
        self._next_completion_id = max(self._next_completion_id, completion_id + 1)
        self._command_index += 1


def ref_of(payload: bytes, *, comparable: bool = True) -> PayloadRef:
    return PayloadRef(bytes=len(payload), digest=digest_of(payload), comparable=comparable)


def success_of(payload: bytes, *, comparable: bool = True) -> Success:
    return Success(value=ref_of(payload, comparable=comparable))
