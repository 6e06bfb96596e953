"""The engine: drain the mailbox, decide a batch, commit its facts, and only then act.

Owns the machine, and the loop it lives on: `start` gives it a thread of its own, the simulator runs
it beside everything else. Everybody else talks to it in two ways: `propose`, which is answered
after the commit, and `ask`, which runs a function on the engine's thread.

If a commit fails its outcome is unknown. Then there is one way on: stop the attempts, reopen the
store, recover, begin the next epoch, and decide again what clients proposed (their proposals carry
their own ids, so deciding twice is deciding once).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Literal, TypeVar

import msgspec

from nbdurable.core.actions import (
    AnyAction,
    AssignRevision,
    PublishResult,
    SetTimer,
    StartAttempt,
)
from nbdurable.core.draft import Decision
from nbdurable.core.facts import InvocationCreated, LinkClosed
from nbdurable.core.ids import InvocationId, random_invocation_id
from nbdurable.core.machine import EngineMachine
from nbdurable.core.manifest import ServiceManifest
from nbdurable.core.proposals import (
    Answer,
    AttemptSteps,
    Cleaned,
    CleanUp,
    CloseLink,
    ConfigureEngine,
    LoadCode,
    OpenLink,
    PatchService,
    Proposal,
    Refused,
    RestartInvocation,
    StartEpoch,
    Timer,
    TimerFired,
)
from nbdurable.core.records import Record, Row, encode
from nbdurable.core.restart import prefix_of
from nbdurable.core.settings import DEFAULT_SETTINGS, Settings
from nbdurable.engine.callers import Callers, Outcome, outcome_of
from nbdurable.engine.failures import Failures
from nbdurable.engine.feed import Feed
from nbdurable.engine.letters import Inquiry, Letter, Reply, as_error, batches, only_looks
from nbdurable.engine.mailbox import Mailbox
from nbdurable.engine.orders import give
from nbdurable.engine.ports import Clock, History, Link, Observer, Store, Writer
from nbdurable.engine.recovery import recover
from nbdurable.engine.reopening import Reopening
from nbdurable.engine.timers import LOOK_AGAIN_S, Timers
from nbdurable.engine.vault import Vault
from nbdurable.engine.writer import WriterThread
from nbdurable.errors import (
    DiskFullError,
    EngineClosedError,
    JournalGoneError,
    NbdurableError,
    QueryError,
    StoreError,
)

logger = logging.getLogger("nbdurable")
T = TypeVar("T")
# Source: restate-semantics.md, 1.7. What has expired lingers for so long at most.
CLEANUP_INTERVAL_MS = 3_600_000


class Engine:
    """Mutable; its state belongs to the thread of the loop that `run` runs on."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        owner: str,
        version: str,
        *,
        settings: Settings = DEFAULT_SETTINGS,
        cleanup_interval_ms: int | None = CLEANUP_INTERVAL_MS,
        logs_failures: bool = True,
        make_writer: Callable[[Store, asyncio.AbstractEventLoop], Writer] = WriterThread,
        look_again_s: float = LOOK_AGAIN_S,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._store = store
        self._observers = observers
        self._clock = clock
        self._owner = owner
        self._version = version
        self._settings = settings
        self._cleanup_interval_ms = cleanup_interval_ms
        self._make_writer = make_writer
        self._look_again_s = look_again_s
        self._thread: threading.Thread | None = None
        self._links: dict[str, Link] = {}
        self._opened: dict[str, OpenLink] = {}
        self._code: dict[tuple[str, str, str], LoadCode] = {}
        self._callers = Callers()
        self._reopening = Reopening(store, self._wait_for_room)
        # Why nothing is committed just now, and those who asked before that was known.
        self._without_room: DiskFullError | None = None
        self._questions: list[Inquiry] = []
        self._dead: BaseException | None = None
        self.ready: Future[None] = Future()
        self.feed = Feed()
        # What is registered, with what was patched. Any thread may read it: it is replaced whole.
        self.services: Mapping[str, ServiceManifest] = {}
        self._services_changed = False
        self.services_heard: Callable[[], None] | None = None
        self._failures = Failures() if logs_failures else None

    # -- from any thread ----------------------------------------------------------------------

    def start(self) -> None:
        """Start a thread to run on, and recover. Raises what opening the store raises."""
        self._thread = threading.Thread(target=self._live, name="nbdurable-engine", daemon=True)
        self._thread.start()
        try:
            self.ready.result()
        except BaseException:
            # Store and lock are let go of by then, so that trying again meets no trace of us.
            self._thread.join()
            raise

    def propose(self, proposal: Proposal) -> Future[Answer]:
        """The answer comes after the commit of what was decided."""
        reply: Future[Answer] = Future()
        self.submit(proposal, reply)
        return reply

    def submit(self, proposal: Proposal, reply: Reply[Answer]) -> None:
        """The same, for a reply that is the caller's own."""
        self._put(Letter(proposal, reply))

    def post(self, proposal: Proposal) -> None:
        """Propose without waiting for the answer, as attempts do."""
        if self._dead is None:
            self._put(Letter(proposal))

    def look(self, question: Callable[[], T]) -> Future[T]:
        """As `ask`; but while the engine waits for room on its disk, the answer is that."""
        return self.ask(question, only_looks=True)

    def ask(self, question: Callable[[], T], *, only_looks: bool = False) -> Future[T]:
        """Run a function on the engine's thread, between two batches; it must not block."""
        reply: Future[T] = Future()

        def answer() -> None:
            if not reply.set_running_or_notify_cancel():
                return
            try:
                reply.set_result(question())
            except Exception as error:  # noqa: BLE001 - border: the asker gets it.
                reply.set_exception(error)

        def fail(error: BaseException) -> None:
            if not reply.done() and reply.set_running_or_notify_cancel():
                reply.set_exception(error)

        self._put(Inquiry(answer, fail, only_looks))
        if self._without_room is not None:
            # It may be closing just now, and then it has told everybody.
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._refuse_to_look)
        return reply

    def history(self) -> History:
        """What is stored, to be asked by SQL: from any thread, and beside all that goes on.

        Raises:
            QueryError: The journal is kept in memory, where no SQL can be asked.
        """
        self.check_alive()
        history = self._store.history
        if history is None:
            raise QueryError(
                "This journal is kept in memory only; SQL can be asked of one on disk."
            )
        return history

    def attach(self, invocation_id: InvocationId) -> Future[Outcome]:
        """The outcome of an invocation, now or when it ends. KeyError when there is none."""
        outcome: Future[Outcome] = Future()

        def look() -> None:
            self.join(invocation_id, outcome)

        def failed(asked: Future[None]) -> None:
            error = asked.exception()
            if error is not None and not outcome.done():
                outcome.set_exception(error)

        self.ask(look).add_done_callback(failed)
        outcome.add_done_callback(lambda done: self._gave_up(invocation_id, done))
        return outcome

    def _gave_up(self, invocation_id: InvocationId, outcome: Future[Outcome]) -> None:
        if outcome.cancelled():
            self.leave(invocation_id, outcome)

    def leave(self, invocation_id: InvocationId, outcome: Reply[Outcome]) -> None:
        """Forget a caller that no longer waits."""
        with suppress(NbdurableError, RuntimeError):
            self.ask(lambda: self._callers.remove(invocation_id, outcome))

    def add_link(self, link: Link) -> Future[None]:
        """To be waited for before `LoadCode` is proposed over it."""
        return self.ask(lambda: self._links.__setitem__(link.name, link))

    def stop(self) -> None:
        """Let `run` end: it stops the attempts, absorbs and closes the store."""
        # It may be ending by itself just now, and its loop be closed already.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._stop.set)

    def close(self) -> None:
        """Stop, and wait for it. What ran goes on when the journal is opened again."""
        if self._thread is not None and self._thread.is_alive():
            self.stop()
            self._thread.join()

    # -- on the engine's thread ---------------------------------------------------------------

    async def run(self) -> None:
        """The engine's whole life: recover, be `ready`, serve until `stop`, close the store.

        Raises:
            NbdurableError: What opening the store raised, or what ended it since.
        """
        try:
            await self._main()
        except BaseException as error:
            # Only what opening raised is news here; nobody else would hear of it.
            self._die(error)
            raise

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._mailbox: Mailbox[Letter | Inquiry] = Mailbox(self.loop)
        self._timers = Timers(self._clock, self._fire, self._look_again_s)
        self._store.open()
        self._writer = self._make_writer(self._store, self.loop)
        cleaning: asyncio.Task[None] | None = None
        try:
            await self._begin_epoch()
            self.ready.set_result(None)
            serving = asyncio.create_task(self._serve())
            cleaning = asyncio.create_task(self._clean_up_now_and_then())
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            else:
                serving.cancel()
                await asyncio.wait({serving})
        except BaseException as error:
            # Before what follows: the reason is this one, not that the engine is closed.
            self._die(error)
            raise
        finally:
            if cleaning is not None:
                cleaning.cancel()
            self._timers.clear()
            for link in self._links.values():
                link.stop_all("the engine is closing")
            self._writer.close()
            # After the last commit: whoever still asks gets an answer, not silence.
            self._die(EngineClosedError("the engine is closed; open the journal again"))
            for observer in self._observers:
                observer.close()
            self._store.close()

    @property
    def timers(self) -> Timers:
        return self._timers

    @property
    def links(self) -> frozenset[str]:
        """The names of those over which code can be run."""
        return frozenset(self._links)

    def join(self, invocation_id: InvocationId, outcome: Reply[Outcome]) -> None:
        """Have a reply told the outcome, now or when it ends. KeyError when there is none."""
        if invocation_id in self.machine.state.invocations:
            self._callers.add(invocation_id, outcome)
        elif invocation_id not in self.machine.state.completed:
            raise KeyError(invocation_id)
        elif outcome.set_running_or_notify_cancel():
            outcome.set_result(self.outcome(invocation_id))

    def outcome(self, invocation_id: InvocationId) -> Outcome:
        return outcome_of(self.machine.state.completed[invocation_id].result, self.vault)

    def restart(
        self,
        invocation_id: InvocationId,
        from_entry: int,
        revision: int | Literal["keep", "latest"],
        new_seed: int,
    ) -> RestartInvocation | None:
        """The proposal that starts a completed invocation anew; None when there is none.

        Raises:
            JournalDamagedError: Its journal cannot be read.
        """
        old = self.machine.state.completed.get(invocation_id)
        if old is None:
            return None
        records = self.vault.journal(old)
        created = records[0].fact
        assert isinstance(created, InvocationCreated), created
        return RestartInvocation(
            invocation_id=invocation_id,
            seed=old.seed,
            new_invocation_id=random_invocation_id(new_seed),
            new_seed=new_seed,
            argument=created.argument,
            headers=created.headers,
            from_entry=from_entry,
            prefix=prefix_of(records, from_entry),
            revision=revision,
        )

    def check_alive(self) -> None:
        """Raises why the engine takes no more work, if it does not."""
        if self._dead is not None:
            raise self._dead

    def poison(self) -> None:
        """In a forked child: its threads are not here, and the journal is the parent's."""
        self._dead = EngineClosedError(
            "this process was forked from the one that owns the journal; use the engine there"
        )

    def _put(self, letter: Letter | Inquiry) -> None:
        self.check_alive()
        self._mailbox.put(letter)
        # It may have died in between, with nobody left to look into the mailbox.
        if self._dead is not None:
            letter.fail(self._dead)

    def _live(self) -> None:
        with suppress(BaseException):  # border: `run` has told everyone.
            asyncio.run(self.run())

    async def _clean_up_now_and_then(self) -> None:
        """Purge what has expired, a commit at a time, so that everybody else gets their turn."""
        while True:
            answer = await asyncio.wrap_future(self.propose(CleanUp()))
            if isinstance(answer, Cleaned) and not answer.is_done:
                continue
            if self._cleanup_interval_ms is None:
                return
            await asyncio.sleep(self._cleanup_interval_ms / 1000)

    async def _serve(self) -> None:
        while True:
            taken = await self._mailbox.take()
            letters = [letter for letter in taken if isinstance(letter, Letter)]
            self._questions = [letter for letter in taken if isinstance(letter, Inquiry)]
            try:
                for batch in batches(letters):
                    await self._serve_batch(batch)
                for question in self._questions:
                    question.answer()
            except BaseException as error:
                for letter in taken:
                    letter.fail(as_error(error))
                raise

    async def _serve_batch(self, letters: list[Letter]) -> None:
        """Decide, commit, act: in this order, whatever happens."""
        now_ms = self._clock.now_ms()
        decisions = [self._decide(letter.proposal, now_ms) for letter in letters]
        records = [record for decision in decisions for record in decision.records]
        try:
            rows = self._rows(records)
        except StoreError as error:
            # Of anything else that fails there, deciding it again would fail again, for ever.
            await self._recover_from(error, letters, decisions, records[-1].lsn)
            return
        began_s = self.loop.time()
        try:
            await self._commit(rows)
        except Exception as error:  # noqa: BLE001 - border: any failure leaves it unknown.
            await self._recover_from(error, letters, decisions, records[-1].lsn)
            return
        commit_s = self.loop.time() - began_s
        self._reopening.succeeded()
        if self._services_changed:
            # Before it is answered, so that whoever was told of a service finds it.
            self._publish_services()
        self._prefetch(decisions)
        for letter, decision in zip(letters, decisions, strict=True):
            for action in decision.actions:
                self._act(action)
            letter.answer(decision.answer)
        if any(isinstance(record.fact, LinkClosed) for record in records):
            self._forget_what_nobody_runs()
        self.feed.publish(records)
        if self._failures is not None:
            self._failures.say(records, self.machine.state)
        if records:
            self._tell_observers(records, commit_s)

    def _forget_what_nobody_runs(self) -> None:
        """Journals are kept at hand for attempts, and of these there is none before code comes."""
        for inv in self.machine.state.live():
            if not self.machine.state.links_for(inv):
                self.vault.forget(inv.id)

    def _tell_observers(self, records: list[Record], commit_s: float) -> None:
        for observer in self._observers:
            try:
                observer.heard(records, self.machine.state, commit_s)
            except Exception:  # border: an observer's fault is not the engine's.
                logger.exception("an observer failed")

    def _decide(self, proposal: Proposal, now_ms: int) -> Decision:
        if isinstance(proposal, OpenLink | LoadCode) and proposal.link not in self._links:
            # It was closed when its code was on its way here: nothing could be run over it.
            gone = Refused(code=410, message=f"the link '{proposal.link}' is closed")
            return Decision([], [], gone)
        self._note(proposal)
        return self.machine.decide(proposal, now_ms)

    def _rows(self, records: list[Record]) -> list[Row]:
        """The records as the store takes them. What fails here was never sent to it."""
        rows: list[Row] = []
        for record in records:
            payload = self.vault.resolve(record)
            self.vault.remember(record, payload)
            rows.append(encode(record, self.machine.state.epoch, payload))
        return rows

    async def _commit(self, rows: list[Row]) -> None:
        if rows:
            await self._writer.append(rows)
            self.vault.settle(rows[-1].lsn)

    async def _begin_epoch(self) -> None:
        """Recover, and fence off whatever an earlier epoch may still send."""
        self.machine: EngineMachine = recover(self._store)
        self.vault = Vault(self._store)
        self.vault.settle(self._store.last_lsn())
        beginning: tuple[Proposal, ...] = (
            StartEpoch(owner=self._owner, version=self._version),
            ConfigureEngine(settings=self._settings),
        )
        decisions = [self.machine.decide(first, self._clock.now_ms()) for first in beginning]
        await self._commit(
            self._rows([record for decision in decisions for record in decision.records])
        )
        self._publish_services()
        for action in self.machine.resume():
            self._act(action)

    def _publish_services(self) -> None:
        known = self.machine.state.services
        self.services = {name: service.manifest for name, service in known.items()}
        self._services_changed = False
        if self.services_heard is not None:
            self.services_heard()

    async def _recover_from(
        self, error: Exception, letters: list[Letter], decisions: list[Decision], last_lsn: int
    ) -> None:
        """The one recovery path. `last_lsn` is that of the batch whose commit failed.

        If the log has it, the commit came through and what was decided stands. Else it never
        happened: what attempts proposed is stale now, what clients proposed is decided again.
        """
        if isinstance(error, DiskFullError):
            logger.warning("%s The engine waits, and goes on by itself once there is room.", error)
        elif not isinstance(error, JournalGoneError):
            logger.warning("a commit failed, its outcome is unknown; recovering: %s", error)
        self._timers.clear()
        for link in self._links.values():
            link.stop_all("the journal is being recovered")
        came_through = await self._reopening.reopen(
            error, last_lsn, leave=self._close_writer, begin=self._next_epoch
        )
        again: list[Letter] = []
        for letter, decision in zip(letters, decisions, strict=True):
            if came_through:
                letter.answer(decision.answer)
            elif not isinstance(letter.proposal, AttemptSteps):
                again.append(letter)
        state = self.machine.state
        self._callers.tell_what_ended(state, self.vault)
        self.feed.tell(frozenset((*state.invocations, *state.completed)))
        proposed = [letter.proposal for letter in again]
        for opened in self._opened.values():
            if opened not in proposed:
                self._mailbox.put(Letter(opened))
        for code in self._code.values():
            if code not in proposed:
                again_loaded = msgspec.structs.replace(code, again=True)
                self._mailbox.put(Letter(again_loaded))
        for letter in again:
            self._mailbox.put(letter)

    def _wait_for_room(self, why: DiskFullError | None) -> None:
        """None when there is room again."""
        self._without_room = why
        self._refuse_to_look()

    def _refuse_to_look(self) -> None:
        """Who only looks is told, and does not wait for room with those who want something done."""
        if self._without_room is None:
            return
        asked = [question for question in self._questions if question.only_looks]
        self._questions = [question for question in self._questions if not question.only_looks]
        for letter in (*asked, *self._mailbox.withdraw(only_looks)):
            letter.fail(self._without_room)

    def _close_writer(self) -> None:
        """Of the epoch that is over, whichever that is by then."""
        self._writer.close()

    async def _next_epoch(self) -> None:
        self._writer = self._make_writer(self._store, self.loop)
        await self._begin_epoch()

    def _note(self, proposal: Proposal) -> None:
        """What is joined to this process outlives a recovery in it, so it is proposed again."""
        match proposal:
            case OpenLink(link=link):
                self._opened[link] = proposal
            case LoadCode(link=link, manifest=manifest):
                self._code[link, manifest.name, manifest.digest] = proposal
                self._services_changed = True
            case PatchService():
                self._services_changed = True
            case CloseLink(link=link):
                self._links.pop(link, None)
                self._opened.pop(link, None)
                self._code = {key: code for key, code in self._code.items() if key[0] != link}

    def _fire(self, timer: Timer) -> None:
        self._mailbox.put(Letter(TimerFired(timer=timer)))

    def _prefetch(self, decisions: list[Decision]) -> None:
        starting = [
            inv
            for decision in decisions
            for action in decision.actions
            if isinstance(action, StartAttempt)
            and (inv := self.machine.state.invocations.get(action.invocation_id)) is not None
        ]
        if len(starting) > 1:
            self.vault.prefetch(starting)

    def _act(self, action: AnyAction) -> None:
        match action:
            case SetTimer(timer=timer, at_ms=at_ms):
                self._timers.set(timer, at_ms)
            case PublishResult(invocation_id=invocation_id, result=result):
                self._callers.tell(invocation_id, result, self.vault)
            case AssignRevision():
                link = self._links.get(action.link)
                if link is not None:
                    link.assign_revision(action.service, action.digest, action.revision)
            case _:
                link = self._links.get(action.link)
                if link is None:
                    return
                instead = give(link, action, self.machine.state, self.vault)
                if instead is not None:
                    self._mailbox.put(Letter(instead))

    def _die(self, error: BaseException) -> None:
        """Answer everyone who waits, now and from now on, with the reason."""
        if self._dead is not None:
            return
        self._dead = as_error(error)
        if not self.ready.done():
            self.ready.set_exception(error)
        elif not isinstance(error, EngineClosedError):
            logger.error("the engine stopped: %s", error)
        self._callers.fail_all(self._dead)
        mailbox = getattr(self, "_mailbox", None)
        for letter in mailbox.drain() if mailbox is not None else ():
            letter.fail(as_error(error))
