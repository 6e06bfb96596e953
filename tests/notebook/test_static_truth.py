"""A saved notebook shows what became of its runs, as HTML and as text: no kernel, no network."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

CELLS = {
    "load": "%load_ext nbdurable",
    "payment": """%%durable_workflow Payment
async def run(ctx, order):
    print("reserving <b>now</b>")
    await ctx.run_typed("reserve", lambda: order["amount"])
    await ctx.promise("approved")
    await ctx.run_typed("capture", lambda: "captured")
    return {"captured": order["amount"]}
""",
    "submit": 'h = Payment["order-456"].run({"amount": 100})\nh',
    "wait": 'Payment["order-457"].run({"amount": 7})',
    "list": "%durable ls",
    "approve": (
        "import asyncio\n"
        "while 'waiting' not in str(h.journal):\n"
        "    await asyncio.sleep(0.02)\n"
        "%durable approve order-456"
    ),
    # The last cell: nothing is heard of after it.
    "result": "await h",
}

# Whatever wants the network fails, and loudly.
OFFLINE = """
import socket, sys
def refuse(*_): raise OSError("there is no network")
socket.socket.connect = refuse
socket.create_connection = refuse
from nbconvert.nbconvertapp import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A notebook that was executed, and its file."""
    folder = tmp_path_factory.mktemp("saved")
    cells = [nbformat.v4.new_code_cell(source, id=name) for name, source in CELLS.items()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources=resources).execute()
    path = folder / "saved.ipynb"
    nbformat.write(notebook, path)
    return path


def test_the_cell_that_submitted_shows_the_last_picture_as_html_and_as_text(saved):
    """The run ended in a later cell, and in the last one, after which nobody listens."""
    shown = picture(saved, "submit")
    assert set(shown) == {"text/html", "text/plain"}
    lines = shown["text/plain"].splitlines()
    assert lines[0] == "Payment/order-456/run  ✓ succeeded"
    assert [line.split()[2:4] for line in lines if re.match(r"\s+\d+ ", line)] == [
        ["Input", "run"],
        ["Run", "reserve"],
        ["GetPromise", "approved"],
        ["Run", "capture"],
        ["Output", '{"captured":100}'],
    ]
    assert "| reserving <b>now</b>" in shown["text/plain"]


def test_a_run_that_still_waits_is_shown_with_what_it_waits_for(saved):
    shown = picture(saved, "wait")
    for mime in ("text/html", "text/plain"):
        assert "approved" in shown[mime]
        assert "%durable approve Payment/order-457" in shown[mime]


def test_nothing_is_saved_that_would_be_drawn_in_place_of_the_picture(saved):
    """State of widgets would be, and nbconvert draws that with scripts from the network."""
    notebook = nbformat.read(saved, as_version=4)
    assert "widgets" not in notebook.metadata
    kinds = {
        kind for cell in notebook.cells for one in cell.outputs for kind in one.get("data", {})
    }
    assert kinds == {"text/html", "text/plain"}


def test_nbconvert_as_it_is_called_by_everybody_shows_both(saved):
    page = converted(saved)
    assert "✓ succeeded" in page.text
    assert "%durable approve Payment/order-457" in page.text
    # Its template brings scripts for formulas, whatever is in the notebook; none for widgets.
    assert [address for address in page.fetched if "widget" in address] == []


def test_nbconvert_shows_both_without_network_and_without_a_script(saved):
    page = converted(saved, "--template", "basic")
    assert "Payment/order-456/run" in page.text
    assert "✓ succeeded" in page.text
    assert "capture" in page.text
    assert "reserving <b>now</b>" in page.text, "what handlers print is text"
    assert "%durable approve Payment/order-457" in page.text
    # The picture is all there: nothing in it is fetched, and nothing runs.
    assert page.fetched == []
    assert page.tables >= 2


def converted(saved, *options):
    subprocess.run(
        [sys.executable, "-c", OFFLINE, "--to", "html", *options, saved.name],
        cwd=saved.parent,
        check=True,
        capture_output=True,
        timeout=100,
    )
    return Page(saved.with_suffix(".html").read_text(encoding="utf-8"))


class Page(HTMLParser):
    """What a browser without network and scripts would show."""

    def __init__(self, source):
        super().__init__()
        self.text = ""
        self.fetched = []
        self.tables = 0
        self._hidden = 0
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self._hidden += tag in ("script", "style")
        self.tables += tag == "table"
        for name, value in attrs:
            if (name == "src" or (tag == "link" and name == "href")) and value:
                self.fetched.append(value)

    def handle_endtag(self, tag):
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._hidden:
            self.text += data


def picture(saved, cell_id):
    notebook = nbformat.read(saved, as_version=4)
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    (shown,) = [output.data for output in cell.outputs if output.output_type == "display_data"]
    return shown
