"""A run that was submitted: wait for it, look at it, cancel it. It outlives its handle.

Waiting is a heartbeat, not one long wait: an idle loop does not notice Interrupt until it wakes.
Interrupting detaches; only `cancel()` ends a run.

Source: jupyter.md, 1.5 (interrupt) and 3.3 (what a saved notebook shows).
"""

# ruff: noqa: ANN401 - what a handler returns is the user's: any value.
from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from nbdurable.client.base import RestateClientSendHandle
from nbdurable.client.drawing import picture_of
from nbdurable.client.picture import handy_name, is_held, short_id, status_of
from nbdurable.client.views import InvocationView
from nbdurable.core.builtin import NOTEBOOK_SERVICE
from nbdurable.errors import (
    EngineClosedError,
    InvocationNotReadyError,
    NbdurableError,
    TerminalError,
)
from nbdurable.notebook.live import LiveJournal, static_mime
from nbdurable.notebook.session import Session
from nbdurable.notebook.tracebacks import cell_names, rendered, said, stack_lines
from nbdurable.notebook.widgets.views_html import StaticJournal
from nbdurable.sdk import Serde
from nbdurable.sdk.serde import DEFAULT_SERDE

if TYPE_CHECKING:
    from nbdurable.runs.request import RunRequest
    from nbdurable.runs.target import Submits

# Interrupt must be felt within a second; five looks a second cost nothing.
HEARTBEAT_S: Final = 0.2
# A wait longer than this shows what it waits for: the cell may be waiting for the person itself.
SHOWN_AFTER_HEARTBEATS: Final = 5
# Waiting for a hundred runs must not fill the page.
SHOWN_WAITS_MAX: Final = 3


class Handle:
    """Mutable: remembers whether it was shown. `id` is the run's."""

    _shown_waits = 0

    def __init__(
        self,
        session: Session,
        invocation_id: str,
        target: str,
        serde: Serde[Any],
        notice: str = "",
    ) -> None:
        """`notice` is what to say about the submission itself."""
        self.id = invocation_id
        self._session = session
        self._target = target
        self._serde = serde
        self._notice = notice
        self._was_shown = False

    def __repr__(self) -> str:
        try:
            doing = status_of(self._view())
        except NbdurableError as error:
            doing = str(error)
        return f"<Handle {self._target} {short_id(self.id)} {doing}>"

    @property
    def status(self) -> str:
        """Restate's word: running, suspended, backing-off, paused, completed and so on."""
        return self._view().status

    @property
    def journal(self) -> StaticJournal:
        """What is journaled so far; `.df()` of it is a DataFrame."""
        client = self._session.client
        view, entries = self._view(), client.wait(client.journal(self.id))
        named = partial(cell_names, self._session.shell)
        picture = picture_of(view, entries, client.now_ms(), notice=self._notice, name_files=named)
        return StaticJournal(picture, entries)

    def cancel(self) -> None:
        """The handler sees a TerminalError with code 409 at its await, and may compensate."""
        self._session.client.wait(self._session.client.cancel(self.id))

    def result(self, timeout: timedelta | None = None) -> Any:
        """Wait without giving way to anything: no button in this notebook works meanwhile.

        Raises:
            TerminalError: The run failed, or was cancelled.
            InvocationNotReadyError: It is paused, so there is nothing to wait for.
            TimeoutError: It goes on.
        """
        outcome: Coroutine[Any, Any, Any] = self._outcome()
        if timeout is not None:
            outcome = asyncio.wait_for(outcome, timeout.total_seconds())
        try:
            return self._session.client.wait(outcome)
        except KeyboardInterrupt as error:
            raise self._detached(error) from None
        except TimeoutError:
            more = f"{self._target} has no result yet; it goes on"
            raise said(TimeoutError(more)) from None
        except (TerminalError, InvocationNotReadyError, EngineClosedError) as error:
            self._raise_shown(error, self._session.client.wait(self._stack()))

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        if self._notice and not self._was_shown:
            print(self._notice)  # noqa: T201 - the one place where it can still be said.
            self._notice = ""
        waiting = asyncio.ensure_future(self._outcome())
        heartbeats, shows = 0, False
        try:
            while not (await asyncio.wait({waiting}, timeout=HEARTBEAT_S))[0]:
                heartbeats += 1
                if heartbeats == SHOWN_AFTER_HEARTBEATS and self._may_show():
                    shows = True
                    Handle._shown_waits += 1
                    self._ipython_display_()
            return waiting.result()
        except (asyncio.CancelledError, KeyboardInterrupt) as error:
            waiting.cancel()
            raise self._detached(error) from None
        except (TerminalError, InvocationNotReadyError, EngineClosedError) as error:
            self._raise_shown(error, await self._stack())
        finally:
            if shows:
                Handle._shown_waits -= 1

    async def _outcome(self) -> Any:
        """The result, or an error when there is none to wait for. On any loop."""
        client = self._session.client
        attached = asyncio.ensure_future(client.attach(self.id, self._serde))
        try:
            while not (await asyncio.wait({attached}, timeout=HEARTBEAT_S))[0]:
                view = await client.invocation(self.id)
                if view.status == "paused":
                    raise InvocationNotReadyError(self._paused(view))
            return attached.result()
        finally:
            attached.cancel()

    async def _stack(self) -> list[str]:
        """The user's own frames: of this kernel if it failed here, else what was journaled."""
        shell = self._session.shell
        stack = self._session.stacks.get(self.id)
        if stack is None:
            error = await self._session.client.last_error(self.id)
            stack = "" if error is None else error.stacktrace
        return stack_lines(shell, stack)

    def _raise_shown(self, error: NbdurableError, stack: list[str]) -> NoReturn:
        where = f"in {self._target}, {short_id(self.id)}; %durable show {short_id(self.id)}"
        raise said(error, *stack, where) from None

    def _detached(self, error: BaseException) -> BaseException:
        name = short_id(self.id)
        return rendered(error, [f"detached; run {name} goes on; %durable show {name}"])

    def _paused(self, view: InvocationView) -> str:
        if is_held(view):
            resume = f"%durable resume {handy_name(view)}"
            return f"{self._target} is paused by hand; it goes on with {resume}"
        why = cell_names(self._session.shell, view.failure or "nobody has said why")
        if view.service == NOTEBOOK_SERVICE:
            return (
                f"{self._target} is paused: {why}\n"
                f"Correct the notebook, and %durable resume {handy_name(view)} goes on after the "
                "last cell that has finished"
            )
        return (
            f"{self._target} is paused: {why}\n"
            f"Correct the cell of {view.service} and run it again, and the run goes on from its "
            f"last step; or %durable resume {handy_name(view)}"
        )

    def _may_show(self) -> bool:
        return not self._was_shown and Handle._shown_waits < SHOWN_WAITS_MAX

    def _view(self) -> InvocationView:
        return self._session.client.wait(self._session.client.invocation(self.id))

    def _ipython_display_(self) -> None:
        """Show the live journal, as the last expression of a cell does.

        Not a mimebundle, which cannot be replaced by its final picture later.
        """
        self._was_shown = True
        LiveJournal(self._session, self.id, self._notice).show()

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        """For whoever wants a value and not a display, such as a list of handles or an export."""
        return static_mime(self.journal.picture)


def of_notebook_runs(session: Session) -> Submits:
    """What `durable.notebook(…).run(…)` gives in a cell."""

    def submitted(sent: RestateClientSendHandle, key: str, _: RunRequest) -> Handle:
        target = f"{NOTEBOOK_SERVICE}/{key}/run"
        notice = f"attached to the run of {key} that was there already" if sent.existing else ""
        return Handle(session, sent.invocation_id, target, DEFAULT_SERDE, notice)

    return submitted
