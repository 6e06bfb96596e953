"""Save the variables of a notebook as one pickle, and bring them back in a new kernel.

Owns: which names are a notebook's variables, the manifest, and what surrounds the variables –
imported modules, random generators, working directory, `sys.path`, loaded extensions. Runs inside
the user's kernel and never imports the engine, the journal or IPython.

A checkpoint is a folder of content-addressed blobs (`blobs.py`) and the name of one of them, the
manifest: JSON that lists the parts of the pickle stream and its out-of-band buffers in order. An
unchanged frame therefore costs its hash and no bytes. A short manifest, with short parts in it, may
be kept by whoever asked for the checkpoint: a cell that makes little then writes no file.

**Pickles are code.** Whoever can write into the folder can run anything in the kernel that reads
it. It is created 0700, its files 0600, and `restore` refuses a folder that others can write to.
Never restore a checkpoint that somebody sent.

What cannot be pickled is a tombstone (`tombstone.py`). Said to be lost besides: state inside
modules, caches of `lru_cache`, tracebacks of exceptions. That is what `setup` cells are for.
"""

from __future__ import annotations

import base64
import builtins
import contextlib
import importlib
import io
import json
import linecache
import os
import pickle
import random
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from nbdurable.batch.tombstone import (
    MODULE_TYPE_NAME,
    CheckpointDamagedError,
    Lost,
    LostVariableError,
    Tombstone,
    lost_of,
)

if TYPE_CHECKING:
    from nbdurable.batch.blobs import BlobFolder
    from nbdurable.batch.namespace_pickle import Refuse

__all__ = [
    "Checkpoint",
    "CheckpointDamagedError",
    "Lost",
    "LostVariableError",
    "Restored",
    "Tombstone",
    "restore",
    "save",
]

FORMAT_VERSION = 2
# What an older nbdurable reads as well: a manifest that is a file, with all its parts in files.
_IN_FILES = 1
# Whoever asked for the checkpoint keeps the manifest, with short parts in it.
_KEPT = 2

# What a library hands us as its state, and takes back, is its own business.
Saved = Any

# IPython's own: the last three inputs and outputs, `_12`, `_i12`, histories, exit code.
_IPYTHON_NAME = re.compile(r"_{1,3}|_\d+|_i{1,3}|_i\d+|_ih|_oh|_dh|_sh|_exit_code|get_ipython")
_DUNDER_NAME = re.compile(r"__.*__")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved namespace.

    `bytes_total` counts every distinct blob it names, `bytes_written` those not there before.
    `manifest` is what `digest` names where no file holds it, `files` are those it needs.
    """

    digest: str
    bytes_total: int
    bytes_written: int
    variable_count: int
    tombstones: tuple[Lost, ...]
    manifest: str | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Restored:
    """A namespace brought back; `notes` are sentences for the user, about what is not as it was."""

    names: tuple[str, ...]
    tombstones: tuple[Lost, ...]
    notes: tuple[str, ...]


def save(
    namespace: dict[str, object],
    blobs: Path,
    *,
    skip: Collection[str] = (),
    cells: Mapping[str, str] = MappingProxyType({}),
    refuse: Refuse | None = None,
    manifest_bytes_max: int = 0,
    durable: Collection[str] = (),
) -> Checkpoint:
    """Save every variable of a notebook that can be saved.

    Args:
        namespace: The kernel's own dict, not a copy: functions are recognised by it.
        blobs: A folder only this user can write to; created if missing.
        skip: Names to leave out without a trace (secrets, what a host injected).
        cells: The cell that last assigned a name, for the sentence of its tombstone.
        refuse: Raises if bytes of a variable are not to be written; it is lost then.
        manifest_bytes_max: Up to so many bytes of manifest are returned instead of written.
        durable: The `files` of an earlier checkpoint of this process, in the same folder.

    Raises:
        OSError: The folder cannot be written. No digest was handed out, so nothing refers to it.
    """
    from nbdurable.batch.blobs import BlobFolder
    from nbdurable.batch.namespace_pickle import dump

    variables = {
        name: value
        for name, value in namespace.copy().items()
        if name not in skip and not _is_ipythons(name, value, namespace)
    }
    modules = {name: value for name, value in variables.items() if _is_importable(value)}
    dead = {name: lost_of(value) for name, value in variables.items() if type(value) is Tombstone}
    values = {name: value for name, value in variables.items() if name not in modules | dead}
    pickled = dump(values, namespace, cells, refuse)
    tombstones = (*dead.values(), *pickled.lost)

    folder = BlobFolder(blobs, durable)
    folder.create()
    facts: dict[str, Any] = {
        "format": _IN_FILES,
        "python": _python(),
        "cloudpickle": _version("cloudpickle"),
        "names": pickled.names,
        "buffers": [folder.put(buffer) for buffer in pickled.buffers],
        "modules": {name: _module_record(module) for name, module in modules.items()},
        "tombstones": [asdict(lost) for lost in tombstones],
        "rng": {name: folder.put(state) for name, state in _generator_states().items()},
        "cwd": _working_directory(),
        "sys_path": [str(entry) for entry in sys.path],
        "sources": _sources(pickled.source_names),
        "extensions": _extensions(namespace),
    }
    manifest = _with_parts(facts, pickled.parts, folder, manifest_bytes_max)
    is_short = len(manifest) <= manifest_bytes_max
    digest = folder.hold(manifest) if is_short else folder.put(manifest)
    folder.sync()
    return Checkpoint(
        digest=digest,
        bytes_total=folder.bytes_total,
        bytes_written=folder.bytes_written,
        variable_count=len(pickled.names) + len(modules),
        tombstones=tombstones,
        manifest=manifest.decode() if is_short else None,
        files=folder.filed,
    )


def _with_parts(
    facts: dict[str, Any], parts: Sequence[bytes], folder: BlobFolder, bytes_max: int
) -> bytes:
    """The manifest: with short parts that are new in it, if it stays short, else all in files."""
    short = [part for part in parts if len(part) <= bytes_max and not folder.has(part)]
    names = [folder.hold(part) if part in short else folder.put(part) for part in parts]
    if short and sum(map(len, short)) <= bytes_max:
        held = [base64.b64encode(part).decode() for part in short]
        manifest = _written({**facts, "format": _KEPT, "pickle": names, "held": held})
        if len(manifest) <= bytes_max:
            return manifest
    for part in short:
        folder.put(part)
    manifest = _written({**facts, "format": _KEPT, "pickle": names})
    return manifest if len(manifest) <= bytes_max else _written({**facts, "pickle": names})


def _written(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest, separators=(",", ":")).encode()


def restore(
    namespace: dict[str, object], blobs: Path, manifest_digest: str, manifest: str | None = None
) -> Restored:
    """Bring a saved namespace back, all of it or nothing.

    A tombstone never replaces what the namespace already has: a `setup` cell may have run first.

    Args:
        manifest: What was returned instead of written when it was saved.

    Raises:
        CheckpointDamagedError: A blob is missing or wrong, or an object cannot be rebuilt here.
        PermissionError: Others can write to the folder.
    """
    from nbdurable.batch.blobs import BlobFolder
    from nbdurable.batch.namespace_pickle import load

    folder = BlobFolder(blobs)
    folder.refuse_strangers()
    if manifest is not None:
        folder.hold(manifest.encode())
    facts = _facts(folder, manifest_digest)
    for content in facts.get("held", []):
        folder.hold(base64.b64decode(content))
    # All files are read before anything is touched: after this line only pickles can fail.
    parts = [folder.get(name) for name in facts["pickle"]]
    buffers = [folder.get(name) for name in facts["buffers"]]
    generators = {name: folder.get(blob) for name, blob in facts["rng"].items()}

    before = namespace.copy()
    directory_before = _working_directory()
    notes = _enter_directory(facts["cwd"])
    _extend_path(facts["sys_path"])
    modules, missing = _import_modules(facts["modules"])
    _restore_sources(facts["sources"])

    # Values are assigned one by one: rebuilding a set may call a notebook's `__hash__`, which
    # finds the modules and whatever was defined before it, as it did in the notebook.
    namespace.update(modules)
    names = list(modules)
    try:
        for name, value in load(facts["names"], parts, buffers, namespace):
            namespace[name] = value
            names.append(name)
    # A border: unpickling runs anybody's `__setstate__`, and libraries change.
    except Exception as error:
        _undo(namespace, before, names)
        if directory_before is not None:
            os.chdir(directory_before)
        culprit = facts["names"][len(names) - len(modules)]
        raise CheckpointDamagedError(
            f"The variable `{culprit}` could not be rebuilt from the checkpoint, which Python "
            f"{facts['python']} and cloudpickle {facts['cloudpickle']} wrote and Python "
            f"{_python()} and cloudpickle {_version('cloudpickle')} read: "
            f"{type(error).__name__}: {error}."
        ) from error

    lost = [Lost(**record) for record in facts["tombstones"]] + missing
    placed = [each for each in lost if each.name not in namespace]
    namespace.update({each.name: Tombstone(each) for each in placed})
    notes += _load_extensions(namespace, facts.get("extensions", []))
    # Last, because importing and rebuilding may draw numbers.
    notes += _restore_generators(generators)
    return Restored(tuple(names), tuple(placed), tuple(notes))


def _is_ipythons(name: str, value: object, namespace: Mapping[str, object]) -> bool:
    if _IPYTHON_NAME.fullmatch(name) or _DUNDER_NAME.fullmatch(name):
        return True
    match name:
        case "In":
            return value is namespace.get("_ih", value)
        case "Out":
            return value is namespace.get("_oh", value)
        case "exit" | "quit":
            return type(value).__module__.split(".")[0] in ("IPython", "ipykernel", "_sitebuiltins")
        case "open":
            # IPython puts a wrapper of its own in the namespace.
            return value is builtins.open or getattr(value, "__wrapped__", None) is io.open
        case _:
            return False


# --- Modules ----------------------------------------------------------------------------------


def _is_importable(value: object) -> bool:
    # A module made by hand has no spec and is pickled by value, as cloudpickle does.
    return (
        isinstance(value, ModuleType)
        and sys.modules.get(value.__name__) is value
        and (value.__spec__ is not None or value.__name__ == "__main__")
    )


def _module_record(module: object) -> dict[str, Any]:
    assert isinstance(module, ModuleType)
    # `import xml.dom` binds `xml` only: what it loaded below has to be there again, or an
    # attribute is missing. Private parts are left to the package that imports them.
    prefix = module.__name__ + "."
    loaded = [
        name
        for name, child in sys.modules.copy().items()
        if name.startswith(prefix)
        and "._" not in name
        and getattr(getattr(child, "__spec__", None), "name", None) == name
    ]
    return {"name": module.__name__, "submodules": sorted(loaded)}


def _import_modules(records: Mapping[str, Any]) -> tuple[dict[str, ModuleType], list[Lost]]:
    modules: dict[str, ModuleType] = {}
    missing: list[Lost] = []
    for alias, record in records.items():
        try:
            modules[alias] = importlib.import_module(record["name"])
        # A border: importing runs anybody's code.
        except Exception as error:  # noqa: BLE001
            missing.append(Lost(alias, MODULE_TYPE_NAME, f"{type(error).__name__}: {error}"))
            continue
        for name in record["submodules"]:
            if name not in sys.modules:
                # The same border; a part nobody named is not worth a tombstone.
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
    return modules, missing


def _extend_path(saved: list[str]) -> None:
    """Add what the notebook had added to `sys.path`, in front if it was in front."""
    known = set(sys.path)
    common = [index for index, entry in enumerate(saved) if entry in known]
    front = saved[: common[0]] if common else []
    sys.path[:0] = front
    sys.path += [entry for entry in saved[len(front) :] if entry not in known]


# --- Extensions -------------------------------------------------------------------------------


def _extensions(namespace: Mapping[str, object]) -> list[str]:
    """What `%load_ext` has loaded: cells behind it use its magics."""
    shell: Any = _shell_of(namespace)
    return [] if shell is None else sorted(shell.extension_manager.loaded)


def _load_extensions(namespace: Mapping[str, object], names: list[str]) -> list[str]:
    shell: Any = _shell_of(namespace)
    notes: list[str] = []
    for name in names if shell is not None else ():
        if name in shell.extension_manager.loaded:
            continue
        try:
            shell.extension_manager.load_extension(name)
        # A border: an extension is anybody's code.
        except Exception as error:  # noqa: BLE001
            notes.append(f"The extension {name} was not loaded: {type(error).__name__}: {error}.")
    return notes


def _shell_of(namespace: Mapping[str, object]) -> object:
    get_shell = namespace.get("get_ipython")
    return get_shell() if callable(get_shell) else None


# --- Generators, directory, sources -----------------------------------------------------------


def _generator_states() -> dict[str, bytes]:
    states: dict[str, object] = {"random": random.getstate()}
    # Never imported for this: a module that is not loaded has drawn no numbers.
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        states["numpy"] = numpy_random.get_state(legacy=False)
    if (torch := sys.modules.get("torch")) is not None:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        # As bytes, so that reading it back needs no torch to say that torch is missing.
        states["torch"] = [bytes(state.tolist()) for state in (torch.get_rng_state(), *cuda)]
    return {name: pickle.dumps(state, protocol=5) for name, state in states.items()}


def _restore_generators(states: Mapping[str, bytearray]) -> list[str]:
    notes: list[str] = []
    for name, state in states.items():
        try:
            _restore_generator(name, pickle.loads(state))
        # A border: another version of the library may refuse its own older state.
        except Exception as error:  # noqa: BLE001
            notes.append(
                f"The generator of {name} does not continue where it was: "
                f"{type(error).__name__}: {error}."
            )
    return notes


def _restore_generator(name: str, state: Saved) -> None:
    match name:
        case "random":
            random.setstate(state)
        case "numpy":
            importlib.import_module("numpy.random").set_state(state)
        case "torch":
            torch = importlib.import_module("torch")
            own, *cuda = (torch.tensor(list(each), dtype=torch.uint8) for each in state)
            torch.set_rng_state(own)
            if cuda:
                torch.cuda.set_rng_state_all(cuda)
        case _:
            raise KeyError(name)


def _working_directory() -> str | None:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return None


def _enter_directory(directory: str | None) -> list[str]:
    if directory is None:
        return []
    try:
        os.chdir(directory)
    except OSError as error:
        here = _working_directory()
        return [
            f"The working directory {directory} was not entered ({error.strerror}): now {here}."
        ]
    return []


def _sources(source_names: Collection[str]) -> dict[str, str]:
    """The text of the cells that functions come from, which a new kernel never compiled."""
    return {
        name: "".join(linecache.getlines(name))
        for name in sorted(source_names)
        if name in linecache.cache and not Path(name).exists()
    }


def _restore_sources(sources: Mapping[str, str]) -> None:
    # No modification time: `linecache` then never looks for a file of that name.
    for name, text in sources.items():
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)


# --- Manifest ---------------------------------------------------------------------------------


def _facts(folder: BlobFolder, digest: str) -> dict[str, Any]:
    manifest = json.loads(folder.get(digest))
    if manifest["format"] > FORMAT_VERSION:
        raise CheckpointDamagedError(
            f"The checkpoint has format {manifest['format']} and this nbdurable reads up to "
            f"{FORMAT_VERSION}: upgrade nbdurable in the kernel."
        )
    if manifest["python"] != _python():
        raise CheckpointDamagedError(
            f"The checkpoint was saved by Python {manifest['python']} and this kernel is Python "
            f"{_python()}: the code of functions cannot be carried over."
        )
    assert isinstance(manifest, dict)
    return manifest


def _undo(namespace: dict[str, object], before: Mapping[str, object], names: list[str]) -> None:
    for name in names:
        namespace.pop(name, None)
        if name in before:
            namespace[name] = before[name]


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _version(module_name: str) -> str:
    return str(importlib.import_module(module_name).__version__)
