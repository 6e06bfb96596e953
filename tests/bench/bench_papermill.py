"""What durability costs a notebook: paired runs against plain papermill, and its checkpoints.

    python tests/bench/bench_papermill.py [--rounds 7]

notebook    Wall clock of a notebook of 20 trivial cells, with its kernel's start and end, by plain
            papermill and by this engine in turn. The ratio of the medians is the figure; the target
            is at most 1.15. Each round has a journal of its own.
unchanged   A checkpoint after a cell that changed nothing: of small variables, and with 100 MB of
            frames alive. The target is 5 ms, and 20 ms per 100 MB.
written     Bytes on disk after ten cells in which a frame of 100 MB stayed as it was.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import papermill

from nbdurable.batch.checkpoint import save

CELL_COUNT = 20
FRAME_BYTES = 100_000_000
SAVE_COUNT = 10


def write_notebook(folder: Path) -> None:
    cells = [nbformat.v4.new_code_cell(f"x{n} = {n}\nx{n} + 1") for n in range(CELL_COUNT)]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, folder / "in.ipynb")


def run_once(engine: str | None) -> tuple[float, float]:
    """Seconds in all, and of the cells: from the first one's start to the last one's end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_notebook(folder)
        os.environ["NBDURABLE_HOME"] = str(folder / ".nbdurable")
        begun = time.perf_counter()
        done = papermill.execute_notebook(
            folder / "in.ipynb",
            folder / "out.ipynb",
            engine_name=engine,
            progress_bar=False,
            # A polite end of a kernel sometimes takes four seconds, whichever engine asks.
            shutdown_kernel="immediate",
        )
        took = time.perf_counter() - begun
    first, last = done.cells[0].metadata.papermill, done.cells[-1].metadata.papermill
    span = pd.Timestamp(last.end_time) - pd.Timestamp(first.start_time)
    return took, span.total_seconds()


def bench_notebook(rounds: int) -> None:
    run_once(None), run_once("nbdurable")
    took: dict[str | None, list[tuple[float, float]]] = {None: [], "nbdurable": []}
    for number in range(rounds):
        order = [None, "nbdurable"] if number % 2 else ["nbdurable", None]
        for engine in order:
            took[engine].append(run_once(engine))
    medians = {
        engine: [statistics.median(each) for each in zip(*of, strict=True)]
        for engine, of in took.items()
    }
    for engine, (whole, cells) in medians.items():
        per_cell_ms = cells / CELL_COUNT * 1000
        print(f"notebook   {engine or 'plain':<10} {whole:.3f} s, {per_cell_ms:.1f} ms per cell")
    ratio = medians["nbdurable"][0] / medians[None][0]
    pairs = [ours[0] / plain[0] for ours, plain in zip(took["nbdurable"], took[None], strict=True)]
    print(f"notebook   ratio of medians {ratio:.3f}, of pairs {min(pairs):.3f} to {max(pairs):.3f}")


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
            save(namespace, Path(folder))
            took, written = [], 0
            for _ in range(SAVE_COUNT):
                begun = time.perf_counter()
                saved = save(namespace, Path(folder))
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
