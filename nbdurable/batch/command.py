"""`nbdurable run`, but for the command line: papermill's flags, checked, and its execution.

Owns: how papermill's flags become a call of papermill. What its command reads, it reads: the flags
are its own, and so are their parsers.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nbdurable.batch.preflight import (
    did_you_mean,
    parameter_faults,
    reads_as_here,
    syntax_faults,
    tag_faults,
)
from nbdurable.errors import DefinitionError

if TYPE_CHECKING:
    from jupyter_client.kernelspec import KernelSpec
    from nbformat import NotebookNode

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
    return str(path.parent / f"{path.stem}-out{path.suffix}")


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
        language = check(notebook, parameters, flags["kernel"], flags["language"])
        flags = {**flags, "language": language}
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
) -> str:
    """Look at all of the notebook before a kernel starts.

    Returns:
        Its language: that of its kernel, where neither the notebook nor anybody says.

    Raises:
        NotebookRefusedError: With a line for everything that was found.
    """
    faults, language = _faults(notebook, [parameters], kernel, language)
    if faults:
        raise NotebookRefusedError(
            f"{notebook} was not started:\n{_listed(faults)}"
            "\nCorrect it, or run it as it is with --no-check."
        )
    return language


def check_many(notebook: Path, runs: Sequence[Mapping[str, Any]], kernel: str = "") -> None:
    """The same for all the runs that are to be sent of it: each would fail, and keep its name.

    Args:
        runs: The parameters of each.

    Raises:
        NotebookRefusedError: Nothing is to be sent.
    """
    faults, _ = _faults(str(notebook), runs, kernel or None, None)
    if faults:
        raise NotebookRefusedError(f"no run of {notebook.name} was sent:\n{_listed(faults)}")


def _faults(
    notebook: str, runs: Sequence[Mapping[str, Any]], kernel: str | None, language: str | None
) -> tuple[list[str], str]:
    """What was found, each once, and the notebook's language."""
    from papermill.inspection import _infer_parameters
    from papermill.utils import nb_language

    node = _read(notebook, runs[0])
    spec = _kernel_of(notebook, node, kernel)
    try:
        language = nb_language(node, language)
    except ValueError:
        language = spec.language
    declared = _infer_parameters(node, kernel, language)
    faults = [fault for given in runs for fault in parameter_faults(declared, given)]
    faults += tag_faults(node.cells)
    if reads_as_here(spec.argv, language):
        faults += syntax_faults(node.cells, notebook)
    return list(dict.fromkeys(faults)), language


def _listed(faults: Sequence[str]) -> str:
    return "\n".join(f"  {fault}" for fault in faults)


def _read(notebook: str, parameters: Mapping[str, Any]) -> NotebookNode:
    from nbformat.reader import NotJSONError
    from papermill.iorw import load_notebook_node, local_file_io_cwd
    from papermill.parameterize import add_builtin_parameters, parameterize_path

    path = parameterize_path(notebook, add_builtin_parameters(parameters))
    try:
        # As papermill's inspection opens it, which says so each time.
        with local_file_io_cwd():
            node: NotebookNode = load_notebook_node(path)
            return node
    except FileNotFoundError:
        beside = [one.name for one in Path(path).parent.glob("*.ipynb")]
        near = did_you_mean(Path(path).name, beside)
        raise NotebookRefusedError(f"there is no notebook {path}{near}") from None
    except IsADirectoryError:
        raise NotebookRefusedError(f"{path} is a folder; name a notebook in it") from None
    except NotJSONError as error:
        raise NotebookRefusedError(f"{path} is no notebook: {error}") from None


def _kernel_of(notebook: str, node: NotebookNode, kernel: str | None) -> KernelSpec:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    from papermill.utils import nb_kernel_name

    specs = KernelSpecManager()
    known = sorted(specs.find_kernel_specs())
    here = f"here are: {', '.join(known) or 'none; pip install ipykernel brings one'}"
    try:
        name = nb_kernel_name(node, kernel)
    except ValueError:
        raise NotebookRefusedError(
            f"{notebook} names no kernel; say which with --kernel ({here})"
        ) from None
    try:
        return specs.get_kernel_spec(name)
    except NoSuchKernel:
        raise NotebookRefusedError(
            f"there is no kernel {name!r}; choose one with --kernel ({here})"
        ) from None
