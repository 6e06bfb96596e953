"""The magics: thin, and the border where an error becomes one line below the cell."""

# IPython annotates magics in part.
# mypy: disable-error-code="no-untyped-call, untyped-decorator"
# ruff: noqa: ANN401 - what IPython hands to magics, and shows of them, is any value.
from __future__ import annotations

from typing import Any, Final

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_cell_magic, magics_class

from nbdurable.errors import NbdurableError
from nbdurable.notebook.capture import Capture
from nbdurable.notebook.cells import run_cell
from nbdurable.notebook.completion import matcher_of
from nbdurable.notebook.options import (
    read_options,
    read_run_options,
    read_step_options,
    with_cell_options,
    with_run_options,
    with_step_options,
)
from nbdurable.notebook.parse import CellKind
from nbdurable.notebook.run_cells import RunOfCell, run_as_one
from nbdurable.notebook.session import Session
from nbdurable.notebook.spelling import no_such
from nbdurable.notebook.step_cells import StepCells
from nbdurable.notebook.transforms import Transform
from nbdurable.notebook.verbs import HELP, VERBS
from nbdurable.notebook.widgets.views_html import Columns

# Not a verb like the others: what follows it is no list of words.
SQL: Final = "sql"


@magics_class
class DurableMagics(Magics):
    """Mutable: owns the session, and with it the engine of this kernel."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.session = Session(shell)
        self.capture = Capture(shell)
        self.steps = StepCells(self.session)
        parsers = {
            name: getattr(self, name).parser
            for name in self.magics["cell"]
            if hasattr(getattr(self, name), "parser")
        }
        self.matcher = matcher_of(self.session, (*VERBS, SQL), parsers)
        self.transform = Transform(shell, {kind: [*names] for kind, names in self.magics.items()})

    @with_cell_options
    @cell_magic
    def durable_service(self, line: str, cell: str) -> None:
        """Handlers that run side by side: async def greet(ctx, name)."""
        self._define("service", self.durable_service, line, cell)

    @with_cell_options
    @cell_magic
    def durable_object(self, line: str, cell: str) -> None:
        """Handlers with a key and state, one at a time per key; @shared ones only read."""
        self._define("object", self.durable_object, line, cell)

    @with_cell_options
    @cell_magic
    def durable_workflow(self, line: str, cell: str) -> None:
        """Write async def run(ctx, request), which runs once per key; others reach the run."""
        self._define("workflow", self.durable_workflow, line, cell)

    @with_step_options
    @cell_magic
    def durable_step(self, line: str, cell: str) -> None:
        """Not run again when the notebook is: what it set and put out is recorded, and restored.

        It is run again when its text is edited, under another --key, and with --fresh.
        """
        options = read_step_options(self.durable_step, line)
        try:
            told = self.steps.run(options, line, cell)
        except NbdurableError as error:
            self.session.forget_dead_engine(error)
            raise UsageError(str(error)) from None
        print(told)  # noqa: T201 - a magic speaks to the cell.

    @with_run_options
    @cell_magic
    def durable_run(self, line: str, cell: str) -> RunOfCell:
        """The cell is one run: its steps are journaled, and it may await. ctx is there.

        If the kernel dies, run the cell again: the run goes on after its last finished step. Once
        it has ended, its variables and result are restored; an edited cell runs anew.
        """
        options = read_run_options(self.durable_run, line)
        try:
            return run_as_one(self.session, options, line, cell)
        except NbdurableError as error:
            self.session.forget_dead_engine(error)
            raise UsageError(str(error)) from None

    @line_cell_magic
    def durable(self, line: str, cell: str | None = None) -> Any:
        """Look at runs, answer them, end them: %durable alone lists the verbs."""
        verb, _, rest = line.strip().partition(" ")
        if cell is not None and verb != SQL:
            instead = f"%durable {verb}" if verb in VERBS else "%%durable sql above it"
            raise UsageError(f"%%durable takes a cell of SQL only; write: {instead}")
        if verb in ("", "help", "--help", "-h", "?"):
            return Columns(HELP)
        if verb not in (SQL, *VERBS):
            raise UsageError(no_such("%durable has no verb", verb, (*VERBS, SQL)))
        try:
            if verb == SQL:
                from nbdurable.notebook.sql import answer

                return answer(self.session, rest.strip(), cell)
            return VERBS[verb](self.session, rest)
        except NbdurableError as error:
            self.session.forget_dead_engine(error)
            raise UsageError(str(error)) from None

    durable.__doc__ = f"{durable.__doc__}\n\n{HELP}"

    def _define(self, kind: CellKind, magic: Any, line: str, cell: str) -> None:
        options = read_options(magic, line)
        try:
            told = run_cell(self.session, kind, options, line, cell)
        except NbdurableError as error:
            self.session.forget_dead_engine(error)
            raise UsageError(str(error)) from None
        print(told)  # noqa: T201 - a magic speaks to the cell.
