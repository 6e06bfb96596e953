"""A notebook of twenty cells that is killed where a test says, by the notebook itself.

The moment is exact because the kernel chooses it: each cell calls `probe`, a module beside the
notebook, when it begins and before its last line, and the probe kills whom it was told to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nbformat

import nbdurable
from nbdurable.batch.cells import RecordSerde

Victim = Literal["kernel", "papermill", "both"]
VICTIMS: tuple[Victim, ...] = ("kernel", "papermill", "both")
WAIT_S_MAX = 180
CELL_COUNT = 20
# Imports run again in every kernel, and are meant to.
SETUP_CELL = 2

PROBE = '''
"""What the cells of the notebook call: it notes that they run, and kills."""
import hashlib, json, os, random, signal, threading, time

import numpy as np
import pandas as pd

# Whoever has started this kernel: when that has ended, its parent is another.
PARENT = os.getppid()
TOLD = json.loads(os.environ.get("KILL", "null"))

def begin(cell):
    if TOLD and cell > TOLD["cell"] + 1:
        # The next cell may begin before the kill comes, and the one after that may not: on a busy
        # machine the notebook would be at its end.
        time.sleep(600)
    with open("side", "a") as side:
        side.write(f"begin {cell}\\n")

def moment(cell):
    """All but the last line of the cell is done."""
    kill("in", cell)
    kill("after", cell)

def kill(place, cell):
    if not TOLD or [place, cell] != [TOLD["place"], TOLD["cell"]]:
        return
    pids = {"kernel": [os.getpid()], "papermill": [PARENT],
            "both": [PARENT, os.getpid()]}[TOLD["victim"]]
    def now():
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    if place == "after":
        # While the cell is saved and recorded, or the next one begins.
        threading.Timer(TOLD["delay_ms"] / 1000, now).start()
    else:
        now()

def digest(value):
    if callable(value) or type(value).__name__ == "module":
        return value.__name__
    if isinstance(value, (pd.DataFrame, pd.Series)):
        return int(pd.util.hash_pandas_object(value).sum())
    if isinstance(value, np.ndarray):
        return hashlib.sha256(value.tobytes()).hexdigest()[:12]
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state["state"]["state"]
    if hasattr(value, "predict"):
        return digest(value.predict(np.arange(8.0).reshape(4, 2)))
    if hasattr(value, "get_size_inches"):
        return [line.get_xydata().tolist() for axes in value.axes for line in axes.lines]
    if hasattr(value, "get_xlim"):
        return digest(value.figure)
    return repr(value)

def everything(names):
    """All variables of the notebook, and where the generators are."""
    states = {"random": random.getstate(), "numpy": str(np.random.get_state())}
    return ({name: digest(value) for name, value in sorted(names.items())
             if not name.startswith("_") and name not in
             ("In", "Out", "exit", "quit", "open", "get_ipython")}
            | {name: hashlib.sha256(str(state).encode()).hexdigest()[:12]
               for name, state in states.items()})
'''

IMPORTS = """import random
import numpy as np
import pandas as pd
import matplotlib.pyplot as plt
from sklearn.linear_model import LinearRegression
%matplotlib inline"""

PLOT = """figure, axes = plt.subplots(figsize=(2, 1.5))
axes.plot(frame.z, model.predict(frame[['x', 'z']].to_numpy()));"""

# One for each cell; `probe` is called around them.
BODIES = (
    ("size = 60", "parameters"),
    (IMPORTS, "setup"),
    "random.seed(7); np.random.seed(7); rng = np.random.default_rng(7)",
    "frame = pd.DataFrame({'x': rng.normal(size=size)})\nframe['z'] = np.arange(1.0 * size)\nframe",
    "frame['y'] = 3 * frame.x + np.random.normal(size=size)\nprint(frame.y.sum())",
    "def scaled(values): return values * factor\nfactor = random.random()\nfactor",
    "frame['scaled'] = scaled(frame.y)\nframe.describe()",
    "model = LinearRegression().fit(frame[['x', 'z']].to_numpy(), frame.scaled)\nmodel.coef_",
    PLOT,
    "same = frame; drawer = {'frame': frame, 'model': model}",
    "same.loc[0, 'x'] = 100.0\ndrawer['frame'] is frame, float(frame.x[0])",
    "walk = np.cumsum([random.gauss(0, 1) for _ in range(size)])\nwalk[-3:]",
    "plt.figure(figsize=(2, 1)); plt.plot(walk); plt.title(f'{walk[-1]:.3f}'); plt.show()",
    "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    said = str(error)\nprint(said)",
    "samples = rng.permutation(np.arange(size))[:10]\nsamples",
    "from IPython.display import HTML, display\ndisplay(HTML('<b>%d</b>' % samples[0]))",
    "totals = frame.groupby(frame.z // 20)[['y']].sum()\ntotals",
    "factor = 2\nscaled(walk)[:2]",
    "print(random.random(), np.random.rand(), rng.random())",
    "probe.everything(globals())",
)


@dataclass(frozen=True, slots=True)
class Kill:
    """`in`: before the last line of the cell; `after`: so many milliseconds later."""

    victim: Victim
    cell: int
    place: Literal["in", "after"]
    delay_ms: float = 0.0

    def __str__(self) -> str:
        when = f"{self.delay_ms:.1f} ms after" if self.place == "after" else "in"
        return f"{self.victim} killed {when} cell {self.cell}"


class KilledNotebook:
    """Mutable: a folder with the notebook, and what became of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "probe.py").write_text(PROBE)
        cells = []
        for number, body in enumerate(BODIES, start=1):
            source, *tags = (body,) if isinstance(body, str) else body
            # The last line stays last: its value is an output.
            *first, last = source.split("\n")
            lines = [f"import probe; probe.begin({number})", *first]
            source = "\n".join([*lines, f"probe.moment({number})", last])
            cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": tags}))
        kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, folder / "in.ipynb")

    def run(self, kill: Kill | None = None, *, engine: str = "nbdurable") -> int:
        """One call of papermill; its exit code, once its kernel has gone too."""
        told = {} if kill is None else {"KILL": json.dumps(_told(kill))}
        words = ("in.ipynb", "out.ipynb", "--no-progress-bar", "--engine", engine)
        with (self._folder / "log").open("ab") as log:
            code = subprocess.run(
                [sys.executable, "-m", "papermill", *words],
                cwd=self._folder,
                env=_environment(told),
                stdout=log,
                stderr=log,
                check=False,
                timeout=WAIT_S_MAX,
            ).returncode
        if kill is not None:
            self._wait_for_the_kernel()
        return code

    def executions(self) -> Counter[int]:
        """How often each cell began, by its number."""
        lines = (self._folder / "side").read_text().splitlines()
        return Counter(int(line.split()[1]) for line in lines if line.startswith("begin"))

    def finished(self) -> set[int]:
        """The cells that the journal has as finished, with their variables.

        A kernel that dies while it saves takes them with it: the cell's outputs are recorded, and
        it has to run again.
        """

        async def look() -> list[tuple[str, bytes | None]]:
            async with nbdurable.open(self._folder / ".nbdurable") as engine:
                (run,) = await engine.client.invocations()
                return await engine.client.keyed_steps(run.id)

        records = [RecordSerde().deserialize(payload or b"") for _, payload in asyncio.run(look())]
        return {
            record.index + 1 for record in records if record is not None and not record.died_saving
        }

    def shown(self) -> list[tuple[object, ...]]:
        """What a reader sees of each cell of the output notebook."""
        cells = self._output().cells
        return [
            (
                cell.source,
                cell.outputs,
                cell.execution_count,
                cell.metadata.tags,
                cell.metadata.papermill.status,
            )
            for cell in cells
        ]

    def log(self) -> str:
        return (self._folder / "log").read_text()

    def _output(self) -> Any:
        return nbformat.read(self._folder / "out.ipynb", as_version=4)

    def _wait_for_the_kernel(self) -> None:
        """It looks once a second whether papermill is alive."""
        pid = self._output().metadata.nbdurable.kernel_pid
        until = time.monotonic() + WAIT_S_MAX
        while _is_alive(pid):
            assert time.monotonic() < until, "the kernel outlives papermill"
            time.sleep(0.02)


def _environment(told: dict[str, str]) -> dict[str, str]:
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "PYTHONPATH": path, "NBDURABLE_HOME": ".nbdurable", **told}


def _told(kill: Kill) -> dict[str, object]:
    return {name: getattr(kill, name) for name in ("victim", "cell", "place", "delay_ms")}


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False
