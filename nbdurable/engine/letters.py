"""What is in the engine's mailbox: proposals and questions, each with whoever waits for its answer.

An answer is given once, on the engine's thread. To one who gave up waiting there is nothing to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

from nbdurable.core.proposals import Answer, AttemptSteps, Proposal
from nbdurable.errors import EngineClosedError, NbdurableError

T_contra = TypeVar("T_contra", contravariant=True)

# One commit costs about 1 ms whatever its size; past this many proposals the wait of the first
# one grows more than the cost per proposal falls.
BATCH_PROPOSALS_MAX = 256
# Nor more bytes than that, unless one proposal alone has: a commit is kept in memory, and absorbed.
BATCH_BYTES_MAX = 8 * 1024 * 1024


class Reply(Protocol[T_contra]):
    """Who waits for an answer: a `Future`, or what costs less."""

    def done(self) -> bool: ...

    def set_running_or_notify_cancel(self) -> bool:
        """False when nobody waits any more; then nothing else is called."""

    def set_result(self, result: T_contra, /) -> None: ...

    def set_exception(self, error: BaseException, /) -> None: ...


class Letter(NamedTuple):
    """A proposal. Attempts and timers wait for no answer."""

    proposal: Proposal
    reply: Reply[Answer] | None = None

    def answer(self, answer: Answer) -> None:
        if self.reply is not None and self.reply.set_running_or_notify_cancel():
            self.reply.set_result(answer)

    def fail(self, error: BaseException) -> None:
        if self.reply is None or self.reply.done():
            return
        if self.reply.set_running_or_notify_cancel():
            self.reply.set_exception(error)


class Inquiry(NamedTuple):
    """Answered between two batches, so that nobody is told what is not durable yet.

    One that `only_looks` is not kept while nothing can be committed: who looks is told why.
    """

    answer: Callable[[], None]
    fail: Callable[[BaseException], None]
    only_looks: bool = False


def only_looks(letter: Letter | Inquiry) -> bool:
    return isinstance(letter, Inquiry) and letter.only_looks


def batches(letters: Sequence[Letter]) -> Iterator[list[Letter]]:
    """In order, and as many together as one commit should hold."""
    batch: list[Letter] = []
    batch_bytes = 0
    for letter in letters:
        letter_bytes = _payload_bytes(letter.proposal)
        is_full = len(batch) == BATCH_PROPOSALS_MAX or batch_bytes + letter_bytes > BATCH_BYTES_MAX
        if batch and is_full:
            yield batch
            batch, batch_bytes = [], 0
        batch.append(letter)
        batch_bytes += letter_bytes
    if batch:
        yield batch


def as_error(error: BaseException) -> BaseException:
    """Why there will be no answer, for whoever waits for one."""
    match error:
        case NbdurableError():
            return error
        case asyncio.CancelledError():
            return EngineClosedError(
                "the engine was closed before this was answered; open the journal again to see"
                " whether it happened"
            )
        case _:
            return EngineClosedError(f"the engine stopped: {error!r}")


def _payload_bytes(proposal: Proposal) -> int:
    """Of the values that it brings along."""
    if isinstance(proposal, AttemptSteps):
        return sum(len(getattr(step, "payload", None) or b"") for step in proposal.steps)
    return len(getattr(proposal, "payload", None) or b"")
