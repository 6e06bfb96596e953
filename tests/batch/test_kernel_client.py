"""When the kernel of a run counts as ready."""

from __future__ import annotations

import queue

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from traitlets import Type

from nbdurable.batch.client import DurableClient
from nbdurable.batch.kernel_client import PromptClient
from nbdurable.batch.manager import TrueManager

REPLY = {"msg_type": "kernel_info_reply", "content": {"protocol_version": "5.4"}}
WORD = {"msg_type": "status", "content": {"execution_state": "busy"}}


class Channel:
    """One to a kernel that says this, and then nothing."""

    def __init__(self, *said) -> None:
        self.said = list(said)
        self.sent: list[str] = []

    def send(self, message) -> None:
        self.sent.append(message["msg_type"])

    async def get_msg(self, timeout):  # noqa: ASYNC109 - as jupyter_client's.
        assert timeout
        if not self.said or self.said[0] is None:
            del self.said[:1]
            raise queue.Empty
        return self.said.pop(0)


class Alive(PromptClient):
    """Its kernel is alive so often."""

    looks = 100

    async def is_alive(self) -> bool:
        self.looks -= 1
        return self.looks >= 0


@pytest.fixture
def ready():
    """Waits for a kernel that says these on its two channels, and returns what it was sent."""

    def wait(shell, iopub, *, looks=100, timeout_s=None) -> list[str]:
        client = Alive()
        client.looks = looks
        client._shell_channel, client._iopub_channel = shell, iopub
        run_sync(client.wait_for_ready)(timeout=timeout_s)
        return shell.sent

    return wait


def test_a_kernel_is_ready_once_it_has_answered_on_both_channels(ready):
    """jupyter_client waits for 0.2 s of silence besides, which each run would pay for."""
    iopub = Channel(WORD, WORD, WORD)
    assert ready(Channel(REPLY), iopub) == ["kernel_info_request"]
    assert len(iopub.said) == 2


def test_a_kernel_is_asked_again_until_it_has(ready):
    """It may have answered before anybody was heard on iopub, or not be there yet."""
    asked = ready(Channel(None, REPLY, WORD, REPLY), Channel(None, WORD))
    assert asked == ["kernel_info_request"] * 4


def test_a_kernel_that_never_answers_fails_in_jupyters_words(ready):
    with pytest.raises(RuntimeError, match="Kernel died before replying to kernel_info"):
        ready(Channel(), Channel(), looks=2)
    with pytest.raises(RuntimeError, match="Kernel didn't respond in 0 seconds"):
        ready(Channel(), Channel(), timeout_s=0)


def test_a_run_has_such_a_client_unless_its_manager_was_told_which():
    notebook = nbformat.v4.new_notebook(metadata={"papermill": {}})

    def made_by(manager_class):
        client = DurableClient(
            TrueManager(notebook, progress_bar=False),
            kernel_name="python3",
            kernel_manager_class=manager_class,
        )
        return client.create_kernel_manager().client_factory

    class Other(AsyncKernelManager):
        client_factory = Type(klass=Alive)

    assert (made_by(AsyncKernelManager), made_by(Other)) == (PromptClient, Alive)
