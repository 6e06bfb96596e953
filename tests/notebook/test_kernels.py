"""Real kernels: killed, interrupted, and two of them on one journal."""

import time

import pytest

pytestmark = [pytest.mark.kill, pytest.mark.slow]

PAYMENT = """%%durable_workflow Payment
from pathlib import Path

def reserve(amount):
    with Path("reserved").open("a") as file:
        file.write("x")
    return amount

async def run(ctx, order):
    amount = await ctx.run_typed("reserve", reserve, amount=order["amount"])
    await ctx.promise("approved")
    return {"captured": amount}
"""


SAID = """
import ipywidgets
for widget in list(ipywidgets.widgets.widget._instances.values()):
    if hasattr(widget, "picture"):
        print(widget.picture["said"])
"""
LATE = """%%durable_service Late
async def give(ctx, n):
    return {"late": n}
"""


def test_a_run_survives_its_kernel_and_goes_on_when_its_cell_is_run_again(start_kernel, tmp_path):
    """What the project is for: kill -9, and the finished step is not run again."""
    first = start_kernel()
    first.run("%load_ext nbdurable")
    first.run(PAYMENT)
    first.run('h = Payment["order-456"].run({"amount": 100})')
    wait_for_promise(first)
    first.kill()
    second = start_kernel()
    greeted = second.run("%load_ext nbdurable")
    assert "1 not finished" in greeted
    assert (
        "Payment/order-456 waits for 'approved' – its code is not loaded: "
        "re-run the cell that defines Payment" in greeted
    )
    assert second.run(PAYMENT).strip() == "Payment: unchanged (revision 1); 1 run goes on"
    assert "approved 'approved' of Payment/order-456" in second.run("%durable approve order-456")
    result = second.run('await Payment["order-456"].run({"amount": 100})')
    assert "attached to the run of order-456" in result
    assert "{'captured': 100}" in result
    assert (tmp_path / "reserved").read_text() == "x"


def test_interrupt_detaches_and_the_run_goes_on(start_kernel):
    """An idle loop does not notice an interrupt until it wakes, so waiting is a heartbeat.

    Without one these cells would wait for ever: nothing else wakes them.
    """
    kernel = start_kernel()
    kernel.run("%load_ext nbdurable")
    kernel.run(PAYMENT)
    kernel.run('h = Payment["order-456"].run({"amount": 100})')
    wait_for_promise(kernel)
    for wait in ("await h", "h.result()"):
        shown = kernel.run_interrupted(wait)
        assert "detached; run inv_" in shown
        assert "goes on; %durable show inv_" in shown
        assert "nbdurable/" not in shown
    assert kernel.run("h.status") == "'running'"


def test_a_second_kernel_joins_the_first_and_takes_over_when_that_is_killed(start_kernel, tmp_path):
    """Two notebooks of one project: no lock error, and neither needs the other to go on."""
    first, second = start_kernel(), start_kernel()
    first.run("%load_ext nbdurable")
    first.run(PAYMENT)
    first.run('h = Payment["order-456"].run({"amount": 100})')
    wait_for_promise(first)
    greeted = second.run("%load_ext nbdurable")
    assert "nbdurable: joined ./.nbdurable, which " in greeted
    assert f"(pid {first.manager.provisioner.pid})" in greeted
    assert "Payment/order-456 waits for 'approved'" in greeted
    assert "order-456" in second.run("%durable ls")
    second.run(LATE)
    assert "{'late': 7}" in second.run("await Late.give(7)")
    first.kill()
    assert second.run(PAYMENT).strip() == "Payment: unchanged (revision 1); 1 run goes on"
    assert "approved 'approved' of Payment/order-456" in second.run("%durable approve order-456")
    assert "{'captured': 100}" in second.run('await Payment["order-456"].run({"amount": 100})')
    assert (tmp_path / "reserved").read_text() == "x"
    third = start_kernel()
    assert f"(pid {second.manager.provisioner.pid})" in third.run("%load_ext nbdurable")


TALK = """%%durable_workflow Talk
import sys

async def run(ctx, request):
    print("before")

    def step():
        print("in a step", file=sys.stderr)

    await ctx.run_typed("step", step)
    await ctx.promise("approved")
    print("after")
"""


def test_what_a_handler_prints_is_shown_once_and_outlives_its_kernel(start_kernel):
    """In the cell that has submitted it, while there is one; in the journal always."""
    first = start_kernel()
    first.run("%load_ext nbdurable")
    first.run(TALK)
    shown = first.run(
        'h = Talk["a"].run(None)\nimport asyncio\n'
        "while 'GetPromise' not in str(h.journal): await asyncio.sleep(0.02)"
    )
    assert (shown.count("before"), shown.count("in a step")) == (1, 1)
    first.kill()
    second = start_kernel()
    second.run("%load_ext nbdurable")
    assert "before" not in second.run(TALK)
    second.run("%durable approve a")
    assert "before" not in second.run('await Talk["a"].run(None)')
    journal = second.run("%durable show a")
    said = [line.strip() for line in journal.splitlines() if line.strip().startswith("|")]
    assert said == ["| before", "| in a step", "| after"]


@pytest.mark.parametrize(
    # What is clicked in an hour is not late, however long the kernel takes to hear it.
    ("late_s", "said", "is_paused"),
    [(-3_600, "paused", True), (60, "click again", False)],
)
def test_a_pause_that_is_heard_late_is_not_done_any_more(start_kernel, late_s, said, is_paused):
    """The Jupyter server may have done it meanwhile, and somebody have resumed the run since."""
    kernel = start_kernel()
    kernel.run("%load_ext nbdurable")
    kernel.run(PAYMENT)
    kernel.run('h = Payment["order-456"].run({"amount": 100})\nh')
    at_ms = int((time.time() - late_s) * 1000)
    kernel.click(kernel.journal_comm(), {"type": "deed", "name": "pause", "at_ms": at_ms})
    deadline = time.monotonic() + 20
    while said not in (told := kernel.run(SAID)):
        assert time.monotonic() < deadline, told
    assert ("paused" in kernel.run("h.status")) == is_paused


STEP = """%%durable_step train --out model
import sys
from pathlib import Path
with Path("trained").open("a") as file:
    file.write("x")
print("training")
print("slowly", file=sys.stderr)
class Model:
    weights = [1, 2]
model = Model()
model.weights"""


def test_a_step_cell_is_restored_in_the_next_kernel_with_what_it_put_out(start_kernel, tmp_path):
    """Its model's class was defined by the cell itself, which is not run again."""
    first = start_kernel()
    first.run("%load_ext nbdurable")
    assert "train: ran in" in first.run(STEP)
    first.kill()
    second = start_kernel()
    second.run("%load_ext nbdurable")
    shown = second.run(STEP)
    assert "train: restored model" in shown
    for put_out in ("training", "slowly", "[1, 2]"):
        assert shown.count(put_out) == 1, shown
    assert "[1, 2]" in second.run("model.weights")
    assert (tmp_path / "trained").read_text() == "x"


def wait_for_promise(kernel) -> None:
    """The step has to be finished before the kernel may die."""
    deadline = time.monotonic() + 20
    while "waits for 'approved'" not in kernel.run("h"):
        assert time.monotonic() < deadline
