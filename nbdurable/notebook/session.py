"""The engine of this kernel: opened at first need, closed at exit. A variable of the magics.

Nothing is created on disk before something needs it. A journal that cannot be opened is one
sentence, never a traceback; every later use asks again, because the reason may have gone.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbdurable.client.answers import at
from nbdurable.client.engine import EngineClient
from nbdurable.errors import EngineClosedError, JournalGoneError, NbdurableError
from nbdurable.notebook.greeting import greeting, joined
from nbdurable.notebook.left import Left
from nbdurable.notebook.needs import Needs, what_misses
from nbdurable.notebook.widgets.screen import Screen
from nbdurable.sharing.engine import SharedEngine
from nbdurable.store.lock import holder_of
from nbdurable.wiring import journal_path, this_person

if TYPE_CHECKING:
    from nbdurable.server.options import ServeOptions
    from nbdurable.server.serving import Serving

logger = logging.getLogger("nbdurable")

# Stacks of failures are kept for as many runs as a person may still be looking at.
STACKS_MAX: Final = 1_000
# A cell takes what its run has left at once; those that nobody takes must not fill the memory.
LEFT_MAX: Final = 4
# Loading the extension takes a third of that; what it takes to listen must not hold it up.
LISTENS_AFTER_S: Final = 0.5
# Each costs a question to the engine at the end of every cell, some 0.3 ms.
SETTLED_MAX: Final = 20
# A front end that does not read must not hold up the cell.
DRAINED_S_MAX: Final = 1.0


class Settling(Protocol):
    def settle(self) -> bool:
        """Have what the notebook is saved with be true; whether it is so for good."""


class Session:
    """Mutable; owned by the kernel's main thread, except for `stacks` and `left`.

    Those are what handlers fill.

    Attributes:
        stacks: The user's frames of runs that failed in this kernel; journals hold no stacks of
            terminal errors.
        has_code: Whether anything was defined here.
        needs: The names that what was defined here looks up.
        live: What shows a run in some cell, until a cell ends after the run.
        left: What run cells that ended in this kernel leave, until it is put into the namespace.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.screen = Screen()
        self.stacks: OrderedDict[str, str] = OrderedDict()
        self.left: OrderedDict[str, Left] = OrderedDict()
        self.has_code = False
        self.needs = Needs(shell)
        self.live: list[Settling] = []
        self._engine: SharedEngine | None = None
        self._serving: Serving | None = None
        self._gone: str | None = None
        self._has_ended = False

    def __repr__(self) -> str:
        return f"<Session {self.path} {'open' if self.is_open else 'not open'}>"

    @property
    def path(self) -> Path:
        return self._engine.path if self._engine is not None else journal_path()

    @property
    def who(self) -> str:
        """Whoever sits before this notebook, as a journal names them."""
        return at(this_person(), "notebook")

    @property
    def is_open(self) -> bool:
        return self._engine is not None

    @property
    def is_owner(self) -> bool:
        return self._engine is not None and self._engine.is_owner

    @property
    def client(self) -> EngineClient:
        """Opens the journal if it is not open.

        Raises:
            UsageError: It cannot be opened; the sentence says why, and what to do.
        """
        if self._engine is None:
            if self._has_ended:
                raise UsageError(
                    "this was defined before the extension was loaded anew; run its cell again"
                )
            if self._gone is not None and not journal_path().is_dir():
                # A new journal in its place would be in the way when the old one is moved back.
                raise UsageError(self._gone)
            self._open()
        assert self._engine is not None
        return self._engine.client

    def begin(self) -> None:
        """At `%load_ext`: a journal that is there is opened and says what it holds."""
        path = journal_path()
        if not path.is_dir() or not any(path.iterdir()):
            return
        try:
            self._open()
        except UsageError as error:
            print(error)  # noqa: T201 - a magic speaks to the cell.

    def serve(self, options: ServeOptions) -> None:
        """Serve the engine there instead of where this has served it before.

        Raises:
            NbdurableError: It is another process's, or the address is taken.
        """
        from nbdurable.server.serving import serve

        assert self._engine is not None, "it is open"
        before, self._serving = self._serving, None
        if before is not None:
            before.close()
        serving = serve(self._engine, options)
        serving.start()
        self._serving = serving

    def remember_stack(self, invocation_id: str, stack: str) -> None:
        self.stacks[invocation_id] = stack
        while len(self.stacks) > STACKS_MAX:
            self.stacks.popitem(last=False)

    def remember_left(self, invocation_id: str, left: Left) -> None:
        self.left[invocation_id] = left
        while len(self.left) > LEFT_MAX:
            self.left.popitem(last=False)

    def after_cell(self, *_: object) -> None:
        """Say what a cell has taken away from under code that is not done; draw last pictures."""
        lost = self.needs.lost()
        if self._engine is None:
            return
        # A journal that is just going has nothing to say.
        with suppress(NbdurableError):
            if lost:
                for line in what_misses(lost, self._engine.client):
                    print(line)  # noqa: T201 - a magic speaks to the cell.
            self._settle()

    def _settle(self) -> None:
        if self.live:
            over = [one for one in self.live[-SETTLED_MAX:] if one.settle()]
            self.live = [one for one in self.live if one not in over]
            self.screen.drain(DRAINED_S_MAX)

    def forget_dead_engine(self, error: NbdurableError) -> None:
        """After these the engine answers nothing any more; the next use opens the journal anew.

        A journal that is gone stays gone until its folder is back or the extension is reloaded.
        """
        if isinstance(error, EngineClosedError | JournalGoneError):
            self.close()
        if isinstance(error, JournalGoneError):
            self._gone = f"{error} To begin a new journal here: %reload_ext nbdurable"

    def end(self) -> None:
        """The extension is unloaded: what it has bound must not open the journal by itself."""
        self._has_ended = True
        self.close()

    def close(self) -> None:
        """Best effort, also at exit: correctness never depends on it."""
        engine, self._engine = self._engine, None
        serving, self._serving = self._serving, None
        self.screen.close()
        self.screen = Screen()
        self.live = []
        if engine is not None:
            try:
                if serving is not None:
                    serving.close()
                engine.close()
            except Exception:  # border: nobody is left to tell.
                logger.debug("the journal was not closed in order", exc_info=True)

    def _open(self) -> None:
        # A failure is shown where its run is shown, and needs no line in some cell's output.
        engine = SharedEngine(logs_failures=False, listens_after_s=LISTENS_AFTER_S)
        try:
            engine.start()
        except NbdurableError as error:
            raise UsageError(str(error)) from None
        self._engine, self._gone = engine, None
        holder = None if engine.is_owner else holder_of(engine.path)
        if holder is not None:
            print(joined(engine.path, holder.program, holder.pid))  # noqa: T201 - the same.
        views = engine.client.wait(engine.client.invocations())
        for line in greeting(engine.path, views, engine.client.now_ms()):
            print(line)  # noqa: T201 - a magic speaks to the cell.
