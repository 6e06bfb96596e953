"""What a notebook run is asked for: the input of `Notebook/{run}/run`, as JSON.

Paths count from the project, the folder that the journal is in, so that a project can be moved;
and none leads out of it, because whoever may call handlers need not be allowed to run any file.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from nbdurable.core.manifest import ServiceManifest
from nbdurable.errors import DefinitionError
from nbdurable.invoker.manifest import manifest_of
from nbdurable.sdk.options import InvocationRetryPolicy
from nbdurable.sdk.workflow import Workflow

HANDLER: Final = "run"
# What the handler does with a journal; a change of that is a new number.
DIGEST: Final = "nbdurable.batch/1"
# Of a run that is never tried again by itself: what failed in a cell fails there again.
ONE_ATTEMPT: Final = InvocationRetryPolicy(max_attempts=1)

# In the path of an output.
KEY_HERE: Final = "{key}"

_SUFFIX: Final = ".ipynb"
# A file's name has 255 bytes at most; what is added to it has to fit as well.
_NAME_BYTES_MAX: Final = 200


class RunRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run to be.

    Attributes:
        notebook: Its path within the project.
        output: Where it goes, with the run's key for `{key}`; empty is `report-runs/KEY.ipynb`,
            beside the notebook.
        kernel: Its name; empty takes the notebook's.
        sweep: The name of those that were sent together.
        max_parallel: Of these so many at a time; none is as many as there may be at all.
    """

    notebook: str
    parameters: dict[str, Any] = {}
    output: str = ""
    kernel: str = ""
    sweep: str = ""
    max_parallel: int | None = None

    @property
    def folder(self) -> str:
        """Where its cells run: where their notebook is, as in Jupyter."""
        return str(PurePosixPath(self.notebook).parent)


class BegunRequest(RunRequest, frozen=True, kw_only=True):
    """A run that papermill has begun, for whoever goes on with it; its files may be anywhere.

    Attributes:
        begun_in: Where its cells run.
    """

    begun_in: str

    @property
    def folder(self) -> str:
        return self.begun_in


def read_begun(payload: bytes) -> BegunRequest | None:
    """What papermill has begun, if a command of this machine can go on with it."""
    try:
        said = msgspec.json.decode(payload)
        begun = said["nbdurable"]
        return BegunRequest(
            notebook=begun["notebook"],
            output=begun["output"],
            parameters=said["parameters"],
            kernel=begun["kernel"],
            begun_in=begun["folder"],
        )
    except (ValueError, LookupError, TypeError):
        return None


def read_request(payload: bytes) -> RunRequest | None:
    """None for the request of a run that papermill has begun, which has its process.

    Raises:
        DefinitionError: It is none, and says what it should be.
    """
    try:
        said = msgspec.json.decode(payload)
        if isinstance(said, dict) and "input_path" in said and "notebook" not in said:
            return None
        return msgspec.convert(said, RunRequest)
    except (ValueError, msgspec.ValidationError) as error:
        raise DefinitionError(
            f"no notebook run can be made of this input: {error}; write e.g."
            ' {"notebook": "report.ipynb", "parameters": {"day": "2026-11-22"}}'
        ) from None


def request_of(notebook: Path, project: Path, parameters: bytes) -> RunRequest:
    """From what a person has typed: a path, and parameters as a JSON object, or nothing.

    Raises:
        DefinitionError: It is none, or there is no such notebook in the project.
    """
    try:
        given = msgspec.json.decode(parameters or b"{}", type=dict[str, Any])
    except (ValueError, msgspec.ValidationError) as error:
        raise DefinitionError(
            f'parameters are a JSON object, as \'{{"day": "2026-11-22"}}\': {error}'
        ) from None
    return within(RunRequest(notebook=str(notebook), parameters=given), project)


def within(request: RunRequest, project: Path) -> RunRequest:
    """The same, with paths as they are within the project.

    Raises:
        DefinitionError: A path leads out of it, or there is no such notebook.
    """
    notebook = placed(request.notebook, project)
    if not (project / notebook).is_file():
        raise DefinitionError(f"there is no notebook {notebook} in {project}")
    output = placed(request.output, project) if request.output else ""
    return msgspec.structs.replace(request, notebook=notebook, output=output)


def placed(path: str, project: Path) -> str:
    """As a path within the project, wherever it was written.

    Raises:
        DefinitionError: It leads out of the project, or is no notebook.
    """
    # Not resolved: a link within the project may well lead to a file elsewhere.
    inside = os.path.relpath(os.path.normpath(project / path), project)
    if inside == os.pardir or inside.startswith(f"{os.pardir}{os.sep}"):
        raise DefinitionError(
            f"{path} is outside of {project}, whose journal this is; copy it there, or use the"
            " journal of its own folder"
        )
    if not inside.endswith(_SUFFIX):
        raise DefinitionError(f"{path} is no notebook: its name does not end with {_SUFFIX}")
    return inside


def output_of(request: RunRequest, key: str) -> str:
    """Where its output goes; another place for each run."""
    if request.output:
        return request.output.replace(KEY_HERE, file_name(key))
    notebook = PurePosixPath(request.notebook)
    folder = notebook.with_name(f"{notebook.stem}-runs")
    return str(folder / f"{file_name(key)}{_SUFFIX}")


def file_name(key: str) -> str:
    """A key as the name of a file, which no two keys have in common."""
    name = key.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if len(name.encode()) <= _NAME_BYTES_MAX:
        return name
    return f"{name[:32]}%{blake2b(key.encode(), digest_size=16).hexdigest()}"


def manifest_of_notebooks(flow: Workflow) -> ServiceManifest:
    """As papermill's engine registers it too."""
    return manifest_of(flow, digest=DIGEST, origin="papermill", keyed=True)
