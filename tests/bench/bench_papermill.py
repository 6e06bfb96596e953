"""What durability costs a notebook: paired runs against plain papermill, and its checkpoints.

    python tests/bench/bench_papermill.py [--rounds 7]

notebook    Wall clock of a notebook of 20 trivial cells, with its kernel's start and end, by plain
            papermill and by this engine in turn. The median of the ratios of each pair is the
            figure, since a machine is seldom quiet for long; the target is at most 1.15. Each round
            has a journal of its own. CPU is that of both processes.
unchanged   A checkpoint after a cell that changed nothing: of small variables, and with 100 MB of
            frames alive. The target is 5 ms, and 20 ms per 100 MB.
written     Bytes on disk after ten cells in which a frame of 100 MB stayed as it was.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF
from typing import Any, NamedTuple

import nbformat
import numpy as np
import pandas as pd
import papermill

from nbdurable.batch.checkpoint import save
from nbdurable.batch.client import MANIFEST_BYTES_MAX

CELL_COUNT = 20
FRAME_BYTES = 100_000_000
SAVE_COUNT = 10


def write_notebook(folder: Path) -> None:
    cells = [nbformat.v4.new_code_cell(f"x{n} = {n}\nx{n} + 1") for n in range(CELL_COUNT)]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, folder / "in.ipynb")


class Took(NamedTuple):
    """Seconds. `cells` is from the first one's start to the last one's end."""

    whole: float
    cells: float
    cpu: float


def run_once(engine: str | None) -> Took:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_notebook(folder)
        os.environ["NBDURABLE_HOME"] = str(folder / ".nbdurable")
        begun, cpu_before = time.perf_counter(), cpu_s()
        done = papermill.execute_notebook(
            folder / "in.ipynb",
            folder / "out.ipynb",
            engine_name=engine,
            progress_bar=False,
            # A polite end of a kernel sometimes takes four seconds, whichever engine asks.
            shutdown_kernel="immediate",
        )
        took, cpu = time.perf_counter() - begun, cpu_s() - cpu_before
    first, last = done.cells[0].metadata.papermill, done.cells[-1].metadata.papermill
    span = pd.Timestamp(last.end_time) - pd.Timestamp(first.start_time)
    return Took(took, span.total_seconds(), cpu)


def cpu_s() -> float:
    """Of this process, and of the kernels that have ended."""
    own, kernels = (resource.getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + kernels.ru_utime + kernels.ru_stime


def bench_notebook(rounds: int) -> None:
    run_once(None), run_once("nbdurable")
    took: dict[str | None, list[Took]] = {None: [], "nbdurable": []}
    for number in range(rounds):
        order = [None, "nbdurable"] if number % 2 else ["nbdurable", None]
        for engine in order:
            took[engine].append(run_once(engine))
    for engine, of in took.items():
        whole, cells, cpu = map(statistics.median, zip(*of, strict=True))
        print(
            f"notebook   {engine or 'plain':<10} {whole:.3f} s, {cells / CELL_COUNT * 1000:.1f} ms"
            f" per cell, {cpu:.3f} s of CPU"
        )
    pairs = [
        ours.whole / plain.whole for ours, plain in zip(took["nbdurable"], took[None], strict=True)
    ]
    low, median, high = statistics.quantiles(pairs, n=4)
    print(
        f"notebook   ratio of pairs: median {median:.3f}, quartiles {low:.3f} and {high:.3f},"
        f" from {min(pairs):.3f} to {max(pairs):.3f}"
    )


def bench_unchanged() -> None:
    small: dict[str, Any] = {
        "n": 1,
        "words": ["a", "b"] * 100,
        "table": pd.DataFrame({"a": [1, 2]}),
    }
    columns = {f"c{n}": np.arange(FRAME_BYTES / 80, dtype=float) + n for n in range(10)}
    large = {**small, "frame": pd.DataFrame(columns)}
    for what, namespace in (("small", small), ("100 MB", large)):
        with tempfile.TemporaryDirectory() as folder:
            saved = save(namespace, Path(folder))
            took, written = [], 0
            for _ in range(SAVE_COUNT):
                begun = time.perf_counter()
                saved = save(
                    namespace,
                    Path(folder),
                    manifest_bytes_max=MANIFEST_BYTES_MAX,
                    durable=saved.files,
                )
                took.append(time.perf_counter() - begun)
                written += saved.bytes_written
            on_disk = sum(file.stat().st_size for file in Path(folder).iterdir())
        print(
            f"unchanged  {what:<7} {statistics.median(took) * 1000:.1f} ms,"
            f" {written} bytes written again, {on_disk / 1e6:.1f} MB on disk"
        )


def bench_written() -> None:
    with tempfile.TemporaryDirectory() as folder:
        namespace: dict[str, Any] = {"frame": pd.DataFrame({"a": np.arange(FRAME_BYTES / 8)})}
        for number in range(10):
            namespace[f"x{number}"] = number
            save(namespace, Path(folder))
        on_disk = sum(file.stat().st_size for file in Path(folder).iterdir())
    print(f"written    {on_disk / 1e6:.1f} MB on disk after 10 cells with a frame of 100 MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    told = parser.parse_args()
    bench_unchanged()
    bench_written()
    bench_notebook(told.rounds)


if __name__ == "__main__":
    main()
