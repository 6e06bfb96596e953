"""What travels over a link to the process that runs a handler."""

from __future__ import annotations

from typing import NamedTuple

from nbdurable.core.commands import AnyCommand
from nbdurable.core.ids import InvocationId
from nbdurable.core.notifications import AnyNotification
from nbdurable.core.values import Target


class JournalEntry(NamedTuple):
    """One entry of the journal that an attempt replays."""

    entry_index: int
    entry: AnyCommand | AnyNotification
    payload: bytes | None


class FailedRun(NamedTuple):
    """A step that has failed before and when it may be tried again."""

    completion_id: int
    next_retry_at_ms: int


class AttemptStart(NamedTuple):
    """All that an attempt needs. Travels over a link."""

    epoch: int
    invocation_id: InvocationId
    attempt: int
    target: Target
    revision: int
    argument: bytes
    headers: dict[str, str]
    idempotency_key: str | None
    seed: int
    keyed: bool
    inactivity_timeout_ms: int
    journal: tuple[JournalEntry, ...]
    state: dict[str, bytes]
    failed_runs: tuple[FailedRun, ...]
    # Commands at the journal's beginning that were copied from another one: what they wrote was
    # written then, and is not written here.
    copied_count: int = 0
    # Commands, by index, at which a person has accepted what differs from the journal.
    accepted: tuple[int, ...] = ()
    limit_key: str | None = None
    # None: it may stand still for as long as it likes.
    abort_timeout_ms: int | None = None
    # Service and handler of each workflow's run that the engine knows: one that is called by name
    # has the id of its key, whichever process has its code.
    runs: tuple[tuple[str, str], ...] = ()
