"""A folder with a notebook that papermill runs, and what became of it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import nbformat
import papermill

import nbdurable

KERNEL = {"name": "python3", "language": "python", "display_name": "Python 3"}


class Project:
    """A folder with a notebook in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, *cells, name="in.ipynb", kernel=None) -> None:
        """Cells: source, (source, tag), or a markdown text that begins with `#!`."""
        nodes = []
        for cell in cells:
            source, *tags = (cell,) if isinstance(cell, str) else cell
            if source.startswith("#!"):
                nodes.append(nbformat.v4.new_markdown_cell(source))
            else:
                nodes.append(nbformat.v4.new_code_cell(source, metadata={"tags": tags}))
        meta = {"kernelspec": kernel or KERNEL, "language_info": {"name": "python"}}
        notebook = nbformat.v4.new_notebook(cells=nodes, metadata=meta)
        nbformat.write(notebook, self.folder / name)

    def run(self, output="out.ipynb", *, engine="nbdurable", go=True, **options):
        """Run it; `go` is whether a cell that waits for the file `go` may live."""
        flag = self.folder / "go"
        flag.touch() if go else flag.unlink(missing_ok=True)
        options.setdefault("progress_bar", False)
        # A polite shutdown of a kernel sometimes takes four seconds, whichever engine asks.
        options.setdefault("shutdown_kernel", "immediate")
        return papermill.execute_notebook("in.ipynb", output, engine_name=engine, **options)

    def command(self, *arguments) -> list[str]:
        return [sys.executable, "-m", "papermill", "in.ipynb", "out.ipynb", *arguments]

    def ran(self) -> list[str]:
        """What the cells wrote into the side file, in order; forgotten afterwards."""
        side = self.folder / "side"
        lines = side.read_text().split() if side.exists() else []
        side.unlink(missing_ok=True)
        return lines

    def output(self, name="out.ipynb"):
        return nbformat.read(self.folder / name, as_version=4)

    def runs(self):
        """Every run in the journal, with its steps."""

        async def look():
            async with nbdurable.open(self.folder / ".nbdurable") as engine:
                runs = await engine.client.invocations()
                return [(run, await engine.client.journal(run.id)) for run in runs]

        return asyncio.run(look())


def side(text: str) -> str:
    """Source of a line that leaves a mark each time it is executed."""
    return f"import os; open('side', 'a').write('{text} ')"


def statuses(notebook) -> list[str]:
    return [cell.metadata.papermill.status for cell in notebook.cells]


def restored(notebook) -> list[bool | None]:
    return [cell.metadata.get("nbdurable", {}).get("restored") for cell in notebook.cells]


def texts(cell) -> list[str]:
    return [output.get("text") or output.data["text/plain"] for output in cell.outputs]
