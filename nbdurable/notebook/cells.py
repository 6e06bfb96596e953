"""A function cell: compiled as a cell of the notebook, run in the user's namespace, registered.

What the cell defines is the user's as after any other cell, except for its handlers: those are
reached through the cell's name, so that the `run` of two workflows can live side by side. Functions
keep the user's namespace as their globals and see what later cells change there.
"""

# IPython annotates its shell in part.
# mypy: disable-error-code="no-untyped-call, arg-type"
from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any, Final

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbdurable.client.picture import handy_name
from nbdurable.client.views import InvocationView
from nbdurable.core.proposals import Loaded
from nbdurable.errors import DefinitionError, NbdurableError, TerminalError
from nbdurable.notebook.bound import BoundDefinition
from nbdurable.notebook.left import keeping
from nbdurable.notebook.options import CellOptions
from nbdurable.notebook.parse import MAIN, CellKind, FunctionCell, read_cell
from nbdurable.notebook.session import Session
from nbdurable.notebook.tracebacks import CellSyntaxError, cut, user_stack
from nbdurable.sdk import Service, VirtualObject, Workflow, current_context
from nbdurable.sdk.definition import Definition

Fn = Callable[..., Any]

# How the origin of a run cell ends: its source is none of functions.
RUN_ORIGIN: Final = ", a run"
_ABSENT: Final = object()
# The words of the journal, and those of magics.
KINDS: Final[dict[str, CellKind]] = {
    "service": "service",
    "virtual_object": "object",
    "workflow": "workflow",
}


@dataclass(frozen=True, slots=True)
class Defined:
    """`told` is the line for the user; `functions` define those of a run cell."""

    definition: Definition
    loaded: Loaded
    told: str
    functions: CodeType


def run_cell(session: Session, kind: CellKind, options: CellOptions, line: str, body: str) -> str:
    """Define and register what a cell says, and bind its name; return what to tell the user."""
    defined = define(session, kind, options, line, body)
    bound = BoundDefinition(session, defined.definition)
    session.shell.user_ns[options.name] = bound
    return defined.told


def define(session: Session, kind: CellKind, options: CellOptions, line: str, body: str) -> Defined:
    """Define and register what a cell says.

    Args:
        line: What stands after `%%durable_…`, for the source that tracebacks show.
        body: The cell without that line.

    Raises:
        UsageError: One sentence that says what to write.
        CellSyntaxError: Python cannot read the cell.
    """
    shell, name, pin = session.shell, options.name, options.pin
    count = execution_count(shell)
    cell, filename = _read(shell, kind, name, line, body, count)
    # Before the cell's own code: a cell that cannot be registered is better not run.
    client = session.client
    _check_name(session, kind, name)
    functions = _execute(shell, cell, filename)
    try:
        definition = _define(session, cell, functions, options)
    except DefinitionError as error:
        raise UsageError(str(error)) from None
    before = _runs_of(client.wait(client.invocations()), name)
    origin = f"Cell In[{count}]{RUN_ORIGIN if kind == 'run' else ''}"
    registering = client.register(
        definition, digest=cell.digest, source=body, origin=origin, pin=pin
    )
    session.has_code = True
    try:
        loaded = client.wait(registering)
    except NbdurableError as error:
        session.forget_dead_engine(error)
        raise UsageError(str(error)) from None
    session.needs.remember(name, body, cell.sets)
    handlers = () if kind == "run" else cell.handlers
    told = announcement(name, handlers, loaded, before, pin=pin)
    return Defined(definition, loaded, told, compile(cell.functions, filename, "exec"))


def announcement(
    name: str,
    handlers: tuple[str, ...],
    loaded: Loaded,
    before: list[InvocationView],
    *,
    pin: bool = False,
) -> str:
    """One line: which revision this is, and what becomes of the runs that were there."""
    by_id = {view.id: view for view in before}
    moved = [by_id[invocation_id] for invocation_id in loaded.moved if invocation_id in by_id]
    failed = [view for view in moved if _has_failed(view)]
    adopted = [view for view in moved if not _has_failed(view)]
    woken = [v for v in before if not v.is_code_loaded and v.id not in loaded.moved]
    clauses = []
    if not loaded.is_new:
        first = f"unchanged (revision {loaded.revision})"
    elif loaded.revision == 1:
        named = f", handler{'s'[: len(handlers) > 1]} {', '.join(handlers)}" if handlers else ""
        first = f"revision 1{named}"
    else:
        first = f"revision {loaded.revision}"
    if failed:
        clauses.append(f"{_runs(failed, 'failed')} {_go(failed)} on with it")
    if adopted:
        clauses.append(f"{_runs(adopted)} {_go(adopted)} on with it")
    if woken and not pin:
        clauses.append(f"{_runs(woken)} {_go(woken)} on")
    if loaded.staying:
        staying = [by_id[i] for i in loaded.staying if i in by_id]
        clauses.append(f"{_runs(staying, 'healthy')} {_stay(staying)} on {_revisions(staying)}")
    if pin and loaded.is_new and before:
        clauses.append(f"pinned: {_runs(before)} {_stay(before)} on {_revisions(before)}")
    paused = [v for v in before if v.status == "paused" and v.id not in loaded.moved]
    if paused and not pin:
        clauses.append(f"{_runs(paused, 'paused')}: %durable resume {handy_name(paused[0])}")
    rest = f"; {', '.join(clauses)}" if clauses else ""
    return f"{name}: {first}{rest}"


def execution_count(shell: InteractiveShell) -> int:
    """The number of the cell that runs now.

    `shell.execution_count` already is the next one's since IPython 9.18; the history has the cell
    under its own number in every version.
    """
    return max(1, len(_history(shell)) - 1)


def _history(shell: InteractiveShell) -> list[str]:
    history: Any = shell.history_manager
    inputs: list[str] = history.input_hist_raw
    return inputs


def _read(
    shell: InteractiveShell, kind: CellKind, name: str, line: str, body: str, count: int
) -> tuple[FunctionCell, str]:
    tree, filename = parsed(shell, f"%%durable_{kind} {line}", body, count)
    if kind == "run":
        _check_as_a_cell(shell, tree, filename)
    try:
        return read_cell(kind, name, tree), filename
    except DefinitionError as error:
        raise UsageError(str(error)) from None


def parsed(
    shell: InteractiveShell, first_line: str, body: str, count: int, *, flags: int = 0
) -> tuple[ast.Module, str]:
    """The code below a magic's line, and the name that its lines have in tracebacks.

    Raises:
        CellSyntaxError: Python cannot read it.
    """
    raw = _history(shell)[-1]
    # Line numbers are those of the cell as it was typed; the magic's line is usually the first.
    above = raw[: -len(body)].count("\n") if body and raw.endswith(body) else 1
    padding = "\n" * (above - 1)
    try:
        # What IPython allows in a cell (%time, !ls) is allowed here. It takes blank lines away.
        blank = body[: len(body) - len(body.lstrip("\n"))]
        source = blank + shell.transform_cell(body)
        shown = f"{padding}{first_line}\n{source}"
        filename = shell.compile.cache(shown, count, raw_code=raw)
        tree = compile(f"{padding}\n{source}", filename, "exec", flags | ast.PyCF_ONLY_AST)
    except SyntaxError as error:
        raise CellSyntaxError(shell, error) from None
    assert isinstance(tree, ast.Module)
    return tree, filename


def _check_name(session: Session, kind: CellKind, name: str) -> None:
    """One is no revision of another kind: runs that are not over could not go on with it."""
    client = session.client
    for one in client.wait(client.services()):
        was_run = (one.origin or "").endswith(RUN_ORIGIN)
        was: CellKind = "run" if was_run else KINDS[one.type]
        if one.name != name or was == kind:
            continue
        if "run" in (was, kind):
            raise UsageError(f"there is a {was} {name} already; give this another name")
        runs = _runs_of(client.wait(client.invocations()), name)
        if runs:
            raise UsageError(
                f"{name} is a {was}, and {_runs(runs)} of it {_go(runs)} on; end them first, e.g."
                f" %durable kill {handy_name(runs[0])}, or give this another name"
            )


def _check_as_a_cell(shell: InteractiveShell, tree: ast.Module, filename: str) -> None:
    """What Python would refuse in a cell, such as `return`, it would not in a function."""
    try:
        compile(tree, filename, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        raise CellSyntaxError(shell, error) from None


def _execute(shell: InteractiveShell, cell: FunctionCell, filename: str) -> dict[str, Any]:
    """Run the cell's own code; return its handlers, which are not left in the namespace."""
    names: dict[str, Any] = shell.user_ns
    with _put_back(names, cell.handlers):
        try:
            exec(shell.compile(cell.tree, filename, "exec"), names)  # noqa: S102 - it is the user's cell.
        except SyntaxError as error:
            if error.filename == filename:
                raise CellSyntaxError(shell, error) from None
            raise
        except Exception as error:  # noqa: BLE001 - border: the user's code fails below its cell.
            raise cut(shell, error, filename) from error.__cause__
        return {name: names[name] for name in cell.handlers}


@contextmanager
def _put_back(names: dict[str, Any], handlers: tuple[str, ...]) -> Iterator[None]:
    earlier = {name: names.get(name, _ABSENT) for name in handlers}
    try:
        yield
    finally:
        for name, value in earlier.items():
            if value is _ABSENT:
                names.pop(name, None)
            else:
                names[name] = value


def _define(
    session: Session, cell: FunctionCell, functions: dict[str, Any], options: CellOptions
) -> Definition:
    given = options.of_definition()
    if options.state_retention is not None and cell.kind != "object":
        raise UsageError("--state-retention is for %%durable_object, whose state nothing else ends")
    match cell.kind:
        case "service":
            service = Service(cell.name, **given)
            for fn in functions.values():
                service.handler()(_witnessed(session, fn))
            return service
        case "object":
            virtual = VirtualObject(cell.name, state_retention=options.state_retention, **given)
            for name, fn in functions.items():
                kind: Any = "shared" if name in cell.shared else "exclusive"
                virtual.handler(kind=kind)(_witnessed(session, fn))
            return virtual
        case "workflow":
            workflow = Workflow(cell.name, **given)
            for name, fn in functions.items():
                main = workflow.main(workflow_retention=options.retention)
                mark = main if name == MAIN else workflow.handler()
                mark(_witnessed(session, fn))
            return workflow
        case "run":
            of_cell, given_names = Workflow(cell.name, **given), session.shell.user_ns
            fn = keeping(functions[MAIN], cell.sets, given_names, session.remember_left)
            of_cell.main(workflow_retention=options.retention)(_witnessed(session, fn))
            return of_cell


def _witnessed(session: Session, fn: Fn) -> Fn:
    """Remember where a terminal error was raised: the journal has its message only."""

    @functools.wraps(fn)
    async def handle(*args: Any) -> Any:  # noqa: ANN401 - the user's values.
        with _witness(session):
            return await fn(*args)

    @functools.wraps(fn)
    def handle_blocking(*args: Any) -> Any:  # noqa: ANN401 - the user's values.
        with _witness(session):
            return fn(*args)

    return handle if inspect.iscoroutinefunction(inspect.unwrap(fn)) else handle_blocking


@contextmanager
def _witness(session: Session) -> Iterator[None]:
    try:
        yield
    except TerminalError as error:
        ctx = current_context()
        if ctx is not None:
            session.remember_stack(ctx.request().id, user_stack(error))
        raise


def _runs_of(views: list[InvocationView], service: str) -> list[InvocationView]:
    return [view for view in views if view.service == service and not view.is_done]


def _has_failed(view: InvocationView) -> bool:
    is_retried = view.status == "running" and view.failure_count > 0
    return is_retried or view.status in ("backing-off", "paused")


def _runs(views: list[InvocationView], how: str = "") -> str:
    return f"{len(views)} {how + ' ' if how else ''}run{'s'[: len(views) != 1]}"


def _go(views: list[InvocationView]) -> str:
    return "goes" if len(views) == 1 else "go"


def _stay(views: list[InvocationView]) -> str:
    return "stays" if len(views) == 1 else "stay"


def _revisions(views: list[InvocationView]) -> str:
    numbers = sorted({view.revision for view in views if view.revision is not None})
    named = " and ".join(map(str, numbers)) or "their own"
    return f"revision{'s'[: len(numbers) > 1]} {named}"
