"""Whoever owns the journal starts a process for each notebook run that was sent and has none.

    feed -- these runs changed --> the starter's thread -- who may begin? --> `nbdurable run`

Owns: which processes it has started, and what becomes of a run whose process ended before the run
did. Never runs a notebook: the process joins the engine, has the run's attempts, and goes on
without this one. A run that papermill has begun is papermill's to go on with, but for one that was
suspended: its papermill has ended, and said so.
"""

from __future__ import annotations

import logging
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from nbdurable.core.builtin import NOTEBOOK_SERVICE
from nbdurable.core.facts import (
    AnyFact,
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    InvocationCreated,
    InvocationPaused,
    InvocationSuspended,
    NotificationAppended,
)
from nbdurable.core.ids import InvocationId
from nbdurable.core.notifications import CompletionNotification
from nbdurable.core.records import Record
from nbdurable.core.values import Success
from nbdurable.engine.loop import Engine
from nbdurable.engine.ports import Clock
from nbdurable.errors import (
    DefinitionError,
    EngineClosedError,
    NbdurableError,
    RetryableError,
    TerminalError,
)
from nbdurable.invoker.wire_source import WireSource
from nbdurable.runs import lock, process, voice
from nbdurable.runs.request import RunRequest, read_begun, read_request, within
from nbdurable.runs.turns import next_of

logger = logging.getLogger("nbdurable")

# How often processes are looked after while there are any.
_LOOK_S: Final = 0.2
# Of one run, before anything of it was recorded: a kernel that does not start, a full memory.
_TRIES_MAX: Final = 3
_PAUSE_S: Final = 2.0
# What `nbdurable run` says of a notebook that cannot be right.
_REFUSED: Final = 2


class Waiting(NamedTuple):
    """A run that has no process, as the journal has it.

    `done_count`: of its cells. `has_slept`: it was suspended, and what it waited for has come.
    """

    id: InvocationId
    key: str
    first_lsn: int
    done_count: int
    payload: bytes
    has_slept: bool = False


@dataclass(slots=True)
class _AtWork:
    """Mutable: how often its process was started since the run last got on."""

    run: Waiting
    request: RunRequest
    child: subprocess.Popen[bytes] | None = None
    tries: int = 0
    not_before_s: float = 0.0


class Starter:
    """Mutable; all of it belongs to its thread, except for `begin`, `close` and `is_busy`."""

    def __init__(
        self, engine: Engine, clock: Clock, wires: WireSource, journal: Path, processes_max: int
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._wires = wires
        self._journal = journal
        self._processes_max = processes_max
        self._changed: queue.SimpleQueue[Iterable[InvocationId] | None] = queue.SimpleQueue()
        self._runs: dict[InvocationId, _AtWork] = {}
        self._unsubscribe: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._live, name="nbdurable-runs", daemon=True)

    def __repr__(self) -> str:
        return f"<Starter {self._journal}, {len(self._runs)} runs>"

    @property
    def is_busy(self) -> bool:
        """Whether a run has a process of ours, or waits for one."""
        return bool(self._runs)

    def begin(self) -> None:
        """On the engine's thread: hear of every run from now on, and of those that wait."""
        self._unsubscribe = self._engine.feed.subscribe(self._hear)
        self._hear(frozenset(self._engine.machine.state.invocations))
        self._thread.start()

    def close(self) -> None:
        """Start no more. The processes there are go on, and need nobody."""
        self._unsubscribe()
        self._changed.put(None)
        if self._thread.is_alive():
            self._thread.join()
        for at_work in self._runs.values():
            if at_work.child is not None and at_work.child.poll() is None:
                # It outlives this process, and Popen would warn of that.
                at_work.child.returncode = 0

    def _hear(self, changed: frozenset[InvocationId]) -> None:
        """On the engine's thread. Most of what changes is of other services."""
        state = self._engine.machine.state
        ours = [
            one
            for one in changed
            if (inv := state.find(one)) is not None and inv.target.service == NOTEBOOK_SERVICE
        ]
        if ours:
            self._changed.put(ours)

    # -- on its own thread --------------------------------------------------------------------

    def _live(self) -> None:
        while (changed := self._next()) is not None:
            try:
                self._look_at(changed)
                self._look_after_children()
                self._start_those_that_may()
            except EngineClosedError:
                return
            except (NbdurableError, OSError):  # border: the next run may be a better one.
                logger.exception("a notebook run could not be started")

    def _next(self) -> Iterable[InvocationId] | None:
        try:
            return self._changed.get(timeout=_LOOK_S if self._runs else None)
        except queue.Empty:
            return ()

    def _look_at(self, changed: Iterable[InvocationId]) -> None:
        """Learn of those that wait for a process, and forget those that neither do nor have one."""
        ids = list(changed)
        if not ids:
            return
        found = self._engine.ask(lambda: [waiting_of(self._engine, one) for one in ids]).result()
        for one, run in zip(ids, found, strict=True):
            known = self._runs.get(one)
            if known is not None and known.child is not None:
                continue
            if run is None:
                self._runs.pop(one, None)
            elif known is None:
                self._take_on(run)

    def _take_on(self, run: Waiting) -> None:
        try:
            request = read_request(run.payload)
            if request is not None:
                request = within(request, self._journal.parent)
            elif run.has_slept:
                request = read_begun(run.payload)
            if request is None:
                return
        except DefinitionError as error:
            self._say(run, TerminalError(str(error), 400))
            return
        self._runs[run.id] = _AtWork(run, request)

    def _look_after_children(self) -> None:
        for one, at_work in list(self._runs.items()):
            child = at_work.child
            if child is None or child.poll() is None:
                continue
            at_work.child = None
            run = self._engine.ask(partial(waiting_of, self._engine, one)).result()
            if run is None:
                # It is over, paused, or asleep.
                del self._runs[one]
                continue
            self._go_on(at_work, run, child.returncode)

    def _go_on(self, at_work: _AtWork, run: Waiting, code: int) -> None:
        """Its process has ended, and the run has not: try another one, or say why there is none."""
        said = process.tail_of(self._journal, run.key)
        if code == _REFUSED:
            del self._runs[run.id]
            self._say(run, TerminalError(said.removeprefix("Error: "), 400))
            return
        at_work.tries = 1 if run.done_count > at_work.run.done_count else at_work.tries + 1
        at_work.run = run
        if at_work.tries >= _TRIES_MAX:
            del self._runs[run.id]
            last = said.splitlines()[-1] if said else "nothing"
            why = (
                f"its process ended {_TRIES_MAX} times before a cell did, the last time with"
                f" {code}; it said: {last}. More is in {process.log_of(self._journal, run.key)}"
            )
            self._say(run, RetryableError(why))
            return
        at_work.not_before_s = time.monotonic() + _PAUSE_S * (at_work.tries - 1)

    def _start_those_that_may(self) -> None:
        now_s = time.monotonic()
        idle = [one for one in self._runs.values() if one.child is None]
        idle.sort(key=lambda one: one.run.first_lsn)
        ready = {one.run.key: one for one in idle if one.not_before_s <= now_s}
        may = next_of(
            [(key, one.request) for key, one in ready.items()],
            [one.request for one in self._runs.values() if one.child is not None],
            self._processes_max,
        )
        for key in may:
            self._start(ready[key])

    def _start(self, at_work: _AtWork) -> None:
        key = at_work.run.key
        held = lock.take(self._journal, key)
        if held is None:
            # The process of an owner before this one: it is about to join, or to end.
            return
        try:
            at_work.child = process.start(self._journal, key, at_work.request, held)
        finally:
            lock.let_go(held)

    def _say(self, run: Waiting, error: Exception) -> None:
        voice.say(self._engine, self._clock, self._wires, (run.id, run.key), error)


def waiting_of(engine: Engine, invocation_id: InvocationId) -> Waiting | None:
    """On the engine's thread: this run, if it is one and no process could run it now."""
    state = engine.machine.state
    inv = state.invocations.get(invocation_id)
    if inv is None or inv.target.service != NOTEBOOK_SERVICE or inv.target.scope is not None:
        return None
    if inv.status != "ready" or state.links_for(inv):
        return None
    records = engine.vault.journal(inv)
    created = records[0]
    assert isinstance(created.fact, InvocationCreated), created.fact
    payload = created.payload if isinstance(created.payload, bytes) else b""
    done_count = sum(_is_done(record.fact) for record in records)
    has_slept = isinstance(_last_turn(records), InvocationSuspended)
    return Waiting(inv.id, inv.target.key or "", inv.first_lsn, done_count, payload, has_slept)


def _last_turn(records: Sequence[Record]) -> AnyFact | None:
    """The last fact that says whether an attempt goes on."""
    turns = (AttemptStarted, AttemptLost, AttemptFailed, InvocationSuspended, InvocationPaused)
    return next((one.fact for one in reversed(records) if isinstance(one.fact, turns)), None)


def _is_done(fact: AnyFact) -> bool:
    match fact:
        case NotificationAppended(notification=CompletionNotification(result=Success())):
            return True
        case _:
            return False
