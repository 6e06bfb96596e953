"""Rules that were made wrong on purpose, one at a time: the simulator must notice each.

A mutation is a function that patches the package. Where a rule is imported by name, it is patched
where it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nbdurable.core import evolve as evolving
from nbdurable.core import machine
from nbdurable.core.actions import PublishResult, SetTimer
from nbdurable.core.commands import SetStateCommand
from nbdurable.core.facts import InvocationSuspended
from nbdurable.core.notifications import CompletionNotification
from nbdurable.core.proposals import CompleteAwakeable, CompleteRun, EditState
from nbdurable.core.records import CopyOf
from nbdurable.core.rules import (
    attempt,
    commands,
    control,
    editing,
    external,
    invoke,
    progress,
    retention,
)
from nbdurable.core.state import EngineState, Waiter
from nbdurable.core.values import Success
from nbdurable.engine.loop import Engine

Mutation = Callable[[pytest.MonkeyPatch], None]
MUTATIONS: dict[str, Mutation] = {}


def mutation(name: str) -> Callable[[Mutation], Mutation]:
    def keep(apply: Mutation) -> Mutation:
        MUTATIONS[name] = apply
        return apply

    return keep


@mutation("a suspension ignores what came meanwhile")
def _(patch: pytest.MonkeyPatch) -> None:
    def suspend(draft: Any, inv: Any, step: Any) -> None:
        draft.record(
            InvocationSuspended(
                invocation_id=inv.id, attempt=inv.attempt, waiting_for=step.waiting_for
            )
        )

    patch.setattr(attempt, "_suspend", suspend)


@mutation("the inbox is last in, first out")
def _(patch: pytest.MonkeyPatch) -> None:
    queue = evolving._queue

    def queue_in_front(state: Any, inv: Any) -> None:
        queue(state, inv)
        inbox = state.objects[inv.object].inbox
        inbox.rotate(1)

    patch.setattr(evolving, "_queue", queue_in_front)


@mutation("an attempt that is over goes on writing")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attempt, "_is_live", lambda draft, inv, proposal: True)


@mutation("a step is recorded as often as it ends")
def _(patch: pytest.MonkeyPatch) -> None:
    def complete_run(draft: Any, inv: Any, step: CompleteRun) -> None:
        notification = CompletionNotification(
            completion_id=step.completion_id, of="Run", result=step.result
        )
        progress.notify(draft, inv, notification, step.payload)

    patch.setattr(attempt, "_complete_run", complete_run)


@mutation("an awakeable is completed as often as somebody likes")
def _(patch: pytest.MonkeyPatch) -> None:
    def complete(draft: Any, proposal: CompleteAwakeable) -> Any:
        named = external.parse_awakeable_id(proposal.awakeable_id)
        inv = draft.live(named.invocation_id)
        if inv is not None:
            progress.signal(draft, inv, named.signal_id, proposal.result, proposal.payload)
        return external.Done()

    patch.setattr(commands, "complete_awakeable", complete)
    patch.setitem(machine.RULES, CompleteAwakeable, complete)


@mutation("a caller is not told how its call ended")
def _(patch: pytest.MonkeyPatch) -> None:
    complete_future = progress.complete_future

    def all_but_calls(draft: Any, waiter: Waiter, result: Any, payload: Any = None) -> None:
        if waiter.of != "Call":
            complete_future(draft, waiter, result, payload)

    patch.setattr(progress, "complete_future", all_but_calls)


@mutation("an object's lock is not asked for")
def _(patch: pytest.MonkeyPatch) -> None:
    def take_lock(state: Any, inv: Any) -> None:
        if inv.exclusive:
            evolving._object_of(state, inv).holder = inv.id

    patch.setattr(evolving, "_take_lock", take_lock)
    patch.setattr(invoke, "first_status", lambda draft, target, *, exclusive: "ready")


@mutation("sleepers are forgotten by a restart")
def _(patch: pytest.MonkeyPatch) -> None:
    def resume(self: machine.EngineMachine) -> list[Any]:
        return []

    patch.setattr(machine.EngineMachine, "resume", resume)


@mutation("a value that is set does not reach the object")
def _(patch: pytest.MonkeyPatch) -> None:
    append = evolving._append

    def append_all_but_set(state: Any, inv: Any, lsn: int, fact: Any) -> None:
        if not isinstance(fact.command, SetStateCommand):
            append(state, inv, lsn, fact)

    patch.setattr(evolving, "_append", append_all_but_set)


@mutation("a new epoch leaves the attempts of the last one running")
def _(patch: pytest.MonkeyPatch) -> None:
    def start_epoch(state: Any, fact: Any) -> None:
        state.epoch = fact.epoch
        for service in state.services.values():
            service.loaded.clear()

    patch.setattr(evolving, "_start_epoch", start_epoch)


@mutation("a killed invocation leaves those it called alive")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(control, "_called_children", lambda draft, inv: [])


@mutation("a failed attempt is never tried again")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attempt, "set_timer", lambda draft, inv, completion_id, at_ms: None)


@mutation("a result is copied from another fact")
def _(patch: pytest.MonkeyPatch) -> None:
    copy_of = progress.copy_of

    def copy_of_first(result: Any, lsn: int | None = None) -> CopyOf | None:
        copied = copy_of(result, lsn)
        if copied is None or not isinstance(result, Success):
            return copied
        return CopyOf(max(1, copied.lsn - 1))

    for module in (progress, commands, external):
        patch.setattr(module, "copy_of", copy_of_first)


@mutation("sleeping takes half as long")
def _(patch: pytest.MonkeyPatch) -> None:
    append_command = attempt.append_command

    def append(draft: Any, inv: Any, command: Any, payload: Any) -> Any:
        error = append_command(draft, inv, command, payload)
        sleep = inv.open.get(getattr(command, "completion_id", 0))
        if hasattr(sleep, "wake_up_at_ms"):
            half = (draft.now_ms + sleep.wake_up_at_ms) // 2
            inv.open[command.completion_id] = msgspec.structs.replace(sleep, wake_up_at_ms=half)
            draft.actions = [
                msgspec.structs.replace(a, at_ms=half) if isinstance(a, SetTimer) else a
                for a in draft.actions
            ]
        return error

    patch.setattr(attempt, "append_command", append)


@mutation("a slot that is free is given to nobody")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(machine, "start_waiting", lambda draft: None)


@mutation("limits are not looked at")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EngineState, "is_full", lambda self, inv: False)


@mutation("a call that would wait for its own caller is let wait")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(commands, "_refuse_deadlock", lambda draft, inv, command: None)


@mutation("the cleaner takes what has not expired")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retention, "_is_over", lambda retention_ms, age_ms: retention_ms is not None)


@mutation("an edit of a key does not wait for its lock")
def _(patch: pytest.MonkeyPatch) -> None:
    def edit_state(draft: Any, proposal: EditState) -> Any:
        refused = editing._refuse(draft, proposal)
        if refused is None:
            values = {
                new.name: editing._NewValue(new.value, new.payload) for new in proposal.values
            }
            editing._replace_state(draft, proposal.object, values)
        return refused or external.Done()

    patch.setitem(machine.RULES, EditState, edit_state)


@mutation("an edit of a key waits behind those who came after it")
def _(patch: pytest.MonkeyPatch) -> None:
    make_due_edits = editing.make_due_edits

    def make_due_edits_last(draft: Any, object_id: Any, obj: Any) -> None:
        if not obj.inbox:
            make_due_edits(draft, object_id, obj)

    patch.setattr(progress, "make_due_edits", make_due_edits_last)


# Those that were found, put back: a simulator that does not find them again has got worse.


@mutation("what is published is looked up, though it may be purged by now")
def _(patch: pytest.MonkeyPatch) -> None:
    act = Engine._act

    def look_up(self: Any, action: Any) -> None:
        if isinstance(action, PublishResult) and action.invocation_id in self._callers:
            self.outcome(action.invocation_id)
        act(self, action)

    patch.setattr(Engine, "_act", look_up)


@mutation("code is loaded over a link that is closed")
def _(patch: pytest.MonkeyPatch) -> None:
    def decide(self: Any, proposal: Any, now_ms: int) -> Any:
        self._note(proposal)
        return self.machine.decide(proposal, now_ms)

    patch.setattr(Engine, "_decide", decide)


@mutation("the engine acts before it commits")
def _(patch: pytest.MonkeyPatch) -> None:
    commit = Engine._commit

    async def serve_batch(self: Any, letters: Any) -> None:
        now_ms = self._clock.now_ms()
        decisions = [self._decide(letter.proposal, now_ms) for letter in letters]
        records = [record for decision in decisions for record in decision.records]
        rows = self._rows(records)
        for letter, decision in zip(letters, decisions, strict=True):
            for action in decision.actions:
                self._act(action)
            letter.answer(decision.answer)
        try:
            await commit(self, rows)
        except Exception as error:  # noqa: BLE001 - as the engine does.
            await self._recover_from(error, letters, decisions, records[-1].lsn)

    patch.setattr(Engine, "_serve_batch", serve_batch)
