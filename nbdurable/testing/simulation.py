"""One simulation: programs, faults, crashes and people, all from one seed, held against invariants.

For a while it storms: programs are submitted, the store fails, the process is killed between two
callbacks, people cancel, kill, pause and purge. Then it is calm, and everything that was accepted
must end: that is the liveness half. The same seed is the same simulation, callback by callback.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import partial
from random import Random
from typing import TypeVar

from nbdurable.client.local import LocalClient
from nbdurable.core.attempt import ref_of
from nbdurable.core.commands import ClearAllStateCommand, SetStateCommand
from nbdurable.core.facts import EntryAppended, StateEdited
from nbdurable.core.ids import InvocationId, awakeable_id, random_invocation_id
from nbdurable.core.proposals import (
    Answer,
    CleanUp,
    CompletePromise,
    Invoke,
    Invoked,
    KillInvocation,
    Proposal,
    PurgeInvocation,
    Refused,
    ResumeInvocation,
)
from nbdurable.core.records import Record
from nbdurable.core.state import Invocation
from nbdurable.core.values import ObjectId, Target
from nbdurable.engine.callers import Outcome
from nbdurable.errors import EngineClosedError, StoreError
from nbdurable.store.memory import MemoryStore
from nbdurable.testing.loop import VirtualLoop
from nbdurable.testing.people import ANSWER, ANSWER_PAYLOAD, People
from nbdurable.testing.process import Process
from nbdurable.testing.programs import (
    LAYERS,
    Author,
    Cast,
    Place,
    Stage,
    StageError,
    increments,
)
from nbdurable.testing.scheduler import DeadlockError, Scheduler
from nbdurable.testing.store import NO_FAULTS, FaultyStore
from nbdurable.testing.weather import draw_weather
from nbdurable.testing.witness import Watcher

T = TypeVar("T")

STEPS = 8
KEYS = (("ada",), ("ada", "bob"), ("ada", "bob", "cy"))
# Longer than the longest sleep of a program, so that one round of calm lets every sleeper wake.
ROUND_S = 40_000.0
CALM_ROUNDS_MAX = 200
# A hundred times what simulations take; more is a circle.
CALLBACKS_MAX = 20_000
CALLBACKS_PER_STEP_MAX = 10_000
PURGED_SOON = 60
NOT_YET_CODE = 409
LATER = 0.1
ANSWERED = 0.3
SUBMITTED = (1, 1, 1, 2, 4)
# Folding takes as long as the log; at this rate all of it is a tenth of the time.
FOLDS = 0.03
STATES = 0.3


class Violation(AssertionError):
    """An invariant does not hold. The text says which, and how to see it again."""


@dataclass(slots=True)
class Report:
    """Mutable: what one simulation, or several, went through."""

    simulation_count: int = 0
    program_count: int = 0
    callback_count: int = 0
    commit_count: int = 0
    fact_count: int = 0
    crash_count: int = 0
    fault_count: int = 0
    intervention_count: int = 0
    virtual_s: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, other: Report) -> None:
        for counted in fields(self):
            if counted.name != "kinds":
                together = getattr(self, counted.name) + getattr(other, counted.name)
                setattr(self, counted.name, together)
        self.kinds.update(other.kinds)

    def summary(self, cpu_s: float) -> str:
        return (
            f"{self.program_count} programs in {self.simulation_count} simulations without a"
            f" violation: {self.callback_count} steps, {self.commit_count} commits,"
            f" {self.fact_count} facts, {self.fault_count} faults, {self.crash_count} crashes,"
            f" {self.intervention_count} interventions, {self.virtual_s / 86_400:.0f} virtual days"
            f" in {cpu_s:.1f} s of CPU: {self.program_count / cpu_s:.0f} programs and"
            f" {self.callback_count / cpu_s:.0f} steps per second"
        )


def simulate(seed: int, steps: int = STEPS, cast: Cast | None = None) -> Report:
    """Run one simulation.

    Args:
        seed: Everything follows from it.
        steps: How long the storm is: programs submitted, crashes, interventions.
        cast: Made once for many simulations, because it takes longer than one.

    Raises:
        Violation: With the seed, and the command that runs it again.
    """
    simulation = Simulation(seed, steps, cast or Cast())
    try:
        return simulation.run()
    except Exception as error:
        raise Violation(
            f"seed {seed}: {str(error) or repr(error)}\n"
            f"see it again: python -m nbdurable.testing {seed} --steps {steps}\n"
            f"{simulation.weather}"
        ) from error


class Simulation:
    """Mutable; lives for one run."""

    def __init__(self, seed: int, steps: int, cast: Cast) -> None:
        self._random = Random(f"{seed}")  # noqa: S311 - repeatable is the point.
        self.weather = draw_weather(self._random)
        self._steps = steps
        self._scheduler = Scheduler(self._fork())
        self._scheduler.callbacks_max = CALLBACKS_MAX + steps * CALLBACKS_PER_STEP_MAX
        self._loop = VirtualLoop(self._scheduler, "driver")
        self._memory = MemoryStore(absorb_commits=self.weather.absorb_commits)
        self._store = FaultyStore(self._memory, self._fork())
        self._watcher = Watcher(
            self._memory,
            self._scheduler.clock,
            self._fork(),
            self._scheduler.fail,
            failures=[StageError.__name__],
            folds=FOLDS,
            states=STATES,
        )
        self._store.on_durable = self._watcher.on_durable
        keys, calls_back = self._random.choice(KEYS), self.weather.calls_back
        self._author = Author(self._fork(), keys, calls_back=calls_back)
        self._cast = cast
        self._stage = cast.stage = Stage(self._fork(), self._scheduler.fail)
        self._processes: list[Process] = []
        self._started = asyncio.Event()
        self._calls: list[asyncio.Task[None]] = []
        self._expected: Counter[Place] = Counter()
        self._people = People(self._fork())
        self._revision = 1
        # Over a link that is just being lost nobody loads code.
        self._changing = asyncio.Lock()
        self._report = Report(simulation_count=1)

    @property
    def _is_uncountable(self) -> bool:
        """Whether a call may have ended otherwise than its program says."""
        weather = self.weather
        return self._people.has_meddled or weather.forgets or weather.calls_back

    def _fork(self) -> Random:
        """One stream per part, so that a part that draws more does not change the others."""
        return Random(self._random.getrandbits(64))  # noqa: S311 - repeatable is the point.

    def run(self) -> Report:
        try:
            self._loop.run_until_complete(self._live())
        except DeadlockError as error:
            raise AssertionError(f"it stands still: {error}") from error
        finally:
            self._loop.close()
            for process in self._processes:
                process.crash()
                process.bury()
            self._loop.bury()
        report = self._report
        report.callback_count = self._scheduler.callback_count
        report.commit_count = self._watcher.commit_count
        report.fact_count = len(self._watcher.records)
        report.intervention_count = self._people.deed_count
        report.fault_count = self._store.fault_count
        report.virtual_s = self._scheduler.clock.elapsed_s
        report.kinds.update(self._watcher.kinds())
        return report

    # -- the storm ----------------------------------------------------------------------------

    async def _live(self) -> None:
        supervising = self._loop.create_task(self._supervise())
        await self._up()
        self._store.faults = self.weather.faults
        for _ in range(self._steps):
            await self._step()
        self._store.faults = NO_FAULTS
        self._stage.is_stormy = False
        await self._calm_down()
        supervising.cancel()
        self._check_the_end()

    async def _step(self) -> None:
        for _ in range(self._random.choice(SUBMITTED)):
            self._submit()
        await self._let_time_pass()
        for likely, happen in (
            (self.weather.crash, self._crash),
            (self.weather.people, self._intervene),
            (self.weather.people, self._intervene),
            (ANSWERED, self._answer),
            (self.weather.changes, self._deploy),
            (self.weather.changes, self._lose_link),
            (self.weather.edits, self._edit),
            (self.weather.edits, self._patch),
        ):
            if self._random.random() < likely:
                await happen()
                await self._let_time_pass()

    async def _crash(self) -> None:
        self._report.crash_count += 1
        self._processes[-1].crash()

    def _submit(self) -> None:
        seed, place = self._random.getrandbits(63), (0, self._author.key())
        program = self._author.program()
        payload = json.dumps(program, sort_keys=True, separators=(",", ":")).encode()
        later = self._random.random() < LATER
        invoke = Invoke(
            invocation_id=random_invocation_id(seed),
            seed=seed,
            target=Target(service=LAYERS[0], handler="interpret", key=place[1]),
            argument=ref_of(payload),
            payload=payload,
            start_at_ms=self._scheduler.clock.now_ms() + 50 if later else None,
        )
        self._report.program_count += 1
        self._expected += increments(program, place)
        self._begin_call(self._call(invoke, len(program)))

    async def _call(self, invoke: Invoke, op_count: int) -> None:
        """Ask until it is accepted, then until there is a result: as a careful caller would."""
        of = invoke.invocation_id
        await self._insist(partial(self._submit_once, invoke))
        assert self._watcher.was_created(of), f"{of} was answered, and not committed"
        try:
            outcome = await self._insist(partial(_attach, of))
        except KeyError:
            assert self._people.has_meddled or self.weather.forgets, (
                f"{of} was accepted and is unknown"
            )
            return
        self._watcher.outcome_is_durable(of, outcome)
        if not self._is_uncountable:
            assert outcome.payload == str(op_count).encode(), f"{of} ended with {outcome}"

    async def _submit_once(self, invoke: Invoke, process: Process) -> None:
        # A caller cannot know; but where results are soon forgotten, asking again is a new call.
        if not self._watcher.was_created(invoke.invocation_id):
            answer = await _propose(invoke, process)
            assert isinstance(answer, Invoked), f"{invoke.target} was refused: {answer}"

    async def _let_time_pass(self) -> None:
        match self._random.randrange(8):
            case 0 | 1 | 2:
                for _ in range(self._random.randrange(60)):
                    await asyncio.sleep(0)
            case 3 | 4:
                await asyncio.sleep(self._random.random() * 0.01)
            case 5:
                await asyncio.sleep(self._random.random())
            case _:
                pass

    async def _intervene(self) -> None:
        process = await self._up()
        # What people see was committed, and may not be true any more when they are heard.
        try:
            deed = await asyncio.wrap_future(
                process.engine.ask(lambda: self._people.deed(process.engine))
            )
        except (EngineClosedError, StoreError):
            return
        if isinstance(deed, PurgeInvocation):
            self._begin_call(self._once(partial(_purge_soon, deed)))
        elif deed is not None:
            # They ask once, and look what became of it.
            self._begin_call(self._once(partial(_propose, deed)))

    async def _deploy(self) -> None:
        """The same code as a new revision: who failed goes on with it, the healthy stay."""

        async def deploy(process: Process) -> None:
            async with self._changing:
                self._revision += 1
                await self._load(process)

        self._begin_call(self._once(deploy))

    async def _lose_link(self) -> None:
        async def lose(process: Process) -> None:
            async with self._changing:
                await process.lose_link()
                await self._load(process)

        self._begin_call(self._once(lose))

    async def _load(self, process: Process) -> None:
        client, digest = LocalClient(process.engine, process.link), f"revision {self._revision}"
        cast = self._cast.forgetful if self.weather.forgets_state else self._cast.services
        for definition in cast[self.weather.inactivity]:
            await client.register(definition, digest=digest)

    async def _edit(self) -> None:
        async def edit(process: Process) -> None:
            asked = process.engine.ask(lambda: self._people.edit(process.engine))
            proposal = await asyncio.wrap_future(asked)
            if proposal is not None:
                await _propose(proposal, process)

        self._begin_call(self._once(edit))

    async def _patch(self) -> None:
        self._begin_call(self._once(partial(_propose, self._people.patch())))

    async def _answer(self) -> None:
        """Complete an awakeable from outside, perhaps again."""
        if self._stage.outside:
            answer = self._people.answer(self._random.choice(list(self._stage.outside)))
            self._begin_call(self._once(partial(_propose, answer)))

    # -- the process --------------------------------------------------------------------------

    async def _supervise(self) -> None:
        """Start the next process whenever one is gone."""
        while True:
            process = Process(
                self._scheduler,
                self._store,
                settings=self.weather.settings,
                always_replay=self.weather.always_replay,
                commit_s=lambda: self._random.random() * self.weather.commit_s,
                step_s=self._stage.delay_s,
                around_link=self._watcher.around,
            )
            self._processes.append(process)
            self._watcher.watch(process.engine)
            try:
                await process.start()
                await self._load(process)
                self._started.set()
                why = await asyncio.wrap_future(process.over)
            except (EngineClosedError, StoreError) as error:
                why = error
            self._started.clear()
            process.crash()
            # It may end of a fault that it cannot get over, and of nothing else.
            if why is not None and not isinstance(why, EngineClosedError | StoreError):
                self._scheduler.fail(why)

    async def _up(self) -> Process:
        await self._started.wait()
        return self._processes[-1]

    async def _insist(self, ask: Callable[[Process], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask(await self._up())
            except (EngineClosedError, StoreError):
                await asyncio.sleep(0.001)

    async def _once(self, ask: Callable[[Process], Awaitable[object]]) -> None:
        with suppress(EngineClosedError, StoreError):
            await ask(await self._up())

    # -- the calm -----------------------------------------------------------------------------

    async def _calm_down(self) -> None:
        """Nothing fails any more: whatever was accepted must end."""
        live: list[Invocation] = []
        for _ in range(CALM_ROUNDS_MAX):
            process = await self._up()
            live = list(process.engine.machine.state.live())
            if not live and all(call.done() for call in self._calls):
                return
            await self._insist(partial(_propose, CleanUp()))
            for inv in live:
                for proposal in self._help_for(inv):
                    await self._insist(partial(_propose, proposal))
            await asyncio.sleep(ROUND_S)
        stuck = ", ".join(map(repr, live))
        raise AssertionError(f"nothing fails any more, and these do not end: {stuck}")

    def _help_for(self, inv: Invocation) -> Iterator[Proposal]:
        """What it cannot do without. Those whose helpers were killed need more."""
        if inv.status == "paused" and inv.paused_by == "error":
            # Restarted behind an awakeable, whose name is another now.
            yield KillInvocation(invocation_id=inv.id)
        elif inv.status == "paused":
            yield ResumeInvocation(invocation_id=inv.id)
        for signal_id in inv.open_awakeables:
            awakeable = awakeable_id(inv.id, inv.seed, signal_id)
            if awakeable in self._stage.outside or self._is_uncountable:
                yield self._people.answer(awakeable)
        for name in inv.open_signals if self._is_uncountable else ():
            yield self._people.signal(inv.id, name)
        if self._is_uncountable and inv.object is not None:
            for promise in inv.open_promises.values():
                yield CompletePromise(
                    service=inv.object.service,
                    key=inv.object.key,
                    promise=promise,
                    result=ANSWER,
                    payload=ANSWER_PAYLOAD,
                )

    def _begin_call(self, call: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(call)
        task.add_done_callback(self._call_ended)
        self._calls.append(task)

    def _call_ended(self, call: asyncio.Task[None]) -> None:
        error = None if call.cancelled() else call.exception()
        if error is not None:
            self._scheduler.fail(error)

    def _check_the_end(self) -> None:
        self._watcher.check_everything()
        counted = last_counts(self._watcher.records)
        if not self._is_uncountable:
            assert counted == self._expected, f"counted {counted}, expected {self._expected}"


def last_counts(records: Iterable[Record]) -> Counter[Place]:
    """The counters as they were written: each is one more than the last, or than an edit said."""
    counted: Counter[Place] = Counter()
    for record in records:
        match record.fact:
            case EntryAppended(object=ObjectId() as of, command=SetStateCommand(key="counter")):
                place = (LAYERS.index(of.service), of.key)
                value = json.loads(record.payload or b"")  # type: ignore[arg-type]
                assert value == counted[place] + 1, (
                    f"{of} was counted from {counted[place]} to {value}"
                )
                counted[place] = value
            case StateEdited(object=of, command=command) if of.service in LAYERS:
                place = (LAYERS.index(of.service), of.key)
                match command:
                    case SetStateCommand(key="counter"):
                        counted[place] = json.loads(record.payload or b"")  # type: ignore[arg-type]
                    case ClearAllStateCommand():
                        del counted[place]
            case _:
                pass
    return counted


async def _propose(proposal: Proposal, process: Process) -> Answer:
    return await asyncio.wrap_future(process.engine.propose(proposal))


async def _purge_soon(proposal: PurgeInvocation, process: Process) -> None:
    """Again and again until it has ended: in the very commit, if that is possible."""
    for _ in range(PURGED_SOON):
        answer = await _propose(proposal, process)
        if not isinstance(answer, Refused) or answer.code != NOT_YET_CODE:
            return


async def _attach(invocation_id: InvocationId, process: Process) -> Outcome:
    return await asyncio.wrap_future(process.engine.attach(invocation_id))
