"""How a command ends, for scripts: the codes, and which error has which."""

from __future__ import annotations

from typing import Final

import click

from nbdurable.errors import (
    AmbiguousError,
    AnswerError,
    DefinitionError,
    HttpError,
    InvocationNotFoundError,
    InvocationNotReadyError,
    JournalHeldError,
    LinkLostError,
    NbdurableError,
    QueryError,
    SettingsError,
)

OK: Final = 0
# The run failed; or the command itself did, in a way that no other code says.
FAILED: Final = 1
USAGE: Final = 2
# The run is not over: paused, suspended, waiting, or still at work when we stopped looking.
WAITING: Final = 3
NOT_FOUND: Final = 4
# EX_TEMPFAIL of sysexits.h: the journal has an owner who does not answer; try again later.
UNREACHABLE: Final = 75

_HTTP_NOT_FOUND: Final = 404


class Refusal(click.ClickException):
    """Ends a command with a sentence on stderr and a code."""

    def __init__(self, sentence: str, code: int = FAILED) -> None:
        super().__init__(sentence)
        self.exit_code = code  # type: ignore[misc] # Click declares it of a class, and reads ours.


def refusal_of(error: NbdurableError) -> Refusal:
    """What a person is told of an error, and what a script is."""
    match error:
        case InvocationNotFoundError():
            return Refusal(str(error), NOT_FOUND)
        case HttpError(status_code=code, message=message):
            return Refusal(message, NOT_FOUND if code == _HTTP_NOT_FOUND else FAILED)
        case InvocationNotReadyError():
            return Refusal(str(error), WAITING)
        case JournalHeldError() | LinkLostError():
            return Refusal(str(error), UNREACHABLE)
        case SettingsError() | DefinitionError() | QueryError() | AnswerError() | AmbiguousError():
            return Refusal(str(error), USAGE)
        case _:
            return Refusal(str(error))
