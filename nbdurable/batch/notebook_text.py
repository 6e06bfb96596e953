"""A notebook as the text of its file: byte by byte what nbformat writes, in a fifth of the time.

Why: it is written once per cell, whole, and nbformat copies all of it and indents it in Python.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import nbformat
from nbformat.v4.nbjson import BytesEncoder
from nbformat.v4.rwbase import split_lines, strip_transient


def text_of(notebook: nbformat.NotebookNode) -> str:
    on_disk = _copied(notebook)
    strip_transient(split_lines(on_disk))  # type: ignore[no-untyped-call]  # As nbformat has them.
    flat = json.dumps(on_disk, cls=BytesEncoder, ensure_ascii=False, sort_keys=True)
    try:
        return msgspec.json.format(flat, indent=1)
    except (msgspec.DecodeError, UnicodeEncodeError):
        # `NaN`, and halves of characters: JSON in Python's eyes only.
        written: str = nbformat.v4.writes(notebook)  # type: ignore[no-untyped-call]  # The same.
        return written


class _Node(dict[str, Any]):
    """Mutable; a dict that nbformat's functions may change, whose values they may not."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


def _copied(notebook: nbformat.NotebookNode) -> _Node:
    """Copied as deep as what is changed in it: no text, and no bytes of a figure."""
    copied = _Node(notebook)
    copied["metadata"] = dict(notebook["metadata"])
    copied["cells"] = [_cell(cell) for cell in notebook["cells"]]
    return copied


def _cell(cell: dict[str, Any]) -> _Node:
    copied = _Node(cell)
    copied["metadata"] = dict(cell["metadata"])
    if "attachments" in cell:
        copied["attachments"] = {name: dict(each) for name, each in cell["attachments"].items()}
    if "outputs" in cell:
        copied["outputs"] = [_output(output) for output in cell["outputs"]]
    return copied


def _output(output: dict[str, Any]) -> _Node:
    copied = _Node(output)
    if "data" in output:
        copied["data"] = dict(output["data"])
    return copied
