"""The stepper: drives one attempt's coroutine, and lets it go when the attempt is over.

The handler runs in one asyncio task. Its coroutine is stepped with `send` and `throw`, so that
suspending is not something that user code can prevent: the machine is closed first, from then on
nothing is recorded, and only then is the coroutine unwound, so that `finally` and `async with`
free what they hold.

Everything here happens on the handler thread. A `def` handler has a thread of its own besides,
which asks this one.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from typing import Any, TypeVar

from nbdurable.core.attempt import (
    AttemptMachine,
    Cancelled,
    ExecuteRun,
    MismatchError,
    Phase,
    Ready,
    WaitExternal,
    success_of,
)
from nbdurable.core.commands import CallCommand, OneWayCallCommand
from nbdurable.core.futures import Completion, FutureTree, Stream
from nbdurable.core.journal import AttemptStart, FailedRun, JournalEntry
from nbdurable.core.notifications import Notification
from nbdurable.core.proposals import AnyStep, AppendCommand, AttemptSteps
from nbdurable.core.values import ErrorReport, Result, Target
from nbdurable.errors import AttemptClosed, SerializationError, TerminalError
from nbdurable.invoker.action import Action
from nbdurable.invoker.beside import Beside, own_task, own_timer
from nbdurable.invoker.host import Host
from nbdurable.invoker.lines import calling_line, innermost_line
from nbdurable.invoker.misuse import (
    check_use,
    never_awaited,
    on_own_thread,
    refuse_to_await,
    refuse_to_block,
)
from nbdurable.invoker.output import Output, Writer, output_var
from nbdurable.invoker.parts import in_parts
from nbdurable.invoker.report import (
    failure_of,
    find_terminal,
    mismatch_report,
    report_of,
    two_awaits_report,
)
from nbdurable.invoker.standstill import Standstill
from nbdurable.invoker.thread import REFUSALS_MAX, HandlerThread
from nbdurable.invoker.wire import Written
from nbdurable.sdk.context import executing_step_var

T = TypeVar("T")

logger = logging.getLogger("nbdurable")

# A step that ends this soon shares one commit with the entry that says it began; a longer one is
# seen to be running. Nothing waits for that entry, so the window delays nobody.
COALESCE_S = 0.005
# Output that nothing else is proposed with: soon enough for a person who watches.
OUTPUT_S = 0.1
# Source: design, section 6.4.
UNWIND_S_MAX = 5.0


class Attempt:
    """Mutable; owned by the handler thread."""

    def __init__(
        self,
        start: AttemptStart,
        host: Host,
        handle: Callable[[Attempt], Coroutine[Any, Any, Written]],
        context: contextvars.Context,
        *,
        is_heard: bool = False,
    ) -> None:
        """`context` is the handler's; `is_heard`, whether it says where output is shown."""
        self.start = start
        self.machine = AttemptMachine(start)
        self.finished = asyncio.Event()
        # The thread of a `def` handler, while there is one.
        self.thread: HandlerThread | None = None
        self.loop_thread_id = threading.get_ident()
        # The handler is at work that the machine does not see: it is not suspended by itself.
        self.stays = False
        # The handler came to its end by itself, so that using its ctx is a mistake.
        self.has_returned = False
        self.beside = Beside()
        self._output = Output(self._phase, self._output_pending, is_heard=is_heard)
        # For the handler's context.
        self.writer = Writer(self._output)
        self._host = host
        self._handle = handle
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._wake: asyncio.Future[None] | None = None
        self._flush_later: asyncio.TimerHandle | None = None
        self._output_later: asyncio.TimerHandle | None = None
        self._suspend_later: asyncio.Handle | None = None
        self._abandon_later: asyncio.TimerHandle | None = None
        self._waiting_for: FutureTree | Stream | None = None
        self._refusal_count = 0
        self._actions: dict[int, Action] = {}
        self._executing: dict[int, asyncio.Task[None]] = {}
        # Failed steps that the engine will order to be tried again.
        self._retrying: set[int] = set()
        self._begun: set[int] = set()
        self._not_before_ms = {run.completion_id: run.next_retry_at_ms for run in start.failed_runs}
        self._coroutine: Coroutine[Any, Any, Written] | None = None
        self._standstill = Standstill(start, self.fail)
        self._task: asyncio.Task[None] | None = own_task(
            self._loop, self._live(), f"nbdurable {start.target}", context
        )
        self._task.add_done_callback(self._over)

    @property
    def is_closed(self) -> bool:
        return self.machine.phase is Phase.CLOSED

    @property
    def label(self) -> str:
        """What a person calls this invocation."""
        return f"{self.start.target} ({self.start.invocation_id[:12]}…)"

    # -- orders of the engine -----------------------------------------------------------------

    def deliver(self, entries: Sequence[JournalEntry]) -> None:
        self._standstill.progress()
        for entry_index, entry, payload in entries:
            assert isinstance(entry, Notification)
            self.machine.notify(entry_index, entry, payload)
        self._ring()

    def retry_run(self, failed: FailedRun) -> None:
        if failed.completion_id in self._actions and not self.is_closed:
            self._not_before_ms[failed.completion_id] = failed.next_retry_at_ms
            self._execute(failed.completion_id)

    def stop(self, why: str) -> None:
        """End without proposing anything more."""
        if not self.is_closed:
            logger.debug("%s: attempt %d stops: %s", self.start.target, self.start.attempt, why)
            self.machine.close()
            self._unwind()

    # -- what the context asks ----------------------------------------------------------------

    def now_ms(self) -> int:
        return self._host.clock.now_ms()

    def will_run(self, completion_id: int, action: Action) -> None:
        """What to execute when this step is waited for."""
        self._actions[completion_id] = action

    def wait(self, awaited: FutureTree | Stream) -> Generator[Any, None, None]:
        """Return when the tree is satisfied, or something in the stream is touched.

        Raises:
            TerminalError: 409, the invocation was cancelled.
            AttemptClosed: The attempt is over.
        """
        while True:
            yield from self.check_open()
            progress = self.guard(lambda: self.machine.await_(awaited))
            match progress:
                case Ready():
                    return
                case Cancelled(abandoned=abandoned):
                    for completion_id in abandoned:
                        self._actions.pop(completion_id, None)
                        executing = self._executing.pop(completion_id, None)
                        if executing is not None:
                            executing.cancel()
                    raise TerminalError("cancelled", 409)
                case ExecuteRun(completion_ids=completion_ids):
                    for completion_id in completion_ids:
                        self._execute(completion_id)
                case WaitExternal(can_suspend=can_suspend):
                    if self._wake is not None:
                        self.fail(two_awaits_report(self._user_line()))
                        raise AttemptClosed
                    if can_suspend and not self.stays:
                        self._suspend_after_inactivity(awaited)
                    self._waiting_for = awaited
                    # The handler itself may be elsewhere: a task of the user's own waits here.
                    self.step_ended()
                    self._wake = self._loop.create_future()
                    try:
                        yield from self._wake
                    finally:
                        self._wake = self._waiting_for = None
                        self._stay()

    def suspend(self, awaited: FutureTree) -> None:
        """Suspend until this is satisfied. From here on nothing is recorded."""
        check_use(self)
        if not self.is_closed:
            self.machine.suspend(awaited)
            self.flush()

    def is_run(self, target: Target) -> bool:
        """Whether a handler known by name only is a workflow's run."""
        # What is offered here may have been registered since this attempt began.
        return (target.service, target.handler) in self.start.runs or self._host.is_run(target)

    def check_open(self) -> Generator[Any, None, None]:
        """Whoever awaits is the handler, and its attempt goes on.

        Raises:
            AttemptClosed: It does not. To whoever ignores that again and again, never returns.
            ContextMisuseError: Whoever awaits is not the handler.
        """
        check_use(self)
        refuse_to_await(self)
        if not self.is_closed:
            return
        self._refusal_count += 1
        if self._refusal_count > REFUSALS_MAX:
            yield from self._loop.create_future()
        raise AttemptClosed

    def guard(self, ask: Callable[[], T]) -> T:
        """Ask the machine; a mismatch ends the attempt in a way that user code cannot catch.

        The machine is asked on the loop's thread, whichever of the two threads this is.

        Raises:
            ContextMisuseError: Whoever asks is not the handler.
        """
        check_use(self)
        try:
            return self._on_loop(ask)
        except MismatchError as error:
            report = mismatch_report(error, self._user_line())
            self._on_loop(lambda: self.fail(report))
            raise AttemptClosed from error

    def block_on(self, awaitable: Awaitable[T]) -> T:
        """Wait in a `def` handler as an `await` would in an `async def` one."""
        refuse_to_block(self, awaitable)
        assert self.thread is not None
        return self.thread.wait(awaitable)

    async def run_on_thread(self, handler: Callable[[], T]) -> T:
        """Run a `def` handler on a thread of its own."""
        self.thread = HandlerThread(f"nbdurable {self.start.target}", self)
        return await self.thread.run(handler)

    def thread_runs(self, change: int) -> None:
        """The handler's own thread goes on (1), or stands still (-1)."""
        self._host.thread_runs(change)

    def was_asked(self) -> None:
        """By the handler's own thread, which computes on: what it did waits for no `await`."""
        if self._flush_later is None and self.machine.has_steps:
            self._flush_later = own_timer(self._loop, COALESCE_S, self.flush)

    def fail(self, report: ErrorReport) -> None:
        """The attempt ends here: propose that, and unwind."""
        if not self.is_closed:
            self.machine.fail(report)
            self.flush()
            self._unwind()

    def flush(self) -> None:
        """Propose what was done since the last time."""
        if self._flush_later is not None:
            self._flush_later.cancel()
            self._flush_later = None
        if self._output_later is not None:
            self._output_later.cancel()
            self._output_later = None
        steps = (*self._output.take(), *self.machine.take_steps())
        if not steps:
            return
        self._standstill.progress()
        children = [
            step.command.invocation_id
            for step in steps
            if isinstance(step, AppendCommand)
            and isinstance(step.command, CallCommand | OneWayCallCommand)
        ]
        if children:
            self._host.inherit(children, self._context)
        for part in in_parts(steps):
            self._host.propose(self._proposal(part))

    # -- inside -------------------------------------------------------------------------------

    def _proposal(self, steps: tuple[AnyStep, ...]) -> AttemptSteps:
        return AttemptSteps(
            epoch=self.start.epoch,
            invocation_id=self.start.invocation_id,
            seed=self.start.seed,
            attempt=self.start.attempt,
            steps=steps,
        )

    def _phase(self) -> Phase:
        return self.machine.phase

    def _output_pending(self) -> None:
        """On whichever thread something was printed."""
        with suppress(RuntimeError):  # The loop has ended; what is printed now nobody records.
            self._loop.call_soon_threadsafe(self._flush_output_later)

    def _flush_output_later(self) -> None:
        if self._output_later is None and not self.is_closed:
            self._output_later = own_timer(self._loop, OUTPUT_S, self.flush)

    def _on_loop(self, ask: Callable[[], T]) -> T:
        if on_own_thread(self):
            assert self.thread is not None
            return self.thread.ask(ask)
        return ask()

    async def _live(self) -> None:
        self._coroutine = self._handle(self)
        try:
            output = await _drive(self, self._coroutine)
        except (AttemptClosed, asyncio.CancelledError):
            if not self.is_closed:
                # User code cancelled its own task: to the journal, a failure like any other.
                self.machine.fail(report_of(asyncio.CancelledError("the handler's task")))
        except BaseException as error:  # noqa: BLE001 - border: the user's handler; neither sys.exit() nor pytest.fail() in it may end our thread, or be a silence.
            by_itself = not self.is_closed
            self._raised(error)
            self.has_returned = by_itself
        else:
            by_itself = not self.is_closed
            if by_itself:
                self._warn_of_unawaited_steps()
            payload, comparable = output
            self._end(success_of(payload, comparable=comparable), payload)
            self.has_returned = by_itself
        self.flush()

    def _over(self, task: asyncio.Task[None]) -> None:
        """Also of a task that was stopped before it began, which runs nothing of `_live`."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("%s: the attempt broke", self.start.target, exc_info=error)
            self.machine.fail(report_of(error))
            self.flush()
        self.machine.close()
        self._stay()
        self._standstill.stop()
        if self._abandon_later is not None:
            self._abandon_later.cancel()
        for executing in self._executing.values():
            executing.cancel()
        self.finished.set()
        self._host.ended(self)
        self._let_go()

    def _let_go(self) -> None:
        """Of all that holds this: thousands would wait for the collector, 14 KiB each."""
        self._output.end()
        self._task = self._coroutine = None
        self._context = contextvars.Context()
        self._actions.clear()

    def _end(self, result: Result, payload: bytes = b"") -> None:
        """The output, which replay holds against the journal like any command."""
        with suppress(AttemptClosed):
            self.guard(lambda: self.machine.output(result, payload))

    def _raised(self, error: BaseException) -> None:
        terminal = find_terminal(error)
        if self.is_closed:
            return
        if terminal is not None:
            self._end(failure_of(terminal))
        else:
            self.machine.fail(report_of(error, command_index=self.machine.command_index))

    def _warn_of_unawaited_steps(self) -> None:
        for completion_id, action in self._actions.items():
            begun = completion_id in self._begun
            if not begun and not self.machine.is_settled(Completion(id=completion_id)):
                logger.warning("%s", never_awaited(action.name, self.label))

    def step_ended(self) -> None:
        """The coroutine has yielded. What it did is proposed now, or a moment later."""
        if not self.machine.has_steps:
            return
        if self._executing and self.machine.only_runs_pending:
            if self._flush_later is None:
                self._flush_later = own_timer(self._loop, COALESCE_S, self.flush)
        else:
            self.flush()

    def _ring(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _suspend_after_inactivity(self, awaited: FutureTree | Stream) -> None:
        if self._host.always_replay:
            self._suspend_later = self._loop.call_soon(self._suspend, awaited)
            return
        delay_s = self.start.inactivity_timeout_ms / 1000
        if isinstance(awaited, Completion) and self._only_sleeps(awaited):
            # Behind all that is due by now: it may end the wait.
            since_s = self._loop.time()
            self._suspend_later = self._later(0, self._lie_down, awaited, since_s, delay_s)
        else:
            self._suspend_later = self._later(delay_s, self._suspend, awaited)

    def _only_sleeps(self, awaited: Completion) -> bool:
        """Until past its suspension; and this is the handler itself."""
        wakes_at_ms = self.machine.wakes_at_ms(awaited)
        if wakes_at_ms is None or asyncio.current_task() is not self._task:
            return False
        return wakes_at_ms > self.now_ms() + self.start.inactivity_timeout_ms

    def _stay(self) -> None:
        if self._suspend_later is not None:
            self._suspend_later.cancel()
            self._suspend_later = None

    @property
    def _is_asleep(self) -> bool:
        """It waits here, and nothing has come that it is about to be told of."""
        return not self.is_closed and self._wake is not None and not self._wake.done()

    def _suspend(self, awaited: FutureTree | Stream) -> None:
        if self._is_asleep:
            self.machine.suspend(awaited.rest() if isinstance(awaited, Stream) else awaited)
            self.flush()
            self._unwind()

    def _lie_down(self, sleep: Completion, since_s: float, delay_s: float) -> None:
        """Suspend now, and have it said later: nothing that is awaited comes before (`dormant`)."""
        if not self._is_asleep:
            return
        self._stay()
        self.flush()
        if self.beside.goes_on(since_s, since_s + delay_s):
            self._suspend_later = self._later(delay_s, self._suspend, sleep)
        else:
            self.machine.suspend(sleep)
            self._host.suspend_later(self._proposal(self.machine.take_steps()), delay_s)
            self._unwind()

    def _unwind(self) -> None:
        """The machine is closed: throw the coroutine out of whatever it waits for."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._abandon_later = self._later(UNWIND_S_MAX, self._abandon)

    def _later(self, delay_s: float, do: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
        """For what is mostly cancelled: a loop keeps such a timer, and would keep our context."""
        return own_timer(self._loop, delay_s, do, *args, context=contextvars.Context())

    def _abandon(self) -> None:
        if self._task is not None:
            self._context.copy().run(
                logger.warning,
                "%s: a handler whose attempt is over still runs, at %s; it is left to itself and"
                " nothing it does is recorded",
                self.start.target,
                self._user_line() or "an unknown line",
            )
            self._host.ended(self)

    def _user_line(self) -> str | None:
        own = None if self.thread is None else self.thread.line()
        return calling_line() or own or innermost_line(self._coroutine)

    def _execute(self, completion_id: int) -> None:
        action = self._actions[completion_id]
        self._begun.add(completion_id)
        self._retrying.discard(completion_id)
        self._executing[completion_id] = own_task(
            self._loop,
            self._run(completion_id, action),
            f"nbdurable step {action.name}",
            # A retry is ordered by the engine, outside of the handler's context.
            self._context.copy(),
        )

    async def _run(self, completion_id: int, action: Action) -> None:
        delay_ms = self._not_before_ms.pop(completion_id, 0) - self.now_ms()
        if delay_ms > 0:
            await asyncio.sleep(delay_ms / 1000)
        executing_step_var.set(action.name)
        output_var.set(self.writer.of_step(completion_id))
        begun_ms = self.now_ms()
        try:
            payload, comparable = action.write(await self._call_in_time(action))
        except asyncio.CancelledError as error:
            if self.is_closed or completion_id not in self._executing:
                return
            # Nobody stopped it: something inside of it was cancelled, which is its failure.
            self._executing.pop(completion_id, None)
            self._run_raised(completion_id, action, error, self.now_ms() - begun_ms)
        except BaseException as error:  # noqa: BLE001 - border: the user's step, as above: whatever it raises is its failure.
            self._executing.pop(completion_id, None)
            self._run_raised(completion_id, action, error, self.now_ms() - begun_ms)
        else:
            self._executing.pop(completion_id, None)
            result = success_of(payload, comparable=comparable)
            self.machine.complete_run(completion_id, result, payload)
        if self._host.always_replay:
            self._replay_what_ended()
        self.flush()

    def _replay_what_ended(self) -> None:
        """Suspend once no step is left to end here: its result is read from the journal."""
        if self._waiting_for is not None and not self._executing and not self._retrying:
            self._suspend(self._waiting_for)

    async def _call_in_time(self, action: Action) -> Any:
        if action.timeout is None:
            return await self._call(action)
        limit = asyncio.timeout(action.timeout.total_seconds())
        try:
            async with limit:
                return await self._call(action)
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimeoutError(
                f"the step {action.name!r} took longer than {action.timeout}"
            ) from None

    async def _call(self, action: Action) -> Any:
        if action.is_async:
            return await action.call()
        context = contextvars.copy_context()
        call = partial(context.run, action.call)
        value = await self._host.pool.run(call, self._loop)
        # A lambda that returns a coroutine is meant to be awaited; Restate's SDK would not.
        return await value if isawaitable(value) else value

    def _run_raised(
        self, completion_id: int, action: Action, error: BaseException, took_ms: int
    ) -> None:
        terminal = find_terminal(error)
        if terminal is not None:
            self.machine.complete_run(completion_id, failure_of(terminal))
            return
        if isinstance(error, SerializationError):
            error.step = action.name
        report = report_of(error, command_name=action.name, completion_id=completion_id)
        if action.retry is not None and report.heals_by_retry:
            self._retrying.add(completion_id)
            self.machine.fail_run(completion_id, report, action.retry, took_ms)
        else:
            self.fail(report)


@types.coroutine
def _drive(
    attempt: Attempt, coroutine: Coroutine[Any, Any, Written]
) -> Generator[Any, Any, Written]:
    """Step the coroutine; whatever it waits for besides us goes up to the loop unseen."""
    value: Any = None
    thrown: BaseException | None = None
    while True:
        try:
            yielded = coroutine.send(value) if thrown is None else coroutine.throw(thrown)
        except StopIteration as stop:
            returned: Written = stop.value
            return returned
        finally:
            # A frame that holds what was raised through it is left to the collector.
            value, thrown = None, None
        attempt.step_ended()
        try:
            value = yield yielded
        except asyncio.CancelledError as error:
            if attempt.is_closed:
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
                thrown = AttemptClosed()
            else:
                thrown = error
        except BaseException as error:  # noqa: BLE001 - border: what the awaited thing raised.
            thrown = error
