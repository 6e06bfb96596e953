"""The kernel of a run, as its one client meets it."""

from __future__ import annotations

import nbformat
import pytest
from jupyter_core.utils import run_sync

from nbdurable.batch.client import DurableClient
from nbdurable.batch.manager import TrueManager


@pytest.fixture
def client():
    notebook = nbformat.v4.new_notebook(metadata={"papermill": {}})
    made = DurableClient(TrueManager(notebook, progress_bar=False), kernel_name="python3")
    made.launch()
    yield made
    made.let_go()


def test_a_kernel_is_ready_once_it_has_answered(client):
    """jupyter_client waits 0.2 s of silence longer, by which the last word has been thrown away."""
    client.start_new_kernel_client()
    states = []
    while "idle" not in states:
        message = run_sync(client.kc.iopub_channel.get_msg)(timeout=30)
        states.append(message["content"].get("execution_state"))
