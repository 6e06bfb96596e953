"""Sugar: `from nbdurable import durable`, then `@durable.step`, `durable.sql()` and their like."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, overload

import msgspec

from nbdurable.errors import ContextMisuseError
from nbdurable.sdk.approval import approval
from nbdurable.sdk.blocking import wait
from nbdurable.sdk.cells import promise, run, secret, sleep, stop
from nbdurable.sdk.context import current_context
from nbdurable.sdk.mapping import map_items as map  # noqa: A004 - `durable.map` is its name.
from nbdurable.sdk.steps import step

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from nbdurable.client.engine import EngineClient
    from nbdurable.notebook.board import Board
    from nbdurable.notebook.session import Session
    from nbdurable.notebook.widgets.gantt import Gantt
    from nbdurable.runs.target import NotebookTarget
    from nbdurable.schedules.handle import Schedule
    from nbdurable.schedules.plan import CatchUp, Overlap
    from nbdurable.wiring import OpenableEngine, SyncDurableEngine

__all__ = [
    "approval",
    "board",
    "current_context",
    "gantt",
    "map",
    "notebook",
    "promise",
    "run",
    "schedule",
    "schedules",
    "secret",
    "sleep",
    "sql",
    "step",
    "stop",
    "wait",
]

_Parameters = Sequence[object] | Mapping[str, object] | None


def board() -> Board:
    """All runs of this notebook's journal, live in the output of the cell that ends with it."""
    from nbdurable.notebook.board import Board
    from nbdurable.notebook.sql import session_here

    return Board(session_here("durable.board()", "nbdurable ls"))


@overload
def sql(
    query: str, parameters: _Parameters = None, *, arrow: Literal[False] = False
) -> pd.DataFrame: ...
@overload
def sql(query: str, parameters: _Parameters = None, *, arrow: Literal[True]) -> pa.Table: ...
def sql(
    query: str, parameters: _Parameters = None, *, arrow: bool = False
) -> pd.DataFrame | pa.Table:
    """Ask one SELECT of this notebook's journal: of sys_invocation, sys_journal, state and so on.

    ```python
    durable.sql("select * from sys_invocation where status = ?", ["paused"])
    ```

    Args:
        query: In DuckDB's dialect, over the tables that Restate has.
        parameters: Values for its `?` or `$name`.
        arrow: True gives a pyarrow Table, False a pandas DataFrame.

    Raises:
        QueryError: It is refused, wrong, too much, or was interrupted; the text says which.
    """
    from nbdurable.notebook.sql import found_here

    found = found_here(query, parameters)
    return found.arrow() if arrow else found.df()


def notebook(
    path: str,
    *,
    output: str = "",
    kernel: str = "",
    engine: OpenableEngine | SyncDurableEngine | None = None,
) -> NotebookTarget:
    """A notebook whose runs are runs of the engine, each in a process of its own.

    ```python
    run = durable.notebook("report.ipynb").run("2026-11-22", {"day": "2026-11-22"})
    ```

    The process is started by whoever owns the journal, and goes on when that ends. A cell that
    fails pauses the run; resumed, it goes on after the last cell that has finished.

    Handlers use it too, made outside of them: `await report.run(day, {"day": day})`.

    Args:
        path: Of the notebook, in the project: the folder that the journal is in.
        output: Where each run's output goes; by default `report-runs/KEY.ipynb`, beside it.
        kernel: Its name; by default the notebook's own.
        engine: Whose journal; None takes that of this notebook. What only handlers use needs none.

    Raises:
        DefinitionError: It is not there, or not in the project.
    """
    from nbdurable.runs.request import RunRequest
    from nbdurable.runs.target import NotebookTarget, in_a_script
    from nbdurable.wiring import journal_path

    if current_context() is not None:
        raise ContextMisuseError(
            f"durable.notebook({path!r}) is called in a handler; do that outside of it, as"
            f" report = durable.notebook({path!r}), and in the handler: await report.run(…)"
        )
    request = RunRequest(
        # Written as seen from here, which need not be the project's folder.
        notebook=str(Path(path).absolute()),
        output=str(Path(output).absolute()) if output else "",
        kernel=kernel,
    )

    def client() -> EngineClient:
        return _client_of(engine, "durable.notebook()")

    def checks(notebook: Path, runs: Sequence[Mapping[str, Any]]) -> None:
        # Papermill, which reads it, is loaded by those only who send many.
        from nbdurable.batch.command import check_many

        check_many(notebook, runs, kernel)

    session = _session_if_any() if engine is None else None
    if session is not None:
        from nbdurable.notebook.handle import of_notebook_runs

        submitted = of_notebook_runs(session)
        target = NotebookTarget(client, session.path.parent, request, submitted, checks)
    else:
        journal = journal_path() if engine is None else engine.path
        target = NotebookTarget(client, journal.parent, request, in_a_script(client), checks)
    if session is not None or engine is not None:
        target.offer()
    return target


def gantt(
    *,
    notebook: str | None = None,
    sweep: str | None = None,
    engine: OpenableEngine | SyncDurableEngine | None = None,
) -> Gantt:
    """When each notebook run was there, drawn: all, or those of a notebook or of a sweep.

    While a run was queued its bar is grey, or thin.
    """
    from nbdurable.notebook.widgets.gantt import Gantt
    from nbdurable.runs.overview import bars_of, runs_of, starts_of

    client = _client_of(engine, "durable.gantt()")
    now_ms = client.now_ms()
    found = client.wait(runs_of(client, notebook=notebook, sweep=sweep))
    starts_ms = client.wait(starts_of(client))
    return Gantt(tuple(bars_of(found, now_ms, starts_ms)), now_ms)


def schedule(
    name: str,
    target: object,
    when: str,
    value: Any = None,  # noqa: ANN401 - what the handler takes.
    *,
    key: str | None = None,
    tz: str = "UTC",
    catch_up: CatchUp = "latest",
    max_staleness: timedelta | None = None,
    overlap: Overlap = "skip",
    jitter: timedelta | None = None,
    notify: str | None = None,
    notify_on: Sequence[str] = ("failed",),
    engine: OpenableEngine | SyncDurableEngine | None = None,
) -> Schedule:
    """Start a handler by the clock, under a name; a name that is there already is changed.

    ```python
    durable.schedule("nightly", Report.build, "0 7 * * 1-5", "sales", tz="Europe/Berlin")
    ```

    Timers live in the journal: whoever owns it keeps them. When this process has ended, that is the
    next one that opens it, or `nbdurable up`.

    Args:
        name: Each fire is one run under its own id, as `nightly@2026-11-26T07:00:00+01:00`.
        target: A handler, or `"Report/build"`, or `"Counter/ada/add"`; or a notebook, or its path.
            A run of a workflow or of a notebook has the id of its fire as its key.
        when: Cron as `0 7 * * 1-5`, an alias as `@daily`, or `every 10m`.
        value: The input of each run; of a notebook, its parameters. `{fire_date}` and `{fire_time}`
            in a text stand for those of the fire.
        key: Of the object that is called.
        tz: Whose clock it goes by.
        catch_up: What is made up for that was missed: `none`, `latest` or `all`.
        max_staleness: What is later than this is not made up for.
        overlap: When the run before goes on: `skip`, `queue` or `cancel-previous`. What is made up
            for under `all` waits for it in any case.
        jitter: Each run begins up to so much later.
        notify: A URL, a command, or `handler:Ops/told`, which is told, as JSON, how runs end.
        notify_on: Which of: `failed`, `suspended`, `completed`, `overdue`.
        engine: Whose journal; None takes that of this notebook.

    Raises:
        DefinitionError: It never comes, or cannot be called like that.
        HttpError: 404, there is no such handler.
    """
    from nbdurable.schedules.handle import Schedule
    from nbdurable.schedules.keeping import Schedules, argument_of, ms_of, spec_of, target_of

    def client() -> EngineClient:
        return _client_of(engine, "durable.schedule()")

    if isinstance(target, str) and target.endswith(".ipynb"):
        target = notebook(target, engine=engine)
    if _is_notebook(target):
        target.offer()
        called, argument = target.called, msgspec.json.encode(target.asked(value))
    else:
        called = client().wait(target_of(client(), target, key))
        argument = argument_of(target, value)
    spec = spec_of(
        called,
        when,
        argument,
        tz=tz,
        catch_up=catch_up,
        max_staleness_ms=ms_of(max_staleness),
        overlap=overlap,
        jitter_ms=ms_of(jitter) or 0,
        notify=notify,
        notify_on=tuple(notify_on),
    )
    client().wait(Schedules(client()).put(name, spec))
    return Schedule(client, name)


def schedules(*, engine: OpenableEngine | SyncDurableEngine | None = None) -> list[Schedule]:
    """All schedules of this notebook's journal, or of an engine's."""
    from nbdurable.schedules.handle import Schedule
    from nbdurable.schedules.keeping import Schedules

    def client() -> EngineClient:
        return _client_of(engine, "durable.schedules()")

    return [Schedule(client, name) for name in client().wait(Schedules(client()).all())]


def _session_if_any() -> Session | None:
    """Of the notebook that this is called in; a script has none, and need not import IPython."""
    if "IPython" not in sys.modules:
        return None
    from nbdurable.notebook.sql import session_if_any

    return session_if_any()


def _is_notebook(target: object) -> TypeGuard[NotebookTarget]:
    # Who has made one has imported its room.
    room = sys.modules.get("nbdurable.runs.target")
    return room is not None and isinstance(target, room.NotebookTarget)


def _client_of(engine: OpenableEngine | SyncDurableEngine | None, what: str) -> EngineClient:
    if engine is None:
        from nbdurable.notebook.sql import session_here

        return session_here(what, f"{what[:-1]}engine=engine), with one that is open").client
    from nbdurable.wiring import SyncDurableEngine

    opened = engine.opened if isinstance(engine, SyncDurableEngine) else engine
    return opened.client
