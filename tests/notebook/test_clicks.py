"""What a click in a page is answered: each is done once, and for the run that was clicked."""

from __future__ import annotations

from typing import Any

import pytest

from nbdurable.notebook.board import LIVE_MAX

pytestmark = pytest.mark.slow

# A click that cannot be late, however busy the machine is.
NEVER_LATE_MS = 10**15
FLOWS = """%%durable_service Shop
async def refuse(ctx, what):
    from nbdurable import TerminalError
    raise TerminalError(f"{what} is sold out")

async def wait(ctx, what):
    await ctx.promise("sent")
"""
PAYMENT = """%%durable_workflow Payment
async def run(ctx, order):
    return await ctx.promise("approved").value()
"""
FIND_BOARDS = """
import ipywidgets
from nbdurable.notebook.widgets.board import BoardWidget
known = ipywidgets.widgets.widget._instances.values()
boards = [widget for widget in known if isinstance(widget, BoardWidget)]
print(*[widget.comm.comm_id for widget in boards])
"""
STATUSES = """from nbdurable import durable
for row in durable.sql("select target, status from sys_invocation order by created_at").rows:
    print(*row)"""


class Page:
    """One widget of a kernel, as a page has it."""

    def __init__(self, kernel: Any, comm_id: str) -> None:
        self.kernel = kernel
        self.comm_id = comm_id
        self.click_count = 0

    def say(self, content: dict[str, Any]) -> None:
        self.kernel.click(self.comm_id, content)

    def click(self, shown: str, name: str, **more: Any) -> list[bool]:
        """A deed, and whether each of its answers says that it is done."""
        self.click_count += 1
        re = f"click {self.click_count}"
        message = {"type": "deed", "name": name, "at_ms": NEVER_LATE_MS, "shown": shown}
        self.say({**message, "re": re, **more})
        answers: list[bool] = []
        while not any(answers):
            told = self.next_of("comm_msg")["data"]
            if told.get("content", {}).get("re") == re:
                answers.append(told["content"]["is_done"])
        return answers

    def wait_until_open(self, run: str) -> None:
        while True:
            state = self.next_of("comm_msg")["data"].get("state", {})
            if state.get("picture", {}).get("id") == run:
                return

    def next_of(self, kind: str) -> dict[str, Any]:
        while True:
            message = self.kernel.client.get_iopub_msg(timeout=60)
            content = message["content"]
            if message["header"]["msg_type"] == kind and content["comm_id"] == self.comm_id:
                return content


@pytest.fixture
def kernel(start_kernel):
    kernel = start_kernel()
    kernel.run("%load_ext nbdurable")
    kernel.run(FLOWS)
    kernel.run(PAYMENT)
    return kernel


def test_a_click_is_answered_whatever_was_said_before(kernel):
    """A page that hears nothing asks the Jupyter server, which would do it a second time."""
    run = kernel.run('h = Payment["a"].run(1)\nprint(h.id)\nh').split()[0]
    page = Page(kernel, kernel.journal_comm())
    # The second time it is said in the same words, so that nothing is drawn.
    assert page.click(run, "resume") == page.click(run, "resume") == [False, True]
    # The last click of a run, which is over before it is answered, and one after that.
    assert page.click(run, "kill") == [False, True]
    assert page.click(run, "restart") == [False, True]


def test_on_a_board_a_click_is_for_the_run_that_was_clicked(kernel):
    """What is opened meanwhile, from another page of the same kernel, is not meant."""
    sent = "print(Payment[{0!r}].run(1).id)"
    ada, bob = (kernel.run(sent.format(key)).strip() for key in ("ada", "bob"))
    kernel.run("%durable ls")
    page = Page(kernel, kernel.run(FIND_BOARDS).strip())
    page.say({"type": "show", "run": ada})
    page.say({"type": "show", "run": bob})
    page.wait_until_open(bob)
    assert page.click(ada, "kill") == [True], "refused"
    assert "was closed just before" in kernel.run('print(boards[0].board["said"])')
    assert page.click(bob, "kill") == [False, True]
    assert kernel.run('print(Payment["ada"].run(1).status)').strip() == "running"
    # What is opened next forgets what was said.
    page.say({"type": "show", "run": ada})
    page.wait_until_open(ada)
    assert kernel.run('print(repr(boards[0].board["said"]))').strip() == "''"


def test_a_board_that_is_stopped_says_so_and_still_hears_clicks(kernel):
    run = kernel.run('print(Payment["ada"].run(1).id)').strip()
    kernel.run("%durable ls")
    page = Page(kernel, kernel.run(FIND_BOARDS).strip())
    page.say({"type": "show", "run": run})
    page.wait_until_open(run)
    for _ in range(LIVE_MAX):
        kernel.run("%durable ls")
    assert page.click(run, "resume") == [False, True]
    assert "run its cell again" in kernel.run('print(boards[0].board["said"])')
