"""Random lives of the engine machine. After every decision every invariant holds.

The rules propose what attempts, clients, timers and processes could: an attempt asks for anything
at any time, ends in any way, and says so late; people press every button; processes come and go.
"""

from __future__ import annotations

from functools import partial

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from room import GREET, Room, add, approve_of, counter, error, greeter, payment, peek, run_of, value

from nbdurable.core.attempt import ref_of
from nbdurable.core.commands import (
    AnyCommand,
    AttachInvocationCommand,
    AwakeableCommand,
    CallCommand,
    ClearAllStateCommand,
    ClearStateCommand,
    CompleteAwakeableCommand,
    CompletePromiseCommand,
    GetPromiseCommand,
    OneWayCallCommand,
    OutputCommand,
    PeekPromiseCommand,
    RunCommand,
    SendSignalCommand,
    SetStateCommand,
    SignalCommand,
    SleepCommand,
)
from nbdurable.core.facts import Completed, EntryAppended, InvocationCreated
from nbdurable.core.futures import AllCompleted, Completion, FirstCompleted, Signal
from nbdurable.core.ids import (
    InvocationId,
    awakeable_id,
    keyed_invocation_id,
    random_invocation_id,
)
from nbdurable.core.limits import Limits
from nbdurable.core.proposals import (
    AcceptMismatch,
    AppendCommand,
    AttemptSteps,
    CancelInvocation,
    CleanUp,
    CompleteAwakeable,
    CompletePromise,
    CompleteRun,
    ConfigureEngine,
    EditState,
    FailAttempt,
    FailRun,
    KillInvocation,
    PauseInvocation,
    PurgeInvocation,
    PurgeJournal,
    RestartInvocation,
    ResumeInvocation,
    SendSignal,
    StateValue,
    Suspend,
)
from nbdurable.core.restart import prefix_of
from nbdurable.core.settings import Settings
from nbdurable.core.state import Invocation
from nbdurable.core.values import Failure, ObjectId, Result, RetryPolicy, Target

TARGETS = [
    GREET,
    *(make(key) for make in (add, peek, run_of, approve_of) for key in ("a", "b")),
]
SERVICES = [greeter, partial(counter, 7 * 24 * 3_600_000), payment]
SIGNALS = st.integers(17, 19)
KEYS = st.sampled_from(["x", "y"])
PICK = st.integers(0, 1_000)


class EngineLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.seed = 0
        self.completion_id = 0
        # Those that were purged: who they were, and their seeds.
        self.former: list[tuple[InvocationId, int]] = []

    @initialize()
    def begin(self) -> None:
        policy = RetryPolicy(initial_interval_ms=10, max_attempts=3)
        self.room = Room(*(service(retry=policy) for service in SERVICES))

    # -- what there is to pick from -----------------------------------------------------------

    def running(self) -> list[Invocation]:
        return [inv for inv in self.room.state.live() if inv.status == "running"]

    def some(self, pick: int) -> InvocationId:
        known = [*(inv.id for inv in self.known()), InvocationId("inv_1aaaaaaaaaaaaaaaaaaaaaaaaaa")]
        return known[pick % len(known)]

    def known(self) -> list[Invocation | Completed]:
        state = self.room.state
        known = [*state.invocations.values(), *state.completed.values()]
        return sorted(known, key=lambda inv: inv.first_lsn)

    def new_id(self, target: Target, idempotency_key: str | None) -> InvocationId:
        self.seed += 1
        if target.handler == "run" or idempotency_key is not None:
            return keyed_invocation_id(target.service, target.key, target.handler, idempotency_key)
        return random_invocation_id(self.seed)

    def seed_of(self, invocation_id: InvocationId) -> int:
        inv = self.room.state.find(invocation_id)
        return 0 if inv is None else inv.seed

    def append(self, pick: int, command: AnyCommand, payload: bytes | None = None) -> None:
        of = self.running()
        self.room.append(of[pick % len(of)].id, command, payload)

    def next_completion_id(self) -> int:
        self.completion_id += 1
        return self.completion_id

    def next_wait(self, pick: int, name: str) -> int:
        of = self.running()
        inv = of[pick % len(of)]
        return sum(
            isinstance(record.fact, EntryAppended)
            and record.fact.invocation_id == inv.id
            and record.lsn > inv.first_lsn
            and getattr(record.fact.command, "signal_name", None) == name
            and isinstance(record.fact.command, SignalCommand)
            for record in self.room.records
        )

    # -- clients ------------------------------------------------------------------------------

    @rule(
        what=st.sampled_from(TARGETS),
        delay_ms=st.sampled_from([None, 0, 50]),
        key=st.sampled_from([None, None, "k"]),
    )
    def invoke(self, what: Target, delay_ms: int | None, key: str | None) -> None:
        self.seed += 1
        at_ms = None if delay_ms is None else self.room.now_ms + delay_ms
        key = None if what.handler == "run" else key
        self.room.invoke(what, idempotency_key=key, start_at_ms=at_ms, seed=self.seed)

    @rule(
        pick=PICK,
        verb=st.sampled_from(
            [CancelInvocation, KillInvocation, PauseInvocation, ResumeInvocation, PurgeInvocation]
        ),
    )
    def press_a_button(self, pick: int, verb: type) -> None:
        one = self.some(pick)
        seed = self.seed_of(one)
        self.room.decide(verb(invocation_id=one))
        if verb is PurgeInvocation and self.room.state.find(one) is None:
            self.former.append((one, seed))

    @precondition(lambda self: any(self.is_named(inv) for inv in self.known()))
    @rule(pick=PICK)
    def live_again(self, pick: int) -> None:
        """Killed, purged and invoked again under the same name."""
        named = [inv for inv in self.known() if self.is_named(inv)]
        inv = named[pick % len(named)]
        target, key = inv.target, inv.idempotency_key
        self.room.decide(KillInvocation(invocation_id=inv.id))
        self.room.decide(PurgeInvocation(invocation_id=inv.id))
        self.former.append((inv.id, inv.seed))
        self.seed += 1
        self.room.invoke(target, idempotency_key=key, seed=self.seed)

    @staticmethod
    def is_named(inv: Invocation) -> bool:
        return inv.target.handler == "run" or inv.idempotency_key is not None

    @rule(key=st.sampled_from("ab"), promise=KEYS, fails=st.booleans())
    def complete_a_promise(self, key: str, promise: str, fails: bool) -> None:  # noqa: FBT001
        result, payload = outcome(fails=fails)
        self.room.decide(
            CompletePromise(
                service="Payment", key=key, promise=promise, result=result, payload=payload
            )
        )

    @rule(pick=PICK, signal_id=SIGNALS, fails=st.booleans())
    def complete_an_awakeable(self, pick: int, signal_id: int, fails: bool) -> None:  # noqa: FBT001
        result, payload = outcome(fails=fails)
        one = self.some(pick)
        of = awakeable_id(one, self.seed_of(one), signal_id)
        self.room.decide(CompleteAwakeable(awakeable_id=of, result=result, payload=payload))

    @rule(pick=PICK, name=KEYS, fails=st.booleans())
    def send_a_signal(self, pick: int, name: str, fails: bool) -> None:  # noqa: FBT001
        result, payload = outcome(fails=fails)
        of = self.some(pick)
        self.room.decide(SendSignal(invocation_id=of, name=name, result=result, payload=payload))

    @rule(pick=PICK, verb=st.sampled_from([PurgeJournal, AcceptMismatch]))
    def press_a_rarer_button(self, pick: int, verb: type) -> None:
        self.room.decide(verb(invocation_id=self.some(pick)))

    @rule(days=st.sampled_from([0, 1, 40]), purges_max=st.integers(1, 3))
    def clean_up(self, days: int, purges_max: int) -> None:
        self.room.now_ms += days * 24 * 3_600_000
        before = {inv.id: inv.seed for inv in self.known()}
        self.room.decide(CleanUp(purges_max=purges_max))
        self.former += [
            (one, seed) for one, seed in before.items() if self.room.state.find(one) is None
        ]

    @precondition(lambda self: self.room.state.completed)
    @rule(pick=PICK, from_entry=st.integers(1, 9))
    def restart(self, pick: int, from_entry: int) -> None:
        of = list(self.room.state.completed.values())
        old = of[pick % len(of)]
        records = [
            record
            for record in self.room.records
            if getattr(record.fact, "invocation_id", None) == old.id and record.lsn >= old.first_lsn
        ]
        created = records[0].fact
        assert isinstance(created, InvocationCreated)
        self.seed += 1
        self.room.decide(
            RestartInvocation(
                invocation_id=old.id,
                seed=old.seed,
                new_invocation_id=random_invocation_id(self.seed),
                new_seed=self.seed,
                argument=created.argument,
                prefix=prefix_of(records, from_entry),
            )
        )

    @rule(
        service=st.sampled_from(["Counter", "Payment"]),
        key=st.sampled_from("ab"),
        names=st.lists(KEYS, unique=True),
    )
    def edit_state(self, service: str, key: str, names: list[str]) -> None:
        values = tuple(StateValue(name=name, value=ref_of(b"v"), payload=b"v") for name in names)
        of = ObjectId(service=service, key=key)
        self.room.decide(EditState(object=of, values=values, version=None))

    @rule(engine=st.sampled_from([None, 1, 3]), service=st.sampled_from([None, 1, 2]))
    def set_limits(self, engine: int | None, service: int | None) -> None:
        services = {} if service is None else {"Counter": service}
        limits = Limits(engine=engine, services=services)
        # As an engine does it: before any code is there, so that nobody runs who may not.
        self.room.restart()
        self.room.decide(ConfigureEngine(settings=Settings(limits=limits)))
        for known in self.room.state.services.values():
            self.room.load(known.manifest)

    # -- attempts -----------------------------------------------------------------------------

    @precondition(lambda self: self.running())
    @rule(
        pick=PICK,
        what=st.sampled_from(TARGETS),
        key=st.sampled_from([None, None, "k"]),
        delay_ms=st.sampled_from([None, 50]),
        waits=st.booleans(),
    )
    def call_or_send(
        self,
        pick: int,
        what: Target,
        key: str | None,
        delay_ms: int | None,
        waits: bool,  # noqa: FBT001
    ) -> None:
        key = None if what.handler == "run" else key
        invocation_id = self.new_id(what, key)
        if waits:
            command: AnyCommand = CallCommand(
                completion_id=self.next_completion_id(),
                invocation_id=invocation_id,
                target=what,
                argument=ref_of(b"arg"),
                idempotency_key=key,
            )
        else:
            command = OneWayCallCommand(
                invocation_id=invocation_id,
                target=what,
                argument=ref_of(b"arg"),
                idempotency_key=key,
                invoke_at_ms=None if delay_ms is None else self.room.now_ms + delay_ms,
            )
        self.append(pick, command, b"arg")

    @precondition(lambda self: self.running())
    @rule(
        pick=PICK,
        other=PICK,
        kind=st.sampled_from(["run", "sleep", "attach", "cancel", "wait", "signal"]),
    )
    def ask_for(self, pick: int, other: int, kind: str) -> None:
        match kind:
            case "run":
                command: AnyCommand = RunCommand(completion_id=self.next_completion_id(), name="s")
            case "sleep":
                at_ms = self.room.now_ms + other % 100
                command = SleepCommand(completion_id=self.next_completion_id(), wake_up_at_ms=at_ms)
            case "attach":
                command = AttachInvocationCommand(
                    completion_id=self.next_completion_id(), invocation_id=self.some(other)
                )
            case "wait":
                name = "xy"[other % 2]
                command = SignalCommand(signal_name=name, index=self.next_wait(pick, name))
            case "signal":
                command = SendSignalCommand(
                    invocation_id=self.some(other),
                    signal_id=0,
                    signal_name="xy"[other % 2],
                    result=Failure(code=500, message="no"),
                )
            case _:
                command = SendSignalCommand(invocation_id=self.some(other), signal_id=1)
        self.append(pick, command)

    @precondition(lambda self: any(inv.object for inv in self.running()))
    @rule(pick=PICK, key=KEYS, kind=st.sampled_from(["set", "clear", "clear all"]))
    def write_state(self, pick: int, key: str, kind: str) -> None:
        of = [inv for inv in self.running() if inv.object]
        one = of[pick % len(of)].id
        match kind:
            case "set":
                self.room.append(one, SetStateCommand(key=key, value=ref_of(b"v")), b"v")
            case "clear":
                self.room.append(one, ClearStateCommand(key=key))
            case _:
                self.room.append(one, ClearAllStateCommand())

    @precondition(lambda self: any(inv.target.service == "Payment" for inv in self.running()))
    @rule(pick=PICK, key=KEYS, kind=st.sampled_from(["get", "get", "peek", "complete"]))
    def use_a_promise(self, pick: int, key: str, kind: str) -> None:
        of = [inv for inv in self.running() if inv.target.service == "Payment"]
        one, completion_id = of[pick % len(of)].id, self.next_completion_id()
        match kind:
            case "get":
                self.room.append(one, GetPromiseCommand(completion_id=completion_id, key=key))
            case "peek":
                self.room.append(one, PeekPromiseCommand(completion_id=completion_id, key=key))
            case _:
                command = CompletePromiseCommand(
                    completion_id=completion_id, key=key, result=value(b"p")
                )
                self.room.append(one, command, b"p")

    @precondition(lambda self: self.running())
    @rule(pick=PICK, other=PICK, signal_id=SIGNALS, makes=st.booleans())
    def use_an_awakeable(self, pick: int, other: int, signal_id: int, makes: bool) -> None:  # noqa: FBT001
        if makes:
            self.append(pick, AwakeableCommand(signal_id=signal_id))
            return
        one = self.some(other)
        of = awakeable_id(one, self.seed_of(one), signal_id)
        self.append(pick, CompleteAwakeableCommand(awakeable_id=of, result=value(b"w")), b"w")

    @precondition(lambda self: any(inv.open_runs for inv in self.running()))
    @rule(pick=PICK, how=st.sampled_from(["done", "terminal", "retry"]))
    def end_a_step(self, pick: int, how: str) -> None:
        of = [(inv, run) for inv in self.running() for run in inv.open_runs]
        inv, completion_id = of[pick % len(of)]
        policy = RetryPolicy(max_attempts=3)
        match how:
            case "retry":
                step = FailRun(completion_id=completion_id, error=error(), retry=policy)
            case _:
                result, payload = outcome(fails=how == "terminal")
                step = CompleteRun(completion_id=completion_id, result=result, payload=payload)
        self.room.steps(inv.id, step)

    @precondition(lambda self: self.running())
    @rule(pick=PICK, how=st.sampled_from(["returns", "raises", "fails", "fails for good"]))
    def end_an_attempt(self, pick: int, how: str) -> None:
        of = self.running()
        inv = of[pick % len(of)]
        match how:
            case "returns" | "raises":
                result, payload = outcome(fails=how == "raises")
                self.room.append(inv.id, OutputCommand(result=result), payload)
            case _:
                report = error(heals_by_retry=how == "fails")
                self.room.steps(inv.id, FailAttempt(error=report))

    @precondition(lambda self: self.running())
    @rule(pick=PICK, late=st.integers(0, 2), first=st.booleans(), width=st.integers(1, 3))
    def suspend(self, pick: int, late: int, first: bool, width: int) -> None:  # noqa: FBT001
        """An attempt suspends on what it has not seen; that may be older than what there is."""
        of = self.running()
        inv = of[pick % len(of)]
        open_ids = [*inv.sleeping, *inv.open_calls, *inv.open_promises, *inv.open_runs]
        leaves = [
            *(Completion(id=completion_id) for completion_id in open_ids),
            *(Signal(id=signal_id) for signal_id in inv.open_awakeables),
        ]
        # Seen or not, what is known may be waited for only by an attempt that is late.
        late = min(late, inv.notification_count)
        if late:
            asked = (Completion(id=n) for n in range(1, inv.completion_count + 1))
            leaves += [leaf for leaf in (*asked, *(inv.heard or ())) if inv.has_heard(leaf)]
        if not leaves:
            return
        chosen = tuple(leaves[(pick + n) % len(leaves)] for n in range(width))
        tree = FirstCompleted(of=chosen) if first else AllCompleted(of=chosen)
        seen = inv.notification_count - late
        self.room.steps(inv.id, Suspend(waiting_for=tree, notification_count=seen))

    @precondition(lambda self: self.known())
    @rule(pick=PICK, epochs=st.integers(0, 1), attempts=st.integers(0, 1))
    def speak_out_of_turn(self, pick: int, epochs: int, attempts: int) -> None:
        inv = self.known()[pick % len(self.known())]
        live = inv.status == "running" and not epochs and not attempts
        if live:
            return
        before = self.room.state.last_lsn
        self.room.decide(
            AttemptSteps(
                epoch=self.room.state.epoch - epochs,
                invocation_id=inv.id,
                seed=inv.seed,
                attempt=inv.attempt - attempts,
                steps=(AppendCommand(command=RunCommand(completion_id=10**6, name="late")),),
            )
        )
        assert self.room.state.last_lsn == before

    @precondition(lambda self: self.former)
    @rule(pick=PICK, signal_id=SIGNALS)
    def speak_as_a_former_life(self, pick: int, signal_id: int) -> None:
        """Whoever has the id now, in whatever attempt, hears nothing of it."""
        one, seed = self.former[pick % len(self.former)]
        inv = self.room.state.find(one)
        before = self.room.state.last_lsn
        late = AppendCommand(command=RunCommand(completion_id=10**6, name="late"))
        self.room.decide(
            AttemptSteps(
                epoch=self.room.state.epoch,
                invocation_id=one,
                seed=seed,
                attempt=1 if inv is None else inv.attempt,
                steps=(late,),
            )
        )
        of = awakeable_id(one, seed, signal_id)
        self.room.decide(CompleteAwakeable(awakeable_id=of, result=value(b"w"), payload=b"w"))
        assert self.room.state.last_lsn == before

    # -- time and processes -------------------------------------------------------------------

    @rule(ms=st.integers(1, 200))
    def time_passes(self, ms: int) -> None:
        """Every timer that is due fires, in order, some of them for what is long over."""
        self.room.now_ms += ms
        due = sorted(
            (at_ms, repr(timer), timer)
            for timer, at_ms in self.room.witness.timers
            if at_ms <= self.room.now_ms
        )
        for _, _, timer in due:
            self.room.fire(timer.invocation_id, timer.completion_id)
        for inv in self.room.state.live():
            assert all(at_ms > self.room.now_ms for at_ms in inv.sleeping.values())
            assert inv.status != "scheduled" or (inv.start_at_ms or 0) > self.room.now_ms

    @rule(
        service=st.sampled_from(SERVICES), digest=st.sampled_from(["v1", "v2"]), pin=st.booleans()
    )
    def load_code(self, service: type, digest: str, pin: bool) -> None:  # noqa: FBT001
        policy = RetryPolicy(initial_interval_ms=10, max_attempts=3)
        self.room.load(service(digest=digest, retry=policy), pin=pin)

    @rule(link=st.sampled_from(["here", "there"]))
    def lose_a_link(self, link: str) -> None:
        self.room.close_link(link)

    @rule(service=st.sampled_from(SERVICES))
    def load_over_another_link(self, service: type) -> None:
        policy = RetryPolicy(initial_interval_ms=10, max_attempts=3)
        self.room.load(service(retry=policy), link="there")

    @rule()
    def die_and_come_back(self) -> None:
        policy = RetryPolicy(initial_interval_ms=10, max_attempts=3)
        self.room.restart(*(service(retry=policy) for service in SERVICES))


def outcome(*, fails: bool) -> tuple[Result, bytes | None]:
    return (Failure(code=500, message="no"), None) if fails else (value(b"ok"), b"ok")


TestEngineLife = EngineLife.TestCase
TestEngineLife.settings = settings(stateful_step_count=40)
