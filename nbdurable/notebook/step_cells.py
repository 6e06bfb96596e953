"""`%%durable_step NAME --out a,b`: a cell that is not run again when its notebook is.

A record is a run of the workflow `NotebookStep`, which returns what the cell has set and put out.
Its key is the notebook, the step's name, `--key`, and a digest of the cell's source: an edited cell
has another. What earlier cells gave it is not part of the key; that is what `--key` is for. Without
one, papermill's run stands for the notebook, since it has parameters. A cell that was killed
half-way has left no record, and runs again.
"""

# IPython annotates its shell in part.
# mypy: disable-error-code="no-untyped-call"
# ruff: noqa: ANN401 - the user's values.
from __future__ import annotations

import ast
import inspect
import os
import sys
import time
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import PurePath
from typing import Any, Final

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display, publish_display_data

from nbdurable.client.picture import clock_time, duration
from nbdurable.client.views import first_line
from nbdurable.core.values import OutputStream
from nbdurable.errors import (
    ConflictError,
    InvocationNotFoundError,
    InvocationNotReadyError,
    JournalDamagedError,
    SerializationError,
    TerminalError,
)
from nbdurable.invoker.output import output_var
from nbdurable.kernels import run_here
from nbdurable.notebook.capture import heard
from nbdurable.notebook.cells import execution_count, parsed
from nbdurable.notebook.options import StepOptions
from nbdurable.notebook.session import Session
from nbdurable.notebook.tracebacks import cut
from nbdurable.sdk import PickleSerde, Workflow, WorkflowContext

SERVICE: Final = "NotebookStep"
# What the handler below does with a journal; a change of that is a new number.
DIGEST: Final = "nbdurable.notebook.step/1"
_DIGEST_BYTES: Final = 6
_SERDE: Final = PickleSerde()


@dataclass(slots=True)
class Recorded:
    """What a step cell has left: values by name, and what it put out, in order."""

    values: dict[str, Any] = field(default_factory=dict)
    output: list[tuple[OutputStream | None, Any]] = field(default_factory=list)
    ended_at_ms: int = 0
    took_ms: int = 0


class _Listening:
    """Hears what a cell puts out beside those who show it: a writer of `output_var`."""

    is_heard, is_silent = True, False

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    def write(self, stream: OutputStream, text: str) -> None:
        self._recorded.output.append((stream, text))

    def display(self, data: dict[str, Any]) -> None:
        self._recorded.output.append((None, data))


class StepCells:
    """Mutable: what was run and is on its way into the journal. One per session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pending: dict[str, Recorded] = {}
        self._registered_with: object = None
        self._workflow = Workflow(SERVICE)

        @self._workflow.main(output_serde=_SERDE)
        async def run(ctx: WorkflowContext, _took_ms: int) -> Any:
            recorded = self._pending.pop(ctx.key(), None)
            if recorded is None:
                raise TerminalError("its kernel ended before it was recorded; the cell runs again")
            return recorded

        self._run = run

    def run(self, options: StepOptions, line: str, body: str) -> str:
        """Restore what is recorded, or run the cell and record it; what to tell the user."""
        key = _key(self._session.shell, options, body)
        self._register()
        why = ""
        if not options.fresh:
            found = self._found(key)
            if isinstance(found, Recorded) and found.values.keys() >= set(options.out):
                return self._restored(options, found)
            if isinstance(found, str):
                why = f" again, for its record cannot be read ({found})"
        self._forget(key)
        recorded = _executed(self._session.shell, options, line, body)
        return self._record(options, key, recorded, why)

    def _register(self) -> None:
        client = self._session.client
        if self._registered_with is not client:
            client.wait(client.register(self._workflow, digest=DIGEST, origin="a step cell"))
            self._registered_with = client
            self._session.has_code = True

    def _found(self, key: str) -> Recorded | str | None:
        """What is recorded; why it cannot be read; None where there is nothing."""
        client = self._session.client
        try:
            found = client.wait(client.workflow_output(SERVICE, key, serde=_SERDE))
        except (InvocationNotFoundError, InvocationNotReadyError, TerminalError):
            return None
        except (JournalDamagedError, SerializationError) as error:
            return first_line(str(error))
        assert isinstance(found, Recorded), found
        return found

    def _forget(self, key: str) -> None:
        """A key is written once; what is run again replaces it."""
        client = self._session.client
        try:
            old = client.wait(client.find(f"{SERVICE}/{key}"))
            client.wait(client.purge(old.id))
        except (ConflictError, InvocationNotFoundError):
            pass

    def _record(self, options: StepOptions, key: str, recorded: Recorded, why: str) -> str:
        client, took = self._session.client, duration(recorded.took_ms)
        try:
            _SERDE.serialize(recorded)
        except SerializationError as error:
            return f"{options.name}: ran{why} in {took}, and is not recorded: {error}"
        self._pending[key] = recorded
        client.wait(client.workflow_send(self._run, key, recorded.took_ms))
        client.wait(client.workflow_attach(SERVICE, key, serde=_SERDE))
        names = ", ".join(options.out) or "what it put out"
        return f"{options.name}: ran{why} in {took}; recorded {names}"

    def _restored(self, options: StepOptions, found: Recorded) -> str:
        for stream, what in found.output:
            if stream is None:
                publish_display_data(what)
            else:
                getattr(sys, stream).write(what)
        self._session.shell.user_ns.update({name: found.values[name] for name in options.out})
        names = ", ".join(options.out) or "what it put out"
        when, took = clock_time(found.ended_at_ms), duration(found.took_ms)
        return (
            f"{options.name}: restored {names} of {when}, which took {took}; --fresh runs it again"
        )


def _executed(shell: InteractiveShell, options: StepOptions, line: str, body: str) -> Recorded:
    """Run the cell as any other; what it has put out is shown, and heard."""
    first_line = f"%%durable_step {line}"
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree, filename = parsed(shell, first_line, body, execution_count(shell), flags=flags)
    if _awaits(tree):
        raise UsageError("a step cell cannot await; put what awaits into a %%durable_workflow cell")
    recorded, began = Recorded(), time.monotonic()
    token = output_var.set(_Listening(recorded))  # type: ignore[arg-type] # What it is asked for.
    try:
        with heard():
            _run_as_a_cell(shell, tree, filename)
    except Exception as error:  # noqa: BLE001 - border: the user's code fails below its cell.
        raise cut(shell, error, filename) from error.__cause__
    finally:
        output_var.reset(token)
    missing = [name for name in options.out if name not in shell.user_ns]
    if missing:
        raise UsageError(f"the cell ran, and has not set {', '.join(missing)}; see --out")
    recorded.took_ms = int((time.monotonic() - began) * 1000)
    recorded.ended_at_ms = int(time.time() * 1000)
    recorded.values = {name: shell.user_ns[name] for name in options.out}
    return recorded


def _run_as_a_cell(shell: InteractiveShell, tree: ast.Module, filename: str) -> None:
    """In the user's namespace; the value of a last expression is shown."""
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, filename, "exec"), shell.user_ns)  # noqa: S102 - it is the user's cell.
    if isinstance(last, ast.Expr):
        code = compile(ast.Expression(last.value), filename, "eval")
        value = eval(code, shell.user_ns)  # noqa: S307 - the same.
        if value is not None:
            display(value)


def _awaits(tree: ast.Module) -> bool:
    """Outside of functions, whose own affair it is."""
    code = compile(tree, "<step>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return bool(code.co_flags & inspect.CO_COROUTINE)


def _key(shell: InteractiveShell, options: StepOptions, body: str) -> str:
    digest = blake2b(body.strip().encode(), digest_size=_DIGEST_BYTES).hexdigest()
    where = notebook_name(shell) if options.key is None else _front_ends_name(shell)
    parts = (where, options.name, options.key, digest)
    return "/".join(part for part in parts if part)


def notebook_name(shell: InteractiveShell) -> str:
    """The run that papermill drives, which has parameters of its own; else as its page says."""
    return run_here() or _front_ends_name(shell)


def _front_ends_name(shell: InteractiveShell) -> str:
    """Empty where it says nothing."""
    said = shell.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME") or ""
    return PurePath(said).name
