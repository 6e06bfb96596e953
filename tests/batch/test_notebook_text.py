"""The text of a notebook's file is nbformat's, whoever writes it."""

from __future__ import annotations

import copy
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from nbdurable.batch.notebook_text import text_of

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").rglob("*.ipynb"))
MANY_KINDS = new_notebook(
    metadata={"signature": "x", "orig_nbformat": 3, "papermill": {"parameters": {}, "b": []}},
    cells=[
        new_markdown_cell(
            "![a](attachment:a.svg)\n\nB\r\nC\u2028D",
            attachments={"a.svg": {"image/svg+xml": "<svg>\n</svg>", "image/png": "QUJD\n"}},
        ),
        new_code_cell(
            "x = 1\n'\"\\\t\x07é😀'",
            metadata={"trusted": True, "tags": ["a"], "other": None},
            execution_count=3,
            outputs=[
                new_output("stream", name="stdout", text="a\nb"),
                new_output("stream", name="stderr", text=["a\n", "b"]),
                new_output(
                    "display_data",
                    data={
                        "text/html": "<b>\n</b>",
                        "image/png": "QUJD\n",
                        "application/javascript": "a\nb",
                        "application/json": {"a": [1, 1.5, 1e300, 1e-7, 10**30, -0.0], "": {}},
                        "application/x+json": "a\nb",
                        "application/pdf": "QUJD\nQUJD",
                    },
                    metadata={"image/png": {"width": 1}},
                ),
                new_output("execute_result", data={}, execution_count=3),
                new_output("error", ename="E", evalue="", traceback=["a\nb", "\x1b[31m"]),
            ],
        ),
        new_code_cell(""),
    ],
)
# As old kernels sent figures.
MANY_KINDS.cells[1].outputs[2].data["image/gif"] = b"QUJD"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_text_of_a_notebook_of_ours_is_nbformats(path):
    notebook = nbformat.read(path, as_version=4)
    assert text_of(notebook) == nbformat.v4.writes(notebook)


def test_the_text_of_every_kind_of_output_is_nbformats_and_the_notebook_is_left_as_it_was():
    before = copy.deepcopy(MANY_KINDS)
    assert text_of(MANY_KINDS) == nbformat.v4.writes(MANY_KINDS)
    assert before == MANY_KINDS


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), "\ud800"], ids=repr)
def test_what_is_no_strict_json_is_written_as_nbformat_does(odd):
    notebook = new_notebook(metadata={"odd": odd})
    assert text_of(notebook) == nbformat.v4.writes(notebook)
