"""Execute the notebooks as a new user would: in a fresh folder, top to bottom.

Runs on a copy, because a journal beside the originals would attach to earlier runs. Never writes to
the checkout. Two at a time: most of them mostly wait.
"""

import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

CELL_TIMEOUT_S = 300  # The slowest cell takes ten seconds; a cell that waits for a person hangs.
AT_ONCE = 2
# A notebook that says so is executed a second time, where the first has left what it leaves.
SAYS_AGAIN = "Run this notebook again"
NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def main() -> int:
    """Execute each notebook; return the number of those that failed."""
    # A resumed demo leaves its output beside the original; it is a result, not a source.
    # The guides last: they are short, and go on beside what is long.
    found = [*sorted(NOTEBOOKS.glob("*.ipynb")), *sorted(NOTEBOOKS.glob("guides/*.ipynb"))]
    paths = [p for p in found if not p.stem.endswith("-out")]
    if not paths:
        print(f"no notebooks in {NOTEBOOKS.name}/", file=sys.stderr)
        return 1
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return sum(not is_well for is_well in threads.map(executes, paths))


def executes(path: Path) -> bool:
    """Whether every cell of the notebook ran; prints the failing cell if one did not."""
    with tempfile.TemporaryDirectory(prefix="nbdurable-notebooks-") as folder:
        # With what notebooks use from beside themselves, and without what they once wrote there.
        left_out = shutil.ignore_patterns(
            ".*", "__pycache__", "*-out.ipynb", "*.db", "*.jsonl", "*.log"
        )
        shutil.copytree(path.parent, folder, ignore=left_out, dirs_exist_ok=True)
        notebook = nbformat.read(Path(folder, path.name), as_version=4)
        client = NotebookClient(
            notebook, timeout=CELL_TIMEOUT_S, resources={"metadata": {"path": folder}}
        )
        times = 1 + any(SAYS_AGAIN in cell["source"] for cell in notebook.cells)
        took_s = []
        try:
            for _ in range(times):
                started = time.monotonic()
                client.execute()
                took_s.append(time.monotonic() - started)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            print(f"{path.name}: failed\n{error}", file=sys.stderr)
            return False
    print(f"{path.name}: ok, {' and again '.join(f'{took:.0f} s' for took in took_s)}", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
