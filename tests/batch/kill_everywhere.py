"""The kill matrix in full: in every cell and at every boundary, a kernel, papermill and both.

    python tests/batch/kill_everywhere.py [--victim kernel] [--delay-ms 5]

For each victim one notebook is killed in the middle of every cell and after its last line, some
forty times, and has to end as one that nobody killed. Takes some ten minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.killed import CELL_COUNT, SETUP_CELL, VICTIMS, Kill, KilledNotebook, Victim


def kill_everywhere(victim: Victim, delay_ms: float) -> KilledNotebook:
    notebook = KilledNotebook(Path(tempfile.mkdtemp()))
    seen: dict[int, int] = {}
    for cell in range(1, CELL_COUNT + 1):
        for kill in (Kill(victim, cell, "in"), Kill(victim, cell, "after", delay_ms)):
            if seen.get(cell):
                print(f"{kill}: not reached, it had finished")
                continue
            code = notebook.run(kill)
            ran = notebook.executions()
            assert seen == {known: ran[known] for known in seen}, f"ran again before: {kill}"
            seen = {cell: ran[cell] for cell in notebook.finished() - {SETUP_CELL}}
            print(f"{kill}: exit code {code}, {len(seen)} cells finished", flush=True)
    assert notebook.run() == 0, notebook.log()
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--victim", choices=VICTIMS, action="append")
    parser.add_argument("--delay-ms", type=float, default=5.0)
    told = parser.parse_args()
    undisturbed = KilledNotebook(Path(tempfile.mkdtemp()))
    assert undisturbed.run(engine="nbclient") == 0, undisturbed.log()
    for victim in told.victim or VICTIMS:
        assert kill_everywhere(victim, told.delay_ms).shown() == undisturbed.shown()
        print(f"{victim}: as if nothing had happened")


if __name__ == "__main__":
    main()
