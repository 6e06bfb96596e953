"""Notebooks for tests, made of code cells."""

import nbformat


def notebook_of(**cells: str) -> nbformat.NotebookNode:
    """Code cells by their ids."""
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_code_cell(source, id=name) for name, source in cells.items()]
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    return made
