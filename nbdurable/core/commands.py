"""Commands: what a handler asked for, in the order it asked. A journal is these and notifications.

The tag of each is Restate's entry type, so `Command: Run` in SQL is `RunCommand` here. Entry 0,
`Command: Input`, is the fact that created the invocation, and `Command: Output` the one that
completed it.

Source: restate-http-observed.md, "SQL"; restate-semantics.md, 1.6 for what replay compares.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from nbdurable.core.ids import InvocationId
from nbdurable.core.values import PayloadRef, Question, Result, Target


def _entry_type(class_name: str) -> str:
    return class_name.removesuffix("Command")


class Command(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag=_entry_type,
    tag_field="type",
    omit_defaults=True,
    gc=False,
):
    """`compared` names the fields that replay holds against the recorded entry."""

    compared: ClassVar[tuple[str, ...]] = ("name",)

    name: str | None = None


class OutputCommand(Command, frozen=True, kw_only=True):
    compared = ("result",)
    result: Result


class RunCommand(Command, frozen=True, kw_only=True):
    completion_id: int
    # Set in a keyed journal (a notebook's cells), where a step is found by key, not by position.
    step_key: str | None = None
    # For people: what the step's function was called with, as text. Not compared.
    arguments: str | None = None


class SleepCommand(Command, frozen=True, kw_only=True):
    completion_id: int
    wake_up_at_ms: int


class CallCommand(Command, frozen=True, kw_only=True):
    compared = ("target", "argument", "headers", "idempotency_key", "limit_key", "name")
    completion_id: int
    invocation_id: InvocationId
    target: Target
    argument: PayloadRef
    headers: dict[str, str] = {}
    idempotency_key: str | None = None
    limit_key: str | None = None


class OneWayCallCommand(Command, frozen=True, kw_only=True):
    compared = ("target", "argument", "headers", "idempotency_key", "limit_key", "name")
    invocation_id: InvocationId
    target: Target
    argument: PayloadRef
    headers: dict[str, str] = {}
    idempotency_key: str | None = None
    limit_key: str | None = None
    invoke_at_ms: int | None = None


class SetStateCommand(Command, frozen=True, kw_only=True):
    compared = ("key", "value")
    key: str
    value: PayloadRef


class ClearStateCommand(Command, frozen=True, kw_only=True):
    compared = ("key",)
    key: str


class ClearAllStateCommand(Command, frozen=True, kw_only=True):
    compared = ()


class GetEagerStateCommand(Command, frozen=True, kw_only=True):
    """Carries the value it found, so that replay reads what the first execution read."""

    compared = ("key",)
    key: str
    value: PayloadRef | None = None


class GetEagerStateKeysCommand(Command, frozen=True, kw_only=True):
    compared = ()
    keys: tuple[str, ...] = ()


class GetPromiseCommand(Command, frozen=True, kw_only=True):
    compared = ("key",)
    completion_id: int
    key: str
    question: Question | None = None


class PeekPromiseCommand(Command, frozen=True, kw_only=True):
    compared = ("key",)
    completion_id: int
    key: str


class CompletePromiseCommand(Command, frozen=True, kw_only=True):
    compared = ("key", "result")
    completion_id: int
    key: str
    result: Result


class AwakeableCommand(Command, frozen=True, kw_only=True):
    """Journaled, unlike Restate's, so that an open awakeable is a row one can see and fence."""

    compared = ("signal_id",)
    signal_id: int
    name: str | None = None
    question: Question | None = None


class CompleteAwakeableCommand(Command, frozen=True, kw_only=True):
    compared = ("awakeable_id", "result")
    awakeable_id: str
    result: Result


class AttachInvocationCommand(Command, frozen=True, kw_only=True):
    compared = ("invocation_id",)
    completion_id: int
    invocation_id: InvocationId


class SignalCommand(Command, frozen=True, kw_only=True):
    """A wait for a named signal. Journaled, as awakeables are, and for the same reason.

    `index` counts the waits for this name from 0: the n-th wait takes the n-th value.
    """

    compared = ("signal_name", "index")
    signal_name: str
    index: int


class SendSignalCommand(Command, frozen=True, kw_only=True):
    """A cancellation (`signal_id` 1, no result), or a value under a name (`signal_id` 0)."""

    compared = ("invocation_id", "signal_id", "signal_name", "result")
    invocation_id: InvocationId
    signal_id: int
    signal_name: str | None = None
    result: Result | None = None


AnyCommand = (
    OutputCommand
    | RunCommand
    | SleepCommand
    | CallCommand
    | OneWayCallCommand
    | SetStateCommand
    | ClearStateCommand
    | ClearAllStateCommand
    | GetEagerStateCommand
    | GetEagerStateKeysCommand
    | GetPromiseCommand
    | PeekPromiseCommand
    | CompletePromiseCommand
    | AwakeableCommand
    | CompleteAwakeableCommand
    | AttachInvocationCommand
    | SignalCommand
    | SendSignalCommand
)


def entry_type(command: Command) -> str:
    """`Command: Run` for a RunCommand: the name under which SQL shows it."""
    return f"Command: {type(command).__name__.removesuffix('Command')}"


def name_of(command: Command) -> str | None:
    """What a person calls it: the name it was given, else the key, signal or target it is about."""
    for attribute in ("name", "key", "signal_name", "target"):
        named = getattr(command, attribute, None)
        if named is not None:
            return str(named)
    return None


def payload_ref(command: Command) -> PayloadRef | None:
    """The one payload a command may carry, whatever the field is called."""
    match command:
        case CallCommand() | OneWayCallCommand():
            return command.argument
        case SetStateCommand() | GetEagerStateCommand():
            return command.value
        case (
            OutputCommand()
            | CompletePromiseCommand()
            | CompleteAwakeableCommand()
            | SendSignalCommand()
        ):
            return getattr(command.result, "value", None)
        case _:
            return None
