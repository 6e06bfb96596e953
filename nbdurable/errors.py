"""The one exception tree. Text says what happened, what was recorded, what to do.

    Exception
    └── NbdurableError                 code
        ├── TerminalError              500  raised by handlers: fail, do not retry
        │   └── MapError               any  an item of `durable.map` has failed for good
        ├── RetryableError             500  raised by handlers: retry, perhaps after a delay
        ├── JournalMismatchError       570  replay met a command other than the recorded one
        ├── StoreError                 500  outcome of a commit unknown: reopen and read the LSN
        │   └── DiskFullError          507  there was no room for it; make some
        ├── JournalHeldError           423  another process owns the journal
        ├── JournalDamagedError        500  a file of the journal fails its checksum
        ├── JournalVersionError        505  the journal was written by a newer version
        ├── JournalGoneError           410  `.nbdurable` was deleted or replaced underneath us
        ├── EngineClosedError          598  the engine no longer takes work
        ├── LinkLostError              503  the journal's owner went before it answered
        ├── SerializationError         400  a value does not fit its serde
        ├── DefinitionError            400  a service or handler is written wrongly (a ValueError)
        ├── SettingsError              400  a variable, an option or pyproject.toml cannot be
        ├── ArgumentError              400  an argument of another type (a TypeError)
        ├── ContextMisuseError         400  ctx was used where it can record nothing
        │   └── ContextKindError       400  or has no such call (an AttributeError)
        ├── InvocationNotFoundError    404  no such invocation
        ├── InvocationNotReadyError    470  the invocation has no result yet
        ├── ConflictError              409  another invocation or a newer version was there first
        │   └── AmbiguousError         409  what was named means several: name one
        ├── QueryError                 400  SQL over history that is refused, wrong, or too much
        ├── AnswerError                400  an answer is not of the type that was asked for
        └── HttpError                  any  the other side answered with this status

    BaseException
    └── SdkInternalBaseException       500  control flow: never caught by user code
        ├── AttemptClosed              598  the attempt records nothing any more
        ├── SdkInternalException       500  the attempt failed and is tried again
        └── SuspendedException         599  the attempt was parked until it can make progress

Codes are Restate's where Restate has one (409 also is the code of a cancelled invocation's
`TerminalError`, 571 a protocol violation), else HTTP's. They are stable.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar

CANCELLED_CODE = 409
PROTOCOL_VIOLATION_CODE = 571


class NbdurableError(Exception):
    """Root of everything nbdurable raises that user code may catch."""

    code: ClassVar[int] = 500


class TerminalError(NbdurableError):
    """Fails the invocation (or the step it is raised in) for good: it is not retried.

    It is also what an `await` raises when a call, a step or a promise has failed, and, with status
    code 409, when the invocation was cancelled. Undo belongs under `except TerminalError`.
    """

    def __init__(
        self,
        message: str,
        status_code: int = 500,
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.metadata = metadata


class MapError(TerminalError):
    """An item of `durable.map` has failed for good, and no other was begun after it.

    Attributes:
        results: Of the items that are done, by their keys.
    """

    def __init__(
        self,
        message: str,
        status_code: int = 500,
        metadata: dict[str, str] | None = None,
        *,
        results: Mapping[str, object],
    ) -> None:
        super().__init__(message, status_code, metadata)
        self.results = results


class RetryableError(NbdurableError):
    """Ends the attempt and asks for another one.

    Args:
        message: Kept as the attempt's last failure.
        status_code: HTTP status of that failure.
        retry_after: Wait at least this long; None leaves it to the retry policy.
    """

    def __init__(
        self,
        message: str,
        status_code: int = 500,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.retry_after = retry_after


class JournalMismatchError(NbdurableError):
    """Code and journal disagree: the handler took another way than the one recorded."""

    code = 570


class StoreError(NbdurableError):
    """The outcome of a commit is unknown; reopen the journal and read its last LSN."""


class DiskFullError(StoreError):
    """The journal's disk is full: nothing acknowledged is lost, and nothing more is accepted."""

    code = 507


class JournalHeldError(NbdurableError):
    """Another process owns the journal; attach to it, or stop it."""

    code = 423


class JournalDamagedError(NbdurableError):
    """A file of the journal cannot be trusted; `nbdurable doctor` copies it aside first."""


class JournalVersionError(NbdurableError):
    """The journal was written by a version this one cannot read."""

    code = 505


class JournalGoneError(NbdurableError):
    """The journal's directory was deleted or replaced while it was in use."""

    code = 410


class EngineClosedError(NbdurableError):
    """The engine is closed or closing and takes no more work."""

    code = 598


class LinkLostError(NbdurableError):
    """The process that owns the journal went before it answered: look whether it happened."""

    code = 503


class SerializationError(NbdurableError):
    """A value does not fit its serde: which part of it, what was found there, what to do.

    Mutable: a serde knows only the value, so whoever called it may fill in `step` and `root`.

    Attributes:
        problem: Follows the path in the sentence, e.g. "is a set, which JSON cannot hold".
        path: From the root to the part that does not fit, e.g. `["rows"][3].model`.
        root: What the value is to its author, e.g. "result", "argument", "state 'cart'".
        step: Name of the step whose value it is, if it is a step's.
        fix: A sentence that says what to do.
    """

    code = 400

    def __init__(
        self,
        problem: str,
        *,
        path: str = "",
        root: str = "result",
        step: str | None = None,
        fix: str = "",
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path
        self.root = root
        self.step = step
        self.fix = fix

    def __str__(self) -> str:
        """One or two sentences: where, what, and the way out."""
        where = f"step {self.step!r}: " if self.step else ""
        sentence = f"{where}{self.root}{self.path} {self.problem}."
        return f"{sentence} {self.fix}" if self.fix else sentence


class DefinitionError(NbdurableError, ValueError):
    """A service or handler is written wrongly; the text says what to write instead.

    Also a `ValueError`, which is what the official SDK raises here.
    """

    code = 400


class SettingsError(NbdurableError):
    """The command line, a variable or `pyproject.toml` says what cannot be; the text says which."""

    code = 400


class ContextMisuseError(NbdurableError):
    """ctx, or a future of it, was used where it can record nothing; the text says what to write.

    Code that does this does it on every attempt, so the invocation pauses at once.
    """

    code = 400


class ContextKindError(ContextMisuseError, AttributeError):
    """The ctx of a handler of this kind has no such call; the text says which kind has it."""


class ArgumentError(NbdurableError, TypeError):
    """An argument is of another type than it can be; the text says what to write.

    In a handler the next attempt would give the same one, so the invocation pauses at once.
    """

    code = 400


class InvocationNotFoundError(NbdurableError):
    """There is no such invocation, or its journal was purged."""

    code = 404


class InvocationNotReadyError(NbdurableError):
    """The invocation exists but has no result yet."""

    code = 470


class ConflictError(NbdurableError):
    """Someone was there first: a key in use, a workflow already run, a stale version."""

    code = 409


class AmbiguousError(ConflictError):
    """What was named could be any of several: name one of them."""


class AnswerError(NbdurableError):
    """An answer to a promise or an awakeable is not of the type that was asked for."""

    code = 400


class QueryError(NbdurableError):
    """SQL over history that is refused, wrong, or asks for more than it may have."""

    code = 400


class HttpError(NbdurableError):
    """The other side answered, and the answer was not a success."""

    def __init__(self, status_code: int, message: str, body: str | None = None) -> None:
        # All three go into args, so that a copy made by pickle is whole.
        super().__init__(status_code, message, body)
        self.status_code = status_code
        self.message = message
        self.body = body

    def __str__(self) -> str:
        """Status first: it is what people search for."""
        return f"HTTP {self.status_code}: {self.message}"


class SdkInternalBaseException(BaseException):
    """Control flow of the engine, passing through user code on its way out.

    Only `except:` and `except BaseException` can meet it; both must re-raise it.
    """

    code: ClassVar[int] = 500

    def __init__(self, message: str) -> None:
        super().__init__(
            f"{message}\n"
            "Nothing is wrong: the engine uses this exception to leave your handler. If you see "
            "it, a bare `except:` or `except BaseException:` has caught it. Catch "
            "`TerminalError` (or `Exception`) instead, or re-raise it."
        )


class AttemptClosed(SdkInternalBaseException):
    """The attempt is over: nothing it does is recorded, so nothing it awaits can complete."""

    code = 598

    def __init__(
        self, message: str = "This attempt is closed; nothing it does is recorded any more."
    ) -> None:
        super().__init__(message)


class SdkInternalException(SdkInternalBaseException):
    """The attempt failed in a way that another attempt may heal."""

    def __init__(
        self, message: str = "This attempt failed; the invocation goes on with another one."
    ) -> None:
        super().__init__(message)


class SuspendedException(SdkInternalBaseException):
    """The invocation waits without a running attempt, and goes on by itself."""

    code = 599

    def __init__(
        self, message: str = "The invocation is suspended and goes on when what it awaits arrives."
    ) -> None:
        super().__init__(message)


def is_internal_exception(e: BaseException) -> bool:
    """Tell the engine's control flow from a failure; what it is true for must be re-raised."""
    return isinstance(e, SdkInternalBaseException)
