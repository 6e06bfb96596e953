"""`nbdurable run`, but for the command line: papermill's flags, checked, and its execution.

Owns: how papermill's flags become a call of papermill. What its command reads, it reads: the flags
are its own, and so are their parsers.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nbdurable.batch.preflight import (
    parameter_faults,
    reads_as_here,
    syntax_faults,
    tag_faults,
)
from nbdurable.errors import DefinitionError

# The engine is what `nbdurable run` is, and the version its own.
NOT_OURS = frozenset({"engine", "version"})
# Flags that say something to papermill's command and nothing to its function.
_READ_HERE = frozenset(
    {
        *("parameters", "parameters_raw", "parameters_file", "parameters_yaml"),
        *("parameters_base64", "inject_input_path", "inject_output_path", "inject_paths"),
        *("help_notebook", "log_level", "kernel"),
    }
)


class NotebookRefusedError(DefinitionError):
    """The notebook or its parameters cannot be right; no kernel was started."""


def papermill_options() -> list[Any]:
    """The flags of papermill's command, as click has them."""
    from papermill.cli import papermill

    return [
        each
        for each in papermill.params
        if each.param_type_name == "option" and each.name not in NOT_OURS
    ]


def default_output(notebook: str) -> str:
    """`report.ipynb` goes to `report-out.ipynb`, beside it."""
    path = Path(notebook)
    return str(path.with_name(f"{path.stem}-out{path.suffix}"))


def run_notebook(
    notebook: str,
    output: str,
    flags: Mapping[str, Any],
    *,
    run_id: str | None,
    checks: bool,
    cells: Mapping[str, str | None] = MappingProxyType({}),
) -> None:
    """Check, then execute with the durable engine.

    Args:
        cells: What of it is run, as `from_cell`, `until_cell` or `only_cell`.

    Raises:
        CellNotFoundError: Nor here: they name a cell that is not there.
        NotebookRefusedError: Nothing was started.
        PapermillExecutionError: A cell failed; the run is paused, and the same call goes on.
    """
    import papermill

    logging.basicConfig(level=flags["log_level"], format="%(message)s")
    parameters = parameters_of(notebook, output, flags)
    if checks:
        check(notebook, parameters, flags["kernel"], flags["language"])
    rest = {name: value for name, value in flags.items() if name not in _READ_HERE}
    if rest["progress_bar"] is None:
        rest["progress_bar"] = not rest["log_output"]
    papermill.execute_notebook(
        notebook,
        output,
        parameters,
        engine_name="nbdurable",
        kernel_name=flags["kernel"],
        run_id=run_id,
        **{name: cell for name, cell in cells.items() if cell is not None},
        **rest,
    )


def failed_cell_errors() -> tuple[type[Exception], ...]:
    """A cell raised, or took longer than it may."""
    from nbclient.exceptions import CellTimeoutError
    from papermill.exceptions import PapermillExecutionError

    return PapermillExecutionError, CellTimeoutError


def suspended_errors() -> tuple[type[Exception], ...]:
    """It waits for long."""
    from nbdurable.batch.execution import RunSuspendedError

    return (RunSuspendedError,)


def dead_kernel_errors() -> tuple[type[Exception], ...]:
    from nbclient.exceptions import DeadKernelError

    return (DeadKernelError,)


def show_parameters(ctx: object, notebook: str, output: str, flags: Mapping[str, Any]) -> int:
    """Print what the notebook wants, as papermill does; an exit code."""
    from papermill.inspection import display_notebook_help

    return int(display_notebook_help(ctx, notebook, parameters_of(notebook, output, flags)))


def parameters_of(notebook: str, output: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters, in the order in which papermill lets one win over another."""
    from papermill.cli import _resolve_type
    from papermill.iorw import NoDatesSafeLoader, read_yaml_file

    def read(text: str | bytes) -> dict[str, Any]:
        # papermill's own loader: a safe one, which leaves dates as text.
        return NoDatesSafeLoader(text).get_single_data() or {}

    found: dict[str, Any] = {}
    if flags["inject_input_path"] or flags["inject_paths"]:
        found["PAPERMILL_INPUT_PATH"] = notebook
    if flags["inject_output_path"] or flags["inject_paths"]:
        found["PAPERMILL_OUTPUT_PATH"] = output
    for text in flags["parameters_base64"]:
        found |= read(base64.b64decode(text))
    for path in flags["parameters_file"]:
        found |= read_yaml_file(path) or {}
    for text in flags["parameters_yaml"]:
        found |= read(text)
    found |= {name: _resolve_type(value) for name, value in flags["parameters"]}
    return found | dict(flags["parameters_raw"])


def check(
    notebook: str, parameters: Mapping[str, Any], kernel: str | None, language: str | None
) -> None:
    """Look at all of the notebook before a kernel starts.

    Raises:
        NotebookRefusedError: With a line for everything that was found.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from papermill.inspection import _infer_parameters
    from papermill.iorw import load_notebook_node, local_file_io_cwd
    from papermill.parameterize import add_builtin_parameters, parameterize_path
    from papermill.utils import nb_kernel_name, nb_language

    # As papermill's inspection opens it, which says so each time.
    with local_file_io_cwd():
        node = load_notebook_node(parameterize_path(notebook, add_builtin_parameters(parameters)))
    faults = parameter_faults(_infer_parameters(node, kernel, language), parameters)
    faults += tag_faults(node.cells)
    spec = KernelSpecManager().get_kernel_spec(nb_kernel_name(node, kernel))
    if reads_as_here(spec.argv, nb_language(node, language)):
        faults += syntax_faults(node.cells, notebook)
    if faults:
        found = "\n".join(f"  {fault}" for fault in faults)
        raise NotebookRefusedError(
            f"{notebook} was not started:\n{found}\nCorrect it, or run it as it is with --no-check."
        )
