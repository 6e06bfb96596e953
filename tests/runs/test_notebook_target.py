"""`durable.notebook()` in a script: runs in processes of their own, and calls from handlers."""

from __future__ import annotations

import nbformat
import pytest
from support.notebooks import mark, marks, write

import nbdurable
from nbdurable import (
    Context,
    ContextMisuseError,
    DefinitionError,
    InvocationNotReadyError,
    Service,
    TerminalError,
    durable,
)

PARAMETERS = ("day = 'none'", "parameters")


def test_a_run_is_submitted_waited_for_and_found_again_by_its_key(folder):
    write(folder, PARAMETERS, mark("a"), "day")
    with nbdurable.open_sync() as engine:
        report = durable.notebook("report.ipynb", engine=engine)
        run = report.run("monday", {"day": "2026-11-23"})
        assert run.result() == {"cells": 4, "restored": 0, "stopped": False}
        assert report.run("monday", {"day": "another"}).id == run.id
        assert (run.status, run.output) == ("completed", "report-runs/monday.ipynb")
    out = nbformat.read(folder / run.output, as_version=4)
    assert out.cells[-1].outputs[0].data["text/plain"] == "'2026-11-23'"
    assert marks(folder) == ["a"]


def test_a_cell_that_fails_is_told_and_resumed_the_same_run_ends(folder):
    write(folder, mark("a"), "1 / 0")
    with nbdurable.open_sync() as engine:
        run = durable.notebook("report.ipynb", engine=engine).run("k")
        with pytest.raises(InvocationNotReadyError, match="ZeroDivisionError: division by zero"):
            run.result()
        write(folder, mark("a"), mark("b"))
        engine.client.resume(run.id)
        assert run.result()["restored"] == 1
    assert marks(folder) == ["a", "b"]


def test_a_handler_calls_it_as_it_calls_any_other(folder):
    """It is named where handlers are defined, before any engine is open."""
    write(folder, PARAMETERS, mark("a"))
    report, service = durable.notebook("report.ipynb"), Service("Nightly")

    @service.handler()
    async def build(ctx: Context, day: str) -> int:
        done = await report.run(day, {"day": day})
        return int(done["cells"])

    with nbdurable.open_sync(services=[service]) as engine:
        assert engine.client.service_call(build, "2026-11-22") == 3
    assert (folder / "report-runs" / "2026-11-22.ipynb").exists()


def test_within_a_handler_it_is_not_named(folder):
    """Every attempt would look for the file again, wherever it runs."""
    service = Service("Nightly")

    @service.handler()
    async def build(ctx: Context) -> None:
        try:
            durable.notebook("report.ipynb")
        except ContextMisuseError as error:
            raise TerminalError(str(error)) from None

    with (
        nbdurable.open_sync(services=[service]) as engine,
        pytest.raises(TerminalError, match="do that outside of it"),
    ):
        engine.client.service_call(build, None)


def test_what_cannot_be_run_is_refused_before_it_is_sent(folder):
    write(folder, PARAMETERS)
    with nbdurable.open_sync() as engine:
        with pytest.raises(DefinitionError, match="there is no notebook nowhere"):
            durable.notebook("nowhere.ipynb", engine=engine)
        report = durable.notebook("report.ipynb", engine=engine)
        with pytest.raises(DefinitionError, match="are kept as JSON"):
            report.run("k", {"day": object()})
        assert engine.client.invocations() == []


def test_a_wrong_parameter_is_the_runs_own_failure(folder):
    write(folder, PARAMETERS, mark("a"))
    with nbdurable.open_sync() as engine:
        run = durable.notebook("report.ipynb", engine=engine).run("k", {"dya": "x"})
        with pytest.raises(TerminalError, match="did you mean 'day'"):
            run.result()
    assert marks(folder) == []


def test_a_sweep_is_one_table_of_parameters_and_results(folder):
    write(folder, ("rate = 0.0\nday = 'x'", "parameters"), ("{'twice': 2 * rate}", "results"))
    with nbdurable.open_sync() as engine:
        fit = durable.notebook("report.ipynb", engine=engine)
        for run in fit.sweep({"rate": [0.5, 1.5]}, max_parallel=2):
            run.result()
        table = fit.runs(sweep="report")
        assert list(table.index) == ["report(rate=0.5)", "report(rate=1.5)"]
        assert list(table.twice) == [1.0, 3.0]
        assert [run.key for run in fit.sweep({"rate": [0.5]})] == ["report(rate=0.5)"]
        assert len(fit.runs()) == 2
        with pytest.warns(UserWarning, match=r"1 of them were sent before .*: report\(rate=0.5\)"):
            fit.sweep({"rate": [0.5]}, {"day": "tuesday"})


def test_a_backfill_that_names_no_parameter_of_the_notebook_is_not_sent(folder):
    """Its days would be taken by runs that could only fail."""
    write(folder, ("night = 'none'", "parameters"))
    with nbdurable.open_sync() as engine:
        report = durable.notebook("report.ipynb", engine=engine)
        with pytest.raises(DefinitionError, match="no parameter 'day'; it has night"):
            report.backfill(2)
        assert engine.client.invocations() == []
