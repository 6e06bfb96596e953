"""Notebooks for tests, made of code cells."""

from pathlib import Path

import nbformat

KERNEL = {"name": "python3", "language": "python", "display_name": "Python 3"}


def notebook_of(**cells: str) -> nbformat.NotebookNode:
    """Code cells by their ids."""
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_code_cell(source, id=name) for name, source in cells.items()]
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    return made


def write(folder: Path, *cells: str | tuple[str, ...], name: str = "report.ipynb") -> None:
    """A notebook of sources, each with its tags behind it."""
    nodes = []
    for cell in cells:
        source, *tags = (cell,) if isinstance(cell, str) else cell
        nodes.append(nbformat.v4.new_code_cell(source, metadata={"tags": tags}))
    meta = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=nodes, metadata=meta), folder / name)


def mark(text: str) -> str:
    """Source of a line that leaves a mark each time it is executed."""
    return f"open('side', 'a').write({text!r} + ' ')"


def marks(folder: Path) -> list[str]:
    """The marks there are, in the order in which they were left."""
    side = folder / "side"
    return side.read_text().split() if side.exists() else []
