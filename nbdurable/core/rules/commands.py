"""What each command brings about, beyond its own entry. One case per command: read it as a table.

A command's effect is recorded in the same commit as the command.
"""

from __future__ import annotations

from nbdurable.core.commands import (
    AnyCommand,
    AttachInvocationCommand,
    CallCommand,
    ClearAllStateCommand,
    ClearStateCommand,
    CompleteAwakeableCommand,
    CompletePromiseCommand,
    GetPromiseCommand,
    OneWayCallCommand,
    PeekPromiseCommand,
    SendSignalCommand,
    SetStateCommand,
    SleepCommand,
)
from nbdurable.core.draft import Draft
from nbdurable.core.facts import Caller, Completed, EntryAppended
from nbdurable.core.ids import child_seed
from nbdurable.core.proposals import CompleteAwakeable, CompletePromise, Invoke
from nbdurable.core.records import CopyOf
from nbdurable.core.rules.control import cancel
from nbdurable.core.rules.deadlock import refuse_deadlock, refuse_queueing
from nbdurable.core.rules.external import complete_awakeable, complete_promise
from nbdurable.core.rules.invoke import create, refuse_target
from nbdurable.core.rules.progress import (
    VOID,
    answered_by,
    complete_future,
    copy_of,
    named_signal,
    promise_result,
    set_timer,
    terminal,
)
from nbdurable.core.rules.retention import expire
from nbdurable.core.state import Invocation, Waiter
from nbdurable.core.values import ErrorReport, Failure, Success

_NOT_FOUND = 404
# Restate's number for what is against the protocol.
_PROTOCOL_VIOLATION = 571
_STATE_COMMANDS = (SetStateCommand, ClearStateCommand, ClearAllStateCommand)
_OF_KEYS = (*_STATE_COMMANDS, GetPromiseCommand, PeekPromiseCommand, CompletePromiseCommand)


def append_command(
    draft: Draft, inv: Invocation, command: AnyCommand, payload: bytes | None
) -> ErrorReport | None:
    """Append the entry and its effects. Returns why it cannot be, and then appends nothing."""
    refused = _refuse_misplaced(inv, command) or _refuse(draft, command)
    if refused is not None:
        return refused
    object_id = inv.object if isinstance(command, _STATE_COMMANDS) else None
    entry = EntryAppended(
        invocation_id=inv.id, entry_index=inv.entry_count, command=command, object=object_id
    )
    lsn = draft.record(entry, payload)
    match command:
        case SleepCommand():
            set_timer(draft, inv, command.completion_id, command.wake_up_at_ms)
        case CallCommand() | OneWayCallCommand():
            _call(draft, inv, command, entry.entry_index, lsn)
        case GetPromiseCommand():
            assert inv.object is not None
            result = promise_result(draft, inv.object, command.key)
            if result is not None:
                waiter = Waiter(inv.id, inv.seed, command.completion_id, "GetPromise")
                answered = answered_by(draft, inv.object, command.key)
                complete_future(draft, waiter, result, copy_of(result), answered)
        case PeekPromiseCommand():
            assert inv.object is not None
            result = promise_result(draft, inv.object, command.key)
            waiter = Waiter(inv.id, inv.seed, command.completion_id, "PeekPromise")
            if result is None:
                complete_future(draft, waiter, VOID)
            else:
                complete_future(draft, waiter, result, copy_of(result))
        case CompletePromiseCommand():
            _complete_promise(draft, inv, command, lsn)
        case CompleteAwakeableCommand():
            completion = CompleteAwakeable(
                awakeable_id=command.awakeable_id, result=command.result, payload=payload
            )
            complete_awakeable(draft, completion)
        case AttachInvocationCommand():
            _attach(draft, inv, command)
        case SendSignalCommand():
            _send_signal(draft, command, lsn)
        case _:
            pass
    return None


def _refuse_misplaced(inv: Invocation, command: AnyCommand) -> ErrorReport | None:
    """What our own contexts never say, and a process that has joined might."""
    why = None
    if inv.object is None and isinstance(command, _OF_KEYS):
        why = f"{inv.target.service} has no keys"
    elif getattr(command, "completion_id", None) in inv.open:
        why = f"something else is waited for by the number {command.completion_id}"  # type: ignore[union-attr]
    elif isinstance(command, SendSignalCommand) and (
        command.signal_name is not None and command.result is None
    ):
        why = "a signal has a result"
    if why is None:
        return None
    message = f"{type(command).__name__} cannot be recorded: {why}"
    return ErrorReport(code=_PROTOCOL_VIOLATION, message=message, heals_by_retry=False)


def _refuse(draft: Draft, command: AnyCommand) -> ErrorReport | None:
    """A call to what is not registered (yet), or not so, backs off like any failure.

    Source: restate-http-observed.md – it never fails the call: RT0018, retried.
    restate-semantics.md, 1.1 – a key where there are none, or none where there are, is RT0017.
    """
    if not isinstance(command, CallCommand | OneWayCallCommand):
        return None
    refused = refuse_target(draft, command.target, command.invocation_id)
    if refused is None:
        return None
    return ErrorReport(
        code=refused.code,
        message=refused.message,
        type_name="RT0018" if refused.code == _NOT_FOUND else "RT0017",
        command_name=command.name,
    )


def _call(
    draft: Draft,
    inv: Invocation,
    command: CallCommand | OneWayCallCommand,
    entry_index: int,
    lsn: int,
) -> None:
    """Begin the callee, or latch on to the one that has its idempotency or workflow key."""
    completion_id = command.completion_id if isinstance(command, CallCommand) else None
    expire(draft, command.invocation_id)
    existing = draft.state.find(command.invocation_id)
    if completion_id is not None:
        deadlock = _refuse_deadlock(draft, inv, command)
        if deadlock is not None:
            complete_future(draft, Waiter(inv.id, inv.seed, completion_id, "Call"), deadlock)
            return
    if existing is None:
        proposal = Invoke(
            invocation_id=command.invocation_id,
            seed=child_seed(inv.seed, entry_index),
            target=command.target,
            argument=command.argument,
            payload=b"",
            headers=command.headers,
            idempotency_key=command.idempotency_key,
            limit_key=command.limit_key,
            start_at_ms=getattr(command, "invoke_at_ms", None),
            caller=Caller(invocation_id=inv.id, seed=inv.seed, completion_id=completion_id),
            link=inv.home,
        )
        create(draft, proposal, CopyOf(lsn))
        return
    if completion_id is None:
        return
    waiter = Waiter(inv.id, inv.seed, completion_id, "Call")
    if command.idempotency_key is None:
        # Source: restate-semantics.md, 1.2 – a workflow that is called again: 409 to the caller.
        conflict = terminal(409, "the workflow method was already invoked")
        complete_future(draft, waiter, conflict)
    elif isinstance(existing, Completed):
        complete_future(draft, waiter, existing.result, copy_of(existing.result))


def _refuse_deadlock(
    draft: Draft, inv: Invocation, command: CallCommand | OneWayCallCommand
) -> Failure | None:
    if draft.state.find(command.invocation_id) is not None:
        # Without an idempotency key it is a workflow's run, which answers at once.
        latches = command.idempotency_key is not None
        return refuse_deadlock(draft, inv, command.invocation_id) if latches else None
    handler = draft.state.handler(command.target)
    exclusive = handler is not None and handler.type == "exclusive"
    return refuse_queueing(draft, inv, command.target) if exclusive else None


def _complete_promise(
    draft: Draft, inv: Invocation, command: CompletePromiseCommand, lsn: int
) -> None:
    """Write-once: the second to complete a promise is told so."""
    assert inv.object is not None
    proposal = CompletePromise(
        service=inv.object.service,
        key=inv.object.key,
        promise=command.key,
        result=command.result,
        by=inv.id,
        scope=inv.object.scope,
    )
    waiter = Waiter(inv.id, inv.seed, command.completion_id, "CompletePromise")
    if complete_promise(draft, proposal, CopyOf(lsn)):
        complete_future(draft, waiter, VOID)
    else:
        complete_future(draft, waiter, terminal(409, "promise was already completed"))


def _send_signal(draft: Draft, command: SendSignalCommand, lsn: int) -> None:
    """To one that has ended, or never was, there is nothing to say."""
    target = draft.live(command.invocation_id)
    if target is None:
        return
    if command.signal_name is None:
        cancel(draft, target)
        return
    assert command.result is not None, command
    payload = CopyOf(lsn) if isinstance(command.result, Success) else None
    named_signal(draft, target, command.signal_name, command.result, payload)


def _attach(draft: Draft, inv: Invocation, command: AttachInvocationCommand) -> None:
    waiter = Waiter(inv.id, inv.seed, command.completion_id, "AttachInvocation")
    target = draft.state.find(command.invocation_id)
    deadlock = refuse_deadlock(draft, inv, command.invocation_id)
    if target is None:
        complete_future(draft, waiter, terminal(404, "not found"))
    elif deadlock is not None:
        complete_future(draft, waiter, deadlock)
    elif isinstance(target, Completed):
        complete_future(draft, waiter, target.result, copy_of(target.result))
