"""A journal in the fewest words, and an attempt on it, so that a test reads as a journal.

attempt = replay(run("a"), done(1, b"7"), sleep(), call(GREET))
"""

from __future__ import annotations

from typing import Any

from nbdurable.core.attempt import AttemptMachine, ref_of, success_of
from nbdurable.core.commands import (
    AnyCommand,
    AwakeableCommand,
    CallCommand,
    GetEagerStateCommand,
    RunCommand,
    SendSignalCommand,
    SetStateCommand,
    SleepCommand,
)
from nbdurable.core.ids import CANCEL_SIGNAL, InvocationId
from nbdurable.core.journal import AttemptStart, FailedRun, JournalEntry
from nbdurable.core.notifications import AnyNotification, CompletionNotification, SignalNotification
from nbdurable.core.proposals import AppendCommand
from nbdurable.core.values import Failure, Target

INVOCATION = InvocationId("inv_1aaaaaaaaaaaaaaaaaaaaaaaaaa")
CHILD = InvocationId("inv_1child")
GREET = Target(service="Greeter", handler="greet")

Line = tuple[AnyCommand | AnyNotification, bytes | None]


def run(name: str, completion_id: int = 1, key: str | None = None) -> Line:
    return RunCommand(completion_id=completion_id, name=name, step_key=key), None


def sleep(completion_id: int = 1, name: str | None = None, at_ms: int = 9_000) -> Line:
    return SleepCommand(completion_id=completion_id, wake_up_at_ms=at_ms, name=name), None


def call(
    completion_id: int = 1,
    target: Target = GREET,
    argument: bytes = b"arg",
    child: InvocationId = CHILD,
) -> Line:
    command = CallCommand(
        completion_id=completion_id, invocation_id=child, target=target, argument=ref_of(argument)
    )
    return command, argument


def set_(key: str, value: bytes = b"1") -> Line:
    return SetStateCommand(key=key, value=ref_of(value)), value


def get(key: str, value: bytes | None) -> Line:
    return GetEagerStateCommand(key=key, value=None if value is None else ref_of(value)), value


def awakeable(signal_id: int = 17) -> Line:
    return AwakeableCommand(signal_id=signal_id), None


def done(completion_id: int, value: bytes = b"", of: str = "Run") -> Line:
    result = success_of(value)
    return CompletionNotification(completion_id=completion_id, of=of, result=result), value


def failed(completion_id: int, code: int = 500, message: str = "no", of: str = "Run") -> Line:
    failure = Failure(code=code, message=message)
    return CompletionNotification(completion_id=completion_id, of=of, result=failure), None


def signalled(signal_id: int, value: bytes = b"") -> Line:
    return SignalNotification(signal_id=signal_id, result=success_of(value)), value


def cancelled() -> Line:
    return signalled(CANCEL_SIGNAL)


def cancels(child: InvocationId = CHILD) -> Line:
    return SendSignalCommand(invocation_id=child, signal_id=CANCEL_SIGNAL), None


def start(
    *lines: Line,
    keyed: bool = False,
    state: dict[str, bytes] | None = None,
    failed_runs: tuple[FailedRun, ...] = (),
) -> AttemptStart:
    return AttemptStart(
        epoch=1,
        invocation_id=INVOCATION,
        attempt=1,
        target=GREET,
        revision=1,
        argument=b"in",
        headers={},
        idempotency_key=None,
        seed=7,
        keyed=keyed,
        inactivity_timeout_ms=60_000,
        journal=tuple(
            JournalEntry(index, entry, payload) for index, (entry, payload) in enumerate(lines, 1)
        ),
        state=state or {},
        failed_runs=failed_runs,
    )


def replay(*lines: Line, **fields: Any) -> AttemptMachine:
    return AttemptMachine(start(*lines, **fields))


def notify(machine: AttemptMachine, entry_index: int, line: Line) -> None:
    entry, payload = line
    machine.notify(entry_index, entry, payload)  # type: ignore[arg-type]


def asked(machine: AttemptMachine) -> list[str]:
    """What is to be proposed now, by name."""
    return [
        type(step.command if isinstance(step, AppendCommand) else step).__name__
        for step in machine.take_steps()
    ]
