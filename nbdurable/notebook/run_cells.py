"""`%%durable_run NAME [--key K]`: a cell that awaits, as one journaled run.

The run is that of a workflow with one handler, which is the cell; its key is `--key`, or else the
notebook's name, or the key of the run that papermill drives. While it is not over the cell attaches
to it, whatever kernel has begun it. Once it is, an unchanged cell restores what it has left, and an
edited one begins anew; so does any cell whose run has failed.

A magic cannot await, and a cell that waits without awaiting hears no click. So the call that
IPython makes of the cell is awaited (see `transforms.py`).
"""

# IPython annotates its shell in part.
# mypy: disable-error-code="no-untyped-call"
# ruff: noqa: ANN401 - the user's values.
from __future__ import annotations

from datetime import timedelta
from types import CodeType
from typing import Any, Final

from IPython.core.error import UsageError

from nbdurable.client.picture import clock_time, duration, handy_name, status_of
from nbdurable.client.views import InvocationView
from nbdurable.errors import InvocationNotFoundError
from nbdurable.notebook.bound import BoundKey
from nbdurable.notebook.capture import shown_here
from nbdurable.notebook.cells import Defined, define
from nbdurable.notebook.handle import Handle
from nbdurable.notebook.left import Left, read_left
from nbdurable.notebook.options import RunOptions
from nbdurable.notebook.session import Session
from nbdurable.notebook.step_cells import notebook_name
from nbdurable.notebook.tracebacks import cut
from nbdurable.sdk.serde import DEFAULT_SERDE

# As many as one line can name.
NAMES_MAX: Final = 8
# Where the front end does not say what the notebook is called.
_KEY: Final = "notebook"


class RunOfCell(Handle):
    """Mutable, as its base. Who awaits it has the cell's variables afterwards."""

    def __init__(
        self, session: Session, view: InvocationView, functions: CodeType, *, silent: bool
    ) -> None:
        super().__init__(session, view.id, view.target, DEFAULT_SERDE)
        self._functions = functions
        self._silent = silent

    def result(self, timeout: timedelta | None = None) -> Any:
        """As of any handle."""
        result = super().result(timeout)
        return self._session.client.wait(self._take(result))

    async def _wait(self) -> Any:
        return await self._take(await super()._wait())

    async def _take(self, result: Any) -> Any:
        """Put what the run has left into the namespace; return the result."""
        client, left = self._session.client, self._session.left.pop(self.id, None)
        view = await client.invocation(self.id)
        is_restored = left is None
        if left is None:
            left = await read_left(client, view.service, view.key or "", result)
        names: dict[str, Any] = self._session.shell.user_ns
        names.update(left.variables)
        # Defined anew, they see what later cells change, as those of any other cell do.
        try:
            exec(self._functions, names)  # noqa: S102 - it is the user's cell.
        except Exception as error:  # noqa: BLE001 - border: a decorator of the user's.
            shell = self._session.shell
            raise cut(shell, error, self._functions.co_filename) from error.__cause__
        print(_told(view, left, is_restored=is_restored))  # noqa: T201 - a magic speaks to the cell.
        return None if self._silent else left.result


def run_as_one(session: Session, options: RunOptions, line: str, body: str) -> RunOfCell:
    """Define the cell, and begin its run or attach to it."""
    name, key = options.of_cell.name, options.key or notebook_name(session.shell) or _KEY
    client, target = session.client, f"{name}/{key}"
    # Before its code is there, with which it may end at once.
    found = _found(session, target)
    if found is not None and not found.is_done and options.fresh:
        raise UsageError(
            f"{target} has not ended: {status_of(found)}; to run it anew, first:"
            f" %durable kill {handy_name(found)}"
        )
    defined = define(session, "run", options.of_cell, line, body)
    if found is not None and _begins_anew(found, defined, options):
        client.wait(client.purge(found.id))
        found = None
    run: Any = BoundKey(session, defined.definition, key).run
    with shown_here(session.shell):
        sent = client.wait(client.workflow_send(run, key, None))
    view = client.wait(client.invocation(sent.invocation_id))
    if found is None:
        print(defined.told)  # noqa: T201 - a magic speaks to the cell.
    elif not found.is_done:
        began = f"attached to the run that began {clock_time(found.created_at_ms)}"
        print(f"{defined.told}; {began}")  # noqa: T201 - the same.
    return RunOfCell(session, view, defined.functions, silent=body.rstrip().endswith(";"))


def _found(session: Session, target: str) -> InvocationView | None:
    try:
        return session.client.wait(session.client.find(target))
    except InvocationNotFoundError:
        return None


def _begins_anew(found: InvocationView, defined: Defined, options: RunOptions) -> bool:
    if not found.is_done:
        return False
    return options.fresh or not found.succeeded or found.revision != defined.loaded.revision


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return ", ".join(names[:NAMES_MAX]) + more


def _told(view: InvocationView, left: Left, *, is_restored: bool) -> str:
    ended_at_ms = view.completed_at_ms or view.modified_at_ms
    took = duration(ended_at_ms - view.created_at_ms)
    name = view.service
    not_kept = "; ".join(f"{what} is not kept: {why}" for what, why in left.not_kept.items())
    more = f"; {not_kept}" if not_kept else ""
    if not is_restored:
        return f"{name}: ran in {took}{more}"
    names = _listed([*left.variables]) or "its result"
    return (
        f"{name}: restored {names} of {clock_time(ended_at_ms)}, which took {took}{more};"
        " --fresh runs it again"
    )
