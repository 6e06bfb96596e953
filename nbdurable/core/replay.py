"""What replay holds against the journal: one recorded command, one attempted command.

Payloads are compared by digest, and only when their serde gives equal bytes for equal values.
The texts of a difference are made here; the values behind two digests are shown by the shell.
"""

from __future__ import annotations

from typing import NamedTuple

from nbdurable.core.commands import Command, entry_type, name_of
from nbdurable.core.values import PayloadRef, Success


class Difference(NamedTuple):
    field: str
    recorded: object
    attempted: object

    def __str__(self) -> str:
        return f"{self.field}: recorded {_show(self.recorded)}, attempted {_show(self.attempted)}"


class Mismatch(NamedTuple):
    """`recorded` is None when the code goes on past the recorded end of a finished journal."""

    command_index: int
    recorded: Command | None
    attempted: Command | None
    differences: tuple[Difference, ...]
    why: str
    # Carried for the shell, which shows what differs; never looked at here.
    recorded_payload: bytes = b""
    attempted_payload: bytes = b""

    @property
    def can_accept(self) -> bool:
        """Whether the recorded entry could stand for the attempted one: it is of the same kind."""
        return self.attempted is not None and type(self.recorded) is type(self.attempted)

    def describe(self) -> str:
        lines = [f"journal mismatch at command {self.command_index}: {self.why}"]
        if self.recorded is not None:
            lines.append(f"  recorded:  {describe(self.recorded)}")
        if self.attempted is not None:
            lines.append(f"  attempted: {describe(self.attempted)}")
        lines += [f"  {difference}" for difference in self.differences]
        return "\n".join(lines)


def compare(recorded: Command, attempted: Command) -> tuple[Difference, ...]:
    """Empty when the attempted command is the recorded one."""
    if type(recorded) is not type(attempted):
        return (Difference("command", entry_type(recorded), entry_type(attempted)),)
    return tuple(
        Difference(field, was, now)
        for field in attempted.compared
        if not _equal(was := getattr(recorded, field), now := getattr(attempted, field))
    )


def describe(command: Command) -> str:
    """`Run 'reserve'`, `Call Greeter/greet`: what a person calls this entry."""
    kind = entry_type(command).removeprefix("Command: ")
    name = name_of(command)
    return kind if name is None else f"{kind} '{name}'"


def _equal(recorded: object, attempted: object) -> bool:
    if isinstance(recorded, Success) and isinstance(attempted, Success):
        return _equal(recorded.value, attempted.value)
    if isinstance(recorded, PayloadRef) and isinstance(attempted, PayloadRef):
        comparable = recorded.comparable and attempted.comparable
        return not comparable or recorded.digest == attempted.digest
    return recorded == attempted


def _show(value: object) -> str:
    match value:
        case PayloadRef():
            return f"{value.bytes} bytes ({value.digest[:8]})"
        case Success(value=ref):
            return _show(ref)
        case _:
            return repr(value) if isinstance(value, str) else str(value)
