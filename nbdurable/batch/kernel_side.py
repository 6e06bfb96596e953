"""What papermill's process asks of the user's kernel: save, restore, count on.

Owns: the answer to one silent request (`client.py` asks). Runs in the kernel, imports
`checkpoint` and nothing of the engine, papermill or IPython, and leaves no name in the notebook.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbdurable.batch.tombstone import CheckpointDamagedError
from nbdurable.kernels import connect, steps_in_use

if TYPE_CHECKING:
    from nbdurable.batch.namespace_pickle import Refuse


# Words of their own: an nbdurable that knows no manifest but in a file cannot do that, and says so.
RESTORE_KEPT = "restore a checkpoint of format 2"
_RESTORES = ("restore", RESTORE_KEPT)


class Answer:
    """Its `repr` is the JSON, because a `repr` is what a kernel sends back."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._json = json.dumps(content)

    def __repr__(self) -> str:
        return self._json


class _Seen:
    """Mutable: what of the namespace was seen after which cell, and saved. One per kernel."""

    def __init__(self) -> None:
        self.identities: dict[str, int] = {}
        self.cells: dict[str, str] = {}
        self.placed: dict[str, object] = {}
        self.durable: tuple[str, ...] = ()

    def look(self, namespace: dict[str, object], cell: str | None) -> None:
        """Note which names were assigned since the last look, for the sentence of a tombstone."""
        for name, value in namespace.copy().items():
            if self.identities.get(name) != id(value):
                self.identities[name] = id(value)
                if cell is not None:
                    self.cells[name] = cell


_seen = _Seen()


def answer(request_json: str) -> Answer:
    """Do what is asked; what goes wrong is an answer too, and never an output of the notebook."""
    request = json.loads(request_json)
    namespace = vars(__import__("__main__"))
    try:
        match request:
            case {"ask": "save", "blobs": blobs, "cell": cell}:
                bytes_max = request.get("manifest_bytes_max", 0)
                return Answer(_save(namespace, Path(blobs), cell, bytes_max))
            case {"ask": word, "blobs": blobs, "checkpoint": digest} if word in _RESTORES:
                return Answer(_restore(namespace, Path(blobs), digest, request.get("manifest")))
            case {"ask": "connect", "address": address, "key": key}:
                return Answer(_connect(namespace, address, key, request.get("run", "")))
            case {"ask": "count", "next": execution_count}:
                return Answer(_count(namespace, execution_count))
            case _:
                return Answer({"error": f"this nbdurable cannot {request['ask']}"})
    # A border: pickling runs anybody's code, and a folder may be full or not ours.
    except Exception as error:  # noqa: BLE001
        sentence = str(error).partition(" Nothing was restored.")[0]
        if not isinstance(error, CheckpointDamagedError):
            sentence = f"{type(error).__name__}: {sentence}"
        return Answer({"error": sentence})


def _save(
    namespace: dict[str, object], blobs: Path, cell: str, manifest_bytes_max: int
) -> dict[str, Any]:
    from nbdurable.batch import checkpoint

    begun = time.monotonic_ns()
    if not blobs.parent.is_dir():
        # Making it again would give the next owner a journal that is nothing but blobs.
        raise FileNotFoundError(f"the journal {blobs.parent} is gone")
    # No restore follows any more, and a variable that the notebook deletes has to go.
    _seen.placed = {}
    _seen.look(namespace, cell)
    saved = checkpoint.save(
        namespace,
        blobs,
        cells=_seen.cells,
        refuse=_refuse(),
        manifest_bytes_max=manifest_bytes_max,
        durable=_seen.durable,
    )
    _seen.durable = saved.files
    return {
        "checkpoint": saved.digest,
        "manifest": saved.manifest,
        "bytes": saved.bytes_total,
        "ms": (time.monotonic_ns() - begun) // 1_000_000,
        "tombstones": [lost.short() for lost in saved.tombstones],
    }


def _refuse() -> Refuse | None:
    """What finds secrets in a variable, once a cell has asked for one."""
    secrets = getattr(steps_in_use(), "secrets", None)
    return partial(secrets.refuse, what="it") if secrets else None


def _restore(
    namespace: dict[str, object], blobs: Path, digest: str, manifest: str | None
) -> dict[str, Any]:
    """Bring the variables back.

    What an earlier restore put there and nobody replaced goes first: a variable that died in
    between must not live on as what it was.
    """
    from nbdurable.batch import checkpoint

    earlier = {name: value for name, value in _seen.placed.items() if namespace.get(name) is value}
    for name in earlier:
        del namespace[name]
    _seen.placed = {}
    before = namespace.copy()
    restored = checkpoint.restore(namespace, blobs, digest, manifest)
    _seen.placed = {
        name: namespace[name]
        for name in (*restored.names, *(lost.name for lost in restored.tombstones))
        if name not in before or before[name] is not namespace[name]
    }
    _seen.look(namespace, None)
    return {
        "notes": list(restored.notes),
        "tombstones": [lost.short() for lost in restored.tombstones],
    }


def _connect(namespace: dict[str, object], address: str, key: str, run: str) -> dict[str, Any]:
    """From here on cells have steps; nothing is imported or sent before one asks for it."""
    get_shell = namespace.get("get_ipython")

    def executions() -> int:
        return int(get_shell().execution_count) if callable(get_shell) else 0

    def make() -> object:
        from nbdurable.batch.kernel_steps import KernelSteps

        return KernelSteps(address, key, executions)

    connect(make, run)
    # While the first cell runs, so that the first checkpoint has not to wait for it.
    threading.Thread(target=_import_what_saves, name="nbdurable imports", daemon=True).start()
    return {}


def _import_what_saves() -> None:
    # A border: whatever is wrong with it is told by the checkpoint that needs it.
    with suppress(Exception):
        import_module("nbdurable.batch.checkpoint")
        import_module("nbdurable.batch.namespace_pickle")
        import_module("nbdurable.batch.blobs")


def _count(namespace: dict[str, object], execution_count: int) -> dict[str, Any]:
    """Let the next cell be `In [execution_count]`, as if those before it had run here."""
    get_shell = namespace.get("get_ipython")
    if callable(get_shell):
        get_shell().execution_count = execution_count
    return {}
