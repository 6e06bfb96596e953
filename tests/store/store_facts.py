"""Rows as the engine writes them, in the fewest words: a log grows by one fact per call."""

from __future__ import annotations

from pathlib import Path

from nbdurable.core.commands import (
    AnyCommand,
    ClearAllStateCommand,
    ClearStateCommand,
    RunCommand,
    SetStateCommand,
)
from nbdurable.core.facts import (
    AnyFact,
    AttemptStarted,
    EntryAppended,
    EpochStarted,
    InvocationCompleted,
    InvocationCreated,
    InvocationPurged,
    JournalPurged,
    LinkOpened,
    NotificationAppended,
    PromiseCompleted,
    StateEdited,
    StateEditQueued,
)
from nbdurable.core.ids import InvocationId, digest_of
from nbdurable.core.notifications import CompletionNotification
from nbdurable.core.records import Record, Row, encode
from nbdurable.core.values import Failure, ObjectId, PayloadRef, Success, Target

CART = ObjectId(service="Cart", key="ada")
ONE = InvocationId("inv_1one")
TWO = InvocationId("inv_1two")


def ref(value: bytes, *, comparable: bool = True) -> PayloadRef:
    return PayloadRef(bytes=len(value), digest=digest_of(value), comparable=comparable)


class Log:
    """Mutable: the last lsn, the epoch. Every method makes one row, the next of the log."""

    def __init__(self, last_lsn: int = 0) -> None:
        self.last_lsn = last_lsn
        self._epoch = 1

    def row(self, fact: AnyFact, payload: bytes | None = None) -> Row:
        self.last_lsn += 1
        record = Record(self.last_lsn, 1_000 + self.last_lsn, fact, payload)
        return encode(record, self._epoch, payload)

    def epoch(self, number: int = 1) -> Row:
        self._epoch = number
        return self.row(EpochStarted(epoch=number, owner="test", version="0"))

    def link_opened(self, link: str) -> Row:
        return self.row(LinkOpened(link=link))

    def created(self, invocation: InvocationId, argument: bytes = b"1") -> Row:
        fact = InvocationCreated(
            invocation_id=invocation,
            target=Target(service="Cart", handler="add", key="ada"),
            argument=ref(argument),
            status="ready",
            seed=1,
            service_type="virtual_object",
            handler_type="shared",
        )
        return self.row(fact, argument)

    def entry(
        self,
        invocation: InvocationId,
        command: AnyCommand,
        of: ObjectId | None = None,
        payload: bytes | None = None,
    ) -> Row:
        fact = EntryAppended(invocation_id=invocation, entry_index=1, command=command, object=of)
        return self.row(fact, payload)

    def started(self, invocation: InvocationId) -> Row:
        return self.row(
            AttemptStarted(invocation_id=invocation, attempt=1, link="here", revision=1)
        )

    def run(self, invocation: InvocationId) -> Row:
        return self.entry(invocation, RunCommand(completion_id=1, name="step"))

    def set(
        self,
        name: str,
        value: bytes,
        of: ObjectId = CART,
        by: InvocationId = ONE,
        *,
        comparable: bool = True,
    ) -> Row:
        command = SetStateCommand(key=name, value=ref(value, comparable=comparable))
        return self.entry(by, command, of, value)

    def clear(self, name: str, of: ObjectId = CART, by: InvocationId = ONE) -> Row:
        return self.entry(by, ClearStateCommand(key=name), of)

    def clear_all(self, of: ObjectId = CART, by: InvocationId = ONE) -> Row:
        return self.entry(by, ClearAllStateCommand(), of)

    def notified(self, invocation: InvocationId, value: bytes) -> Row:
        result = Success(value=ref(value))
        notification = CompletionNotification(result=result, completion_id=1, of="Run")
        fact = NotificationAppended(
            invocation_id=invocation, entry_index=2, notification=notification
        )
        return self.row(fact, value)

    def completed(self, invocation: InvocationId) -> Row:
        result = Failure(code=500, message="no")
        fact = InvocationCompleted(
            invocation_id=invocation,
            result=result,
            by="killed",
            attempt=0,
            revision=None,
            entry_count=1,
        )
        return self.row(fact)

    def promise(self, promise: str, value: bytes, of: ObjectId = CART) -> Row:
        result = Success(value=ref(value))
        return self.row(PromiseCompleted(object=of, promise=promise, result=result, by="x"), value)

    def edited(self, name: str, value: bytes, of: ObjectId = CART) -> Row:
        command = SetStateCommand(key=name, value=ref(value))
        return self.row(StateEdited(object=of, command=command), value)

    def edit_cleared(self, of: ObjectId = CART) -> Row:
        return self.row(StateEdited(object=of, command=ClearAllStateCommand()))

    def edit_queued(self, name: str, value: bytes, of: ObjectId = CART) -> Row:
        return self.row(StateEditQueued(object=of, edit_lsn=1, name=name, value=ref(value)), value)

    def journal_purged(self, invocation: InvocationId) -> Row:
        return self.row(JournalPurged(invocation_id=invocation))

    def purged(self, invocation: InvocationId, of: ObjectId | None = None) -> Row:
        return self.row(InvocationPurged(invocation_id=invocation, object=of))


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time of change and its bytes. Only while no store has it open."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in paths
    }
