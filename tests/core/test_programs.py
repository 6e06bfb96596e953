"""Random programs over both machines: cut anywhere, replayed, and every replay is the same.

A program is a list of operations. It runs on an attempt machine against the engine machine, with
commits, deliveries, timers, children, cancellations and crashes in an order drawn from a seed.
What one attempt has observed every later attempt must observe, in the same order.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import event, given, note
from hypothesis import strategies as st
from room import GREET, add, counter, greeter

from nbdurable.core.actions import DeliverNotification, StartAttempt
from nbdurable.core.attempt import (
    AttemptMachine,
    Cancelled,
    ExecuteRun,
    MismatchError,
    Ready,
    WaitExternal,
    ref_of,
    success_of,
)
from nbdurable.core.commands import OutputCommand
from nbdurable.core.futures import AllCompleted, FirstCompleted, FutureTree, Leaf, leaves
from nbdurable.core.ids import InvocationId, awakeable_id, random_invocation_id
from nbdurable.core.machine import EngineMachine
from nbdurable.core.proposals import (
    AppendCommand,
    AttemptSteps,
    CancelInvocation,
    CompleteAwakeable,
    Invoke,
    LoadCode,
    Proposal,
    StartEpoch,
    Timer,
    TimerFired,
)
from nbdurable.core.records import encode
from nbdurable.core.values import Failure
from nbdurable.engine.starts import attempt_start
from nbdurable.engine.vault import Vault
from nbdurable.store.memory import MemoryStore

STEPS_MAX = 4_000
ROOT = random_invocation_id(1)

Trace = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Op:
    """`waits_for` are the ids of operations that made a future. Ids stay when ops come and go."""

    id: int
    kind: str
    waits_for: tuple[int, ...] = ()
    said: str = ""

    def __repr__(self) -> str:
        return f"{self.id}:{self.kind}{list(self.waits_for) or ''}{self.said}"


def perform(
    program: list[Op], machine: AttemptMachine, trace: Trace
) -> Generator[FutureTree, bool, None]:
    """The handler. It yields what it awaits and is sent whether that was cancelled."""
    futures: dict[int, Leaf] = {}
    for op in program:
        name = f"op {op.id}{op.said}"
        match op.kind:
            case "run":
                futures[op.id] = machine.run(name)
            case "sleep":
                futures[op.id] = machine.sleep(10 * op.id, name)
            case "call":
                futures[op.id] = machine.call(GREET, name.encode())[0]
            case "awakeable":
                futures[op.id] = machine.awakeable()[1]
            case "send":
                machine.send(GREET, name.encode())
            case "set":
                machine.set_state("k", name.encode())
            case "get":
                trace.append((op.id, machine.get_state("k")))
            case _:
                of = tuple(futures[i] for i in op.waits_for if i in futures)
                if not of:
                    continue
                tree = FirstCompleted(of=of) if op.kind == "select" else AllCompleted(of=of)
                if (yield tree):
                    trace.append((op.id, "cancelled"))
                else:
                    settled = [leaf for leaf in leaves(tree) if machine.is_settled(leaf)]
                    trace.append((op.id, *((leaf, machine.take(leaf)) for leaf in settled)))


class World:
    """Mutable: one engine, one attempt of one invocation, and whatever else happens."""

    def __init__(self, program: list[Op], seed: int) -> None:
        self.program = program
        self.random = random.Random(seed)
        self.traces: list[Trace] = []
        self.now_ms = 0
        self.engine = EngineMachine()
        self.store = MemoryStore()
        self.store.open()
        self.vault = Vault(self.store)
        self.attempt: AttemptMachine | None = None
        self.deliveries: deque[DeliverNotification] = deque()
        self.executing: set[int] = set()
        self.tree: FutureTree | None = None
        self.is_cancelled = False
        self.begin_epoch()
        self.decide(
            Invoke(invocation_id=ROOT, seed=1, target=add(), argument=ref_of(b"in"), payload=b"in")
        )

    # -- the engine ---------------------------------------------------------------------------

    def decide(self, proposal: Proposal) -> None:
        decision = self.engine.decide(proposal, self.now_ms)
        rows = []
        for record in decision.records:
            payload = self.vault.resolve(record)
            self.vault.remember(record, payload)
            rows.append(encode(record, self.engine.state.epoch, payload))
        if rows:
            self.store.append(rows)
        for action in decision.actions:
            match action:
                case StartAttempt(invocation_id=of) if of == ROOT:
                    self.start_attempt()
                case DeliverNotification(invocation_id=of) if of == ROOT:
                    self.deliveries.append(action)
                case _:
                    pass

    def begin_epoch(self) -> None:
        self.attempt = None
        self.decide(StartEpoch(owner="test", version="0"))
        for service in (counter(), greeter()):
            self.decide(LoadCode(link="here", manifest=service))

    def start_attempt(self) -> None:
        start = attempt_start(self.engine.state, self.root, self.vault)
        self.start = start
        # As it was last; once it has ended, only its journal tells what it did.
        self.alive = self.root
        self.attempt = AttemptMachine(start)
        self.traces.append([])
        self.code = perform(self.program, self.attempt, self.traces[-1])
        self.deliveries.clear()
        self.executing.clear()
        self.tree, self.has_begun = None, False

    @property
    def root(self) -> Any:
        return self.engine.state.find(ROOT)

    # -- what can happen next -----------------------------------------------------------------

    def go(self) -> None:
        for number in range(STEPS_MAX):
            if self.root.status == "completed":
                return
            is_calm = number > STEPS_MAX // 4
            happening = self.random.choice(list(self.possible(is_calm=is_calm)))
            happening()
        pytest.fail(f"it never ends: {self.root}")

    def possible(self, *, is_calm: bool) -> Iterator[Any]:
        yield from [self.run_code] * (4 if self.attempt else 0)
        if self.attempt is not None and self.attempt.has_steps:
            yield from [self.flush] * 2
        if self.deliveries:
            yield from [self.deliver] * 2
        if self.executing:
            yield self.finish_a_step
        state = self.engine.state
        if self.root.sleeping:
            yield self.fire_a_timer
        if self.root.open_awakeables:
            yield self.complete_an_awakeable
        if any(inv.status == "running" for inv in state.live() if inv.id != ROOT):
            yield self.finish_a_child
        if not is_calm and self.random.random() < 0.15:
            yield self.crash
        if not is_calm and not self.is_cancelled and self.random.random() < 0.1:
            yield self.cancel

    def run_code(self) -> None:
        """One turn of the handler: to its next await, or past the one it stands at."""
        assert self.attempt is not None
        cancelled: bool | None = None
        if self.tree is not None:
            match self.attempt.await_(self.tree):
                case Ready():
                    cancelled = False
                case Cancelled(abandoned=abandoned):
                    self.executing.difference_update(abandoned)
                    cancelled = True
                case ExecuteRun(completion_ids=completion_ids):
                    self.executing.update(completion_ids)
                    return
                case WaitExternal(can_suspend=can_suspend):
                    if can_suspend and self.random.random() < 0.2:
                        self.attempt.suspend(self.tree)
                        self.flush()
                    return
        try:
            self.tree = next(self.code) if cancelled is None else self.code.send(cancelled)
        except StopIteration:
            self.attempt.output(success_of(b"out"), b"out")
            self.flush()

    def flush(self) -> None:
        assert self.attempt is not None
        ended = self.attempt
        steps = ended.take_steps()
        if steps:
            self.decide(
                AttemptSteps(
                    epoch=self.start.epoch,
                    invocation_id=ROOT,
                    seed=self.start.seed,
                    attempt=self.start.attempt,
                    steps=steps,
                )
            )
        if self.root.status != "running" and self.attempt is ended:
            self.attempt = None
            self.executing.clear()
            self.deliveries.clear()

    def deliver(self) -> None:
        action = self.deliveries.popleft()
        if self.attempt is None or action.attempt != self.start.attempt:
            return
        failed = isinstance(action.notification.result, Failure)
        payload = None if failed else self.store.read_payload(action.lsn)
        self.attempt.notify(action.entry_index, action.notification, payload)

    def finish_a_step(self) -> None:
        assert self.attempt is not None
        completion_id = self.random.choice(sorted(self.executing))
        self.executing.discard(completion_id)
        # Never the same twice: a step that ran again unseen would show.
        value = self.random.randbytes(4)
        self.attempt.complete_run(completion_id, success_of(value), value)

    def fire_a_timer(self) -> None:
        completion_id = self.random.choice(sorted(self.root.sleeping))
        self.now_ms = max(self.now_ms, self.root.sleeping[completion_id])
        self.decide(TimerFired(timer=Timer(invocation_id=ROOT, completion_id=completion_id)))

    def complete_an_awakeable(self) -> None:
        signal_id = self.random.choice(sorted(self.root.open_awakeables))
        value = self.random.randbytes(4)
        of = awakeable_id(ROOT, self.root.seed, signal_id)
        self.decide(CompleteAwakeable(awakeable_id=of, result=success_of(value), payload=value))

    def finish_a_child(self) -> None:
        running = [i for i in self.engine.state.live() if i.status == "running" and i.id != ROOT]
        child = self.random.choice(running)
        value = self.random.randbytes(4)
        command = OutputCommand(result=success_of(value))
        self.decide(
            AttemptSteps(
                epoch=self.engine.state.epoch,
                invocation_id=child.id,
                seed=child.seed,
                attempt=child.attempt,
                steps=(AppendCommand(command=command, payload=value),),
            )
        )

    def crash(self) -> None:
        """What was not committed is gone, and the handler with it."""
        self.vault = Vault(self.store)
        self.begin_epoch()

    def cancel(self) -> None:
        self.is_cancelled = True
        self.decide(CancelInvocation(invocation_id=InvocationId(ROOT)))


@st.composite
def programs(draw: st.DrawFn) -> list[Op]:
    kinds = ["run", "run", "sleep", "call", "awakeable", "send", "set", "get"]
    program: list[Op] = []
    made: list[int] = []
    for number in range(1, draw(st.integers(3, 20))):
        kind = draw(st.sampled_from([*kinds, *["select", "all"] * (3 if made else 0)]))
        waits_for: tuple[int, ...] = ()
        if kind in ("select", "all"):
            waits_for = tuple(draw(st.lists(st.sampled_from(made), min_size=1, max_size=3)))
        elif kind not in ("send", "set", "get"):
            made.append(number)
        program.append(Op(number, kind, waits_for))
    return program


def lived(program: list[Op], seed: int) -> World:
    world = World(program, seed)
    note(f"seed {seed}, program {program}")
    world.go()
    event(f"attempts {min(len(world.traces), 5)}{'+' if len(world.traces) > 4 else ''}")
    return world


@given(program=programs(), seed=st.integers(0, 2**32))
def test_every_attempt_observes_what_the_ones_before_it_did(program: list[Op], seed: int):
    world = lived(program, seed)
    for earlier, later in zip(world.traces, world.traces[1:], strict=False):
        seen = min(len(earlier), len(later))
        assert later[:seen] == earlier[:seen]
    longest = max(world.traces, key=len)
    assert world.traces[-1] == longest


def replay(world: World, program: list[Op]) -> tuple[AttemptMachine, Trace]:
    """Once more from the finished journal, with nothing happening outside."""
    machine, trace = AttemptMachine(world.start_of_finished), []  # type: ignore[attr-defined]
    code = perform(program, machine, trace)
    try:
        tree = next(code)
        while True:
            match machine.await_(tree):
                case Ready():
                    tree = code.send(False)  # noqa: FBT003
                case Cancelled():
                    tree = code.send(True)  # noqa: FBT003
                case progress:
                    pytest.fail(f"replay waits: {progress}")
    except StopIteration:
        machine.output(success_of(b"out"), b"out")
    return machine, trace


def finished(program: list[Op], seed: int) -> World:
    world = lived(program, seed)
    inv = world.alive
    inv.revision = 1
    world.start_of_finished = attempt_start(world.engine.state, inv, Vault(world.store))  # type: ignore[attr-defined]
    return world


@given(program=programs(), seed=st.integers(0, 2**32))
def test_replaying_a_whole_journal_does_nothing_new(program: list[Op], seed: int):
    world = finished(program, seed)
    machine, trace = replay(world, program)
    assert trace == world.traces[-1]
    (output,) = machine.take_steps()
    assert isinstance(output, AppendCommand)
    assert isinstance(output.command, OutputCommand)


COMMANDS = ("run", "sleep", "call", "awakeable", "send", "set", "get")
OTHER_KIND = {"run": "sleep", "sleep": "run", "call": "send", "send": "call"}


@given(
    program=programs(),
    seed=st.integers(0, 2**32),
    how=st.sampled_from(["renamed", "other kind", "removed", "added"]),
    data=st.data(),
)
def test_every_change_of_a_command_is_found(
    program: list[Op], seed: int, how: str, data: st.DataObject
):
    """At the command itself, or at the latest when the handler returns."""
    places = [n for n, op in enumerate(program) if op.kind in COMMANDS]
    if not places:
        return
    place = data.draw(st.sampled_from(places))
    op = program[place]
    changed = list(program)
    match how:
        case "renamed":
            if op.kind in ("awakeable", "get"):
                return
            changed[place] = replace(op, said="!")
        case "other kind":
            changed[place] = replace(op, kind=OTHER_KIND.get(op.kind, "run"))
        case "removed":
            del changed[place]
        case "added":
            changed.insert(place, Op(99, "run"))
    world = finished(program, seed)
    with pytest.raises(MismatchError):
        replay(world, changed)


@given(program=programs(), seed=st.integers(0, 2**32), data=st.data())
def test_an_added_await_is_found_when_its_future_had_not_come_by_then(
    program: list[Op], seed: int, data: st.DataObject
):
    """A future that never came, awaited with recorded commands still to follow."""
    places = [n for n, op in enumerate(program[:-1]) if op.kind in ("run", "sleep", "call")]
    if not places:
        return
    place = data.draw(st.sampled_from(places))
    has_commands_after = any(op.kind in COMMANDS for op in program[place + 1 :])
    world = finished(program, seed)
    of = program[place].id
    awaited_before = any(of in op.waits_for for op in program)
    if not has_commands_after or awaited_before or world.is_cancelled:
        return
    changed = [*program[: place + 1], Op(99, "all", (of,)), *program[place + 1 :]]
    try:
        _, trace = replay(world, changed)
    except MismatchError:
        return
    # It had come: then the await is served by the journal, and nothing else changes.
    assert any(entry[0] == 99 for entry in trace)
