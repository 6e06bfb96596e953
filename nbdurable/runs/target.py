"""`durable.notebook("report.ipynb")`: a notebook whose runs are runs of the engine.

Outside of a handler a run is submitted, and goes on whatever becomes of whoever submitted it.
Inside of one it is called through its ctx, and so journaled with the caller.
"""

from __future__ import annotations

import asyncio
import shlex
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from zoneinfo import ZoneInfo

import msgspec

from nbdurable.client.base import RestateClientSendHandle
from nbdurable.client.engine import EngineClient
from nbdurable.core.builtin import NOTEBOOK_SERVICE
from nbdurable.errors import ContextMisuseError, DefinitionError, InvocationNotReadyError
from nbdurable.runs.overview import frame_of, runs_of
from nbdurable.runs.request import HANDLER, RunRequest, output_of, within
from nbdurable.runs.sending import offer_notebooks, send
from nbdurable.runs.sweeps import of_days, of_values, send_all
from nbdurable.runs.voice import saying
from nbdurable.sdk.context import current_context
from nbdurable.sdk.future import RestateDurableCallFuture, SendHandle

if TYPE_CHECKING:
    import pandas as pd

# How ctx calls name the handler.
RUN: Final = saying(None).handlers[HANDLER].fn
# Between two looks whether a run that is waited for is paused.
_LOOK_S: Final = 0.2

Submits = Callable[[RestateClientSendHandle, str, RunRequest], Any]
# Raises DefinitionError for a notebook that cannot be run with the parameters of each.
Checks = Callable[[Path, Sequence[Mapping[str, Any]]], None]


class SubmittedRun:
    """A run that a script has submitted. It outlives this, and the script."""

    def __init__(
        self, client: Callable[[], EngineClient], invocation_id: str, key: str, output: str
    ) -> None:
        self._client = client
        self.id = invocation_id
        self.key = key
        self.output = output

    def __repr__(self) -> str:
        return f"<SubmittedRun {self.key} {self.status}, into {self.output}>"

    @property
    def status(self) -> str:
        """Restate's word: ready, running, suspended, paused, completed."""
        return self._client().wait(self._client().invocation(self.id)).status

    def result(self) -> dict[str, Any]:
        """Wait for how many cells it has, and how many of them were restored.

        Raises:
            TerminalError: It was refused, cancelled or killed.
            InvocationNotReadyError: A cell has failed, and the run is paused.
        """
        return self._client().wait(self._outcome())

    def __await__(self) -> Generator[Any, Any, dict[str, Any]]:
        return self._outcome().__await__()

    async def _outcome(self) -> dict[str, Any]:
        client = self._client()
        attached = asyncio.ensure_future(client.attach(self.id))
        try:
            while not (await asyncio.wait({attached}, timeout=_LOOK_S))[0]:
                view = await client.invocation(self.id)
                if view.status == "paused":
                    raise InvocationNotReadyError(
                        f"the run {self.key} is paused: {view.failure or 'by hand'}; correct the"
                        f" notebook, then nbdurable runs resume {shlex.quote(self.key)}"
                    )
            found: dict[str, Any] = attached.result()
            return found
        finally:
            attached.cancel()


class NotebookTarget:
    """A notebook, and whose journal its runs are in.

    Args:
        client: Asked for at each use: that of a kernel changes when it is opened anew.
        project: The folder that the journal is in.
        request: What all runs have in common.
        submitted: Makes of a submission what its caller gets.
        checks: Looks at the notebook before many runs of it are submitted.
    """

    def __init__(
        self,
        client: Callable[[], EngineClient],
        project: Path,
        request: RunRequest,
        submitted: Submits,
        checks: Checks,
    ) -> None:
        self.request = within(request, project)
        self._project = project
        self._client = client
        self._submitted = submitted
        self._checks = checks

    @property
    def called(self) -> tuple[Literal["service", "object", "workflow"], str, str | None, str]:
        """What a schedule calls; each fire has a key of its own."""
        return "workflow", NOTEBOOK_SERVICE, None, HANDLER

    def __repr__(self) -> str:
        return f"<notebook {self.request.notebook}: run, send, sweep, backfill, runs>"

    def offer(self) -> None:
        """Let its runs be sent, by handlers too."""
        client = self._client()
        client.wait(offer_notebooks(client))

    def run(self, key: str, parameters: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - a handle, or a future.
        """Submit a run, and return its handle; inside a handler, call it and return the future.

        A key that has a run already is attached to it, with the parameters it began with.

        Args:
            key: The run's name, and that of its output in `report-runs/`.
            parameters: As papermill takes them: for the cell tagged `parameters`.
        """
        ctx = current_context()
        request = self.asked(parameters)
        if ctx is None:
            return self._submit(key, request, None)
        future: RestateDurableCallFuture[Any] = ctx.workflow_call(
            RUN, key, msgspec.to_builtins(request)
        )
        return future

    def send(
        self,
        key: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        delay: timedelta | None = None,
    ) -> Any:  # noqa: ANN401 - the same.
        """The same, without meaning to wait; `delay` later if given, even if this process dies."""
        ctx = current_context()
        request = self.asked(parameters)
        if ctx is None:
            return self._submit(key, request, delay)
        handle: SendHandle = ctx.workflow_send(RUN, key, msgspec.to_builtins(request), delay)
        return handle

    def sweep(
        self,
        values: Mapping[str, Sequence[Any]],
        parameters: Mapping[str, Any] | None = None,
        *,
        name: str = "",
        max_parallel: int | None = None,
    ) -> list[Any]:
        """Submit a run for every combination of values, and return their handles.

        ```python
        report.sweep({"rate": [0.1, 0.01], "depth": [2, 4]}, max_parallel=2)
        report.runs()
        ```

        What was submitted before is not run again.

        Args:
            values: Of each parameter, what it is in one run and the other.
            parameters: What all have in common.
            name: Of these together; by default that of the notebook.
            max_parallel: So many of them at a time; None is as many as there may be at all.

        Raises:
            DefinitionError: The notebook or the parameters cannot be right; none was submitted.
        """
        name = name or Path(self.request.notebook).stem
        return self._submit_all(of_values(name, values), parameters, name, max_parallel)

    def backfill(
        self,
        days: int,
        parameters: Mapping[str, Any] | None = None,
        *,
        parameter: str = "day",
        tz: str = "UTC",
        name: str = "",
        max_parallel: int | None = None,
    ) -> list[Any]:
        """Submit a run for each of so many past days, the last of them yesterday.

        Args:
            days: How many.
            parameters: What all have in common.
            parameter: Which parameter is the day, as `2026-11-22`.
            tz: Whose days they are.
            name: As in `sweep`.
            max_parallel: As in `sweep`.
        """
        client = self._client()
        today = datetime.fromtimestamp(client.now_ms() / 1000, ZoneInfo(tz)).date()
        name = name or Path(self.request.notebook).stem
        runs = of_days(name, parameter, days, today)
        return self._submit_all(runs, parameters, name, max_parallel)

    def runs(self, *, sweep: str | None = None) -> pd.DataFrame:
        """All runs of this notebook that are known, as one table.

        Needs pandas.

        Shape: index the run's key; status, began, ended, took, output and failure; a column for
        each parameter, and for each value of a dict that ends a cell tagged `results`; what has the
        name of one of the others is `parameter NAME` or `result NAME`.
        """
        client = self._client()
        found = client.wait(runs_of(client, notebook=self.request.notebook, sweep=sweep))
        return frame_of(found, self._project, client.now_ms())

    def _submit_all(
        self,
        runs: Mapping[str, Mapping[str, Any]],
        parameters: Mapping[str, Any] | None,
        sweep: str,
        max_parallel: int | None,
    ) -> list[Any]:
        if current_context() is not None:
            raise ContextMisuseError(
                "many runs are submitted outside of handlers; in one, await durable.map(…, run)"
            )
        client = self._client()
        request = self.asked(parameters)
        each = [self.asked({**request.parameters, **given}) for given in runs.values()]
        self._checks(self._project / request.notebook, [one.parameters for one in each])
        sent = client.wait(send_all(client, request, runs, sweep, max_parallel))
        if sent.notice:
            warnings.warn(sent.notice, stacklevel=3)
        return [self._submitted(handle, key, request) for key, handle in sent.runs]

    def _submit(self, key: str, request: RunRequest, delay: timedelta | None) -> Any:  # noqa: ANN401 - the same.
        client = self._client()
        sent = client.wait(send(client, key, request, delay))
        return self._submitted(sent, key, request)

    def asked(self, parameters: Mapping[str, Any] | None) -> RunRequest:
        """What such a run is sent.

        Raises:
            DefinitionError: The parameters are no JSON.
        """
        given = dict(parameters or {})
        try:
            msgspec.json.encode(given)
        except (TypeError, ValueError) as error:
            raise DefinitionError(
                f"the parameters of {self.request.notebook} are kept as JSON: {error}; write dates"
                " as text, and large data into a file"
            ) from None
        return msgspec.structs.replace(self.request, parameters=given)


def in_a_script(client: Callable[[], EngineClient]) -> Submits:
    def submitted(sent: RestateClientSendHandle, key: str, request: RunRequest) -> SubmittedRun:
        return SubmittedRun(client, sent.invocation_id, key, output_of(request, key))

    return submitted
