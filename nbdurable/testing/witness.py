"""Who sees everything, and holds it against the invariants.

`Witness` stands beside a machine and sees each decision. `Watcher` stands around a whole process:
between engine and store, and between engine and link.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from random import Random

from nbdurable.core.actions import SetTimer
from nbdurable.core.draft import Decision
from nbdurable.core.facts import (
    AttemptFailed,
    InvocationCompleted,
    InvocationCreated,
    InvocationFact,
    carried_ref,
)
from nbdurable.core.ids import InvocationId
from nbdurable.core.journal import AttemptStart, FailedRun, JournalEntry
from nbdurable.core.machine import EngineMachine
from nbdurable.core.proposals import Timer
from nbdurable.core.records import CopyOf, Record, Row, decode, encode
from nbdurable.core.state import EngineState
from nbdurable.core.values import MISMATCH_CODE, Success
from nbdurable.engine.callers import Outcome
from nbdurable.engine.loop import Engine
from nbdurable.engine.ports import Clock, Link
from nbdurable.store.memory import MemoryStore
from nbdurable.testing import invariants as hold

# Up to this many facts a fold costs about as much as deciding them did.
FOLDED_FACTS = 300


class Witness:
    """Mutable: the log so far, and the timers that were ordered since the epoch began."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.store = MemoryStore()
        self.store.open()
        self.timers: set[tuple[Timer, int]] = set()
        self._payloads: dict[int, bytes] = {}

    def check(self, machine: EngineMachine, decision: Decision) -> None:
        state = machine.state
        self._append(decision.records, state)
        for action in decision.actions:
            if isinstance(action, SetTimer):
                self.timers.add((action.timer, action.at_ms))
        check_log(self.records)
        hold.a_fold_is_the_state(self.records, state)
        hold.a_fold_of_rows_is_the_state(self.records, state)
        hold.a_reload_is_the_state(self.store, state)
        check_state(machine)
        hold.a_timer_is_set_for_all_that_waits(state, self.timers)
        hold.actions_are_of_live_attempts(state, decision)
        hold.the_inbox_is_first_in_first_out(self.records, state)

    def _append(self, records: list[Record], state: EngineState) -> None:
        if not records:
            return
        rows = []
        for record in records:
            payload = record.payload
            if isinstance(payload, CopyOf):
                payload = self._payloads[payload.lsn]
            ref = carried_ref(record.fact)
            assert (ref is None or ref.bytes == 0) == (not payload), f"ref without bytes: {record}"
            if isinstance(payload, bytes):
                self._payloads[record.lsn] = payload
            rows.append(encode(record, state.epoch, payload))
            self.records.append(Record(record.lsn, record.at_ms, record.fact, payload))
        self.store.append(rows)


def check_log(records: Sequence[Record]) -> None:
    hold.lsns_are_dense(records)
    hold.entry_indices_are_dense(records)
    hold.a_completion_completes_once(records)
    hold.one_attempt_lives_and_only_it_writes(records)
    hold.an_objects_lock_goes_round_in_order(records)
    hold.nothing_comes_before_its_time(records)
    hold.every_caller_is_answered_once(records)


def check_state(machine: EngineMachine) -> None:
    state = machine.state
    hold.one_exclusive_holder_per_key(state)
    hold.what_is_suspended_cannot_go_on(state)
    hold.resume_sets_every_timer_again(machine)
    hold.what_is_completed_holds_nothing(state)
    hold.nobody_waits_for_what_has_ended(state)
    hold.the_called_die_with_the_killed(state)
    hold.nobody_waits_for_a_free_slot(state)
    hold.waiters_live(state)


class Watcher:
    """Mutable: all that was ever durable.

    Folding takes as long as the past is long, so it is done after a random few of the commits.
    What is violated is told and not raised: it is met in the middle of the engine, which would take
    it for a failure of the store.

    Args:
        folds: How likely the log is folded after a commit.
        states: How likely the state is looked at.
        failures: Names of the errors that handlers are meant to fail of.
    """

    def __init__(
        self,
        store: MemoryStore,
        clock: Clock,
        random: Random,
        tell: Callable[[BaseException], None],
        *,
        failures: Collection[str],
        folds: float,
        states: float,
    ) -> None:
        self.records: list[Record] = []
        self.commit_count = 0
        self._store = store
        self._random = random
        self._folds = folds
        self._states = states
        self._rows: list[Row] = []
        self._journals: dict[InvocationId, list[Record]] = {}
        self._results: dict[InvocationId, list[Record]] = defaultdict(list)
        self._clock = clock
        self._tell = tell
        self._failures = failures
        self._engine: Engine | None = None

    def watch(self, engine: Engine) -> None:
        """The engine of the process that begins now."""
        self._engine = engine
        engine.feed.subscribe(lambda _: self._judge(self._after_acting))

    def around(self, link: Link) -> WatchedLink:
        return WatchedLink(link, self)

    def on_durable(self, rows: Sequence[Row]) -> None:
        """The store has these rows, whether or not the engine will hear of it."""
        self._keep(rows)
        self._judge(self._after_committing)

    def check_everything(self) -> None:
        """Raises what does not hold, and looks at all of it."""
        assert self._engine is not None
        machine = self._engine.machine
        check_log(self.records)
        check_state(machine)
        hold.the_inbox_is_first_in_first_out(self.records, machine.state)
        self._check_folds(machine.state)
        hold.a_committed_prefix_never_changes(self._rows, self._store.durable)

    def kinds(self) -> Iterator[str]:
        return (row.kind for row in self._rows)

    def was_created(self, invocation_id: InvocationId) -> bool:
        return invocation_id in self._journals

    def outcome_is_durable(self, invocation_id: InvocationId, outcome: Outcome) -> None:
        """Some life of this id has ended so, and with these bytes."""
        for record in self._results[invocation_id]:
            assert isinstance(record.fact, InvocationCompleted)
            result, told = record.fact.result, outcome.result
            if isinstance(result, Success) and isinstance(told, Success):
                if (record.payload or b"") == outcome.payload:
                    return
            elif result == told:
                return
        raise AssertionError(f"{invocation_id} was told {outcome}, which was never committed")

    # -- inside -------------------------------------------------------------------------------

    def _keep(self, rows: Sequence[Row]) -> None:
        self.commit_count += 1
        self._rows += rows
        for row in rows:
            record = decode(row)
            self.records.append(record)
            fact = record.fact
            if not isinstance(fact, InvocationFact):
                continue
            if isinstance(fact, InvocationCreated):
                self._journals[fact.invocation_id] = []
            elif isinstance(fact, InvocationCompleted):
                self._results[fact.invocation_id].append(record)
            elif isinstance(fact, AttemptFailed):
                self._judge(partial(self._failed_as_meant, fact))
            self._journals[fact.invocation_id].append(record)

    def _failed_as_meant(self, fact: AttemptFailed) -> None:
        created = self._journals[fact.invocation_id][0].fact
        assert isinstance(created, InvocationCreated), created
        # An awakeable has another name there, which the code may have passed on.
        may_differ = created.restarted_from is not None and fact.error.code == MISMATCH_CODE
        meant = may_differ or fact.error.type_name in self._failures
        assert meant, f"nothing was meant to fail so: {fact.error.message}"

    def _after_committing(self) -> None:
        assert self._engine is not None
        machine = self._engine.machine
        if self._random.random() < self._states:
            check_state(machine)
            hold.no_more_run_than_may(machine.state)
        # Seldomer as the past grows, so that a long simulation takes as long as it is.
        folds = self._folds * min(1.0, FOLDED_FACTS / len(self.records))
        if self._random.random() < folds:
            self._check_folds(machine.state)

    def _check_folds(self, state: EngineState) -> None:
        """The records were read from rows, so that both folds of the `Witness` are one here."""
        hold.a_fold_is_the_state(self.records, state)
        hold.a_reload_is_the_state(self._store, state)

    def _after_acting(self) -> None:
        assert self._engine is not None
        if self._random.random() < self._states:
            state, timers = self._engine.machine.state, self._engine.timers.pending()
            hold.a_timer_is_set_for_all_that_waits(state, timers, self._clock.now_ms())

    def started(self, start: AttemptStart) -> None:
        self._judge(
            lambda: hold.an_attempt_is_given_what_is_committed(
                start, self._journals[start.invocation_id]
            )
        )

    def delivered(self, invocation_id: InvocationId, entries: Sequence[JournalEntry]) -> None:
        for entry in entries:
            self._judge(
                lambda entry=entry: hold.a_delivery_is_committed(  # type: ignore[misc]
                    entry, self._journals[invocation_id]
                )
            )

    def _judge(self, judge: Callable[[], None]) -> None:
        try:
            judge()
        except (AssertionError, KeyError, ValueError) as error:
            self._tell(error)


class WatchedLink:
    """A link that shows the watcher what attempts are given."""

    def __init__(self, inner: Link, watcher: Watcher) -> None:
        self.name = inner.name
        self._inner = inner
        self._watcher = watcher
        self.assign_revision = inner.assign_revision
        self.retry_run: Callable[[InvocationId, int, FailedRun], None] = inner.retry_run
        self.stop_attempt = inner.stop_attempt
        self.stop_all = inner.stop_all

    def start_attempt(self, start: AttemptStart) -> None:
        self._watcher.started(start)
        self._inner.start_attempt(start)

    def deliver(
        self, invocation_id: InvocationId, attempt: int, entries: Sequence[JournalEntry]
    ) -> None:
        self._watcher.delivered(invocation_id, entries)
        self._inner.deliver(invocation_id, attempt, entries)
