"""`%%durable_run` in real kernels: killed in mid-run, clicked while it waits, interrupted."""

import pytest
from test_kernels import wait_for_promise

pytestmark = [pytest.mark.kill, pytest.mark.slow]

AGENT = """%%durable_run agent --key monday
from pathlib import Path
def call(n):
    with Path("called").open("a") as file:
        file.write(str(n))
    return n * factor
found = []
for n in (1, 2):
    found.append(await ctx.run_typed(f"call {n}", call, n=n))
print("asking")
approved = await ctx.promise("approved", type_hint=bool)
found.append(await ctx.run_typed("call 3", call, n=3))
found"""


def test_a_run_cell_goes_on_in_the_next_kernel_without_repeating_a_step(start_kernel, tmp_path):
    """Kill -9 in mid-run; the cell is run again, and has all its names as if nothing had been."""
    first = start_kernel()
    first.run("%load_ext nbdurable")
    first.run("factor = 10")
    begin(first)
    first.kill()
    second = start_kernel()
    greeted = second.run("%load_ext nbdurable")
    assert "agent/monday waits for 'approved'" in greeted
    assert "re-run the cell that defines agent" in greeted
    second.run("%durable approve agent/monday")
    # The factor is another: what is recorded does not change.
    second.run("factor = 1000")
    shown = second.run(AGENT)
    assert "agent: unchanged (revision 1); 1 run goes on; attached to the run that began" in shown
    assert "[10, 20, 3000]" in shown
    assert "(True, [10, 20, 3000], 2)" in second.run("approved, found, n")
    assert (tmp_path / "called").read_text() == "123"
    second.kill()
    third = start_kernel()
    third.run("%load_ext nbdurable")
    shown = third.run(AGENT)
    assert "agent: restored approved, found, n of" in shown
    assert "[10, 20, 3000]" in shown
    assert "(True, [10, 20, 3000])" in third.run("approved, found")
    assert (tmp_path / "called").read_text() == "123"


def test_a_click_arrives_while_the_cell_waits_for_it(start_kernel):
    """A magic that blocked would wait for ever for what it keeps from arriving."""
    kernel = start_kernel()
    kernel.run("%load_ext nbdurable")
    kernel.run("factor = 10")
    begin(kernel)
    comm_id = kernel.journal_comm()
    answer = {"type": "answer", "id": "approved", "value": True}
    shown = kernel.run(AGENT, begun=lambda: kernel.click(comm_id, answer))
    assert "[10, 20, 30]" in shown


def test_interrupt_detaches_and_the_cell_attaches_again(start_kernel, tmp_path):
    kernel = start_kernel()
    kernel.run("%load_ext nbdurable")
    kernel.run("factor = 10")
    begin(kernel)
    shown = kernel.run_interrupted(AGENT)
    assert "detached; run inv_" in shown
    assert "NameError" in kernel.run("found")
    kernel.run("%durable approve agent/monday")
    assert "[10, 20, 30]" in kernel.run(AGENT)
    assert (tmp_path / "called").read_text() == "123"


def begin(kernel) -> None:
    """Submit without waiting, until it asks."""
    line, _, body = AGENT.partition("\n")
    line = line.removeprefix("%%durable_run ")
    kernel.run(f"h = get_ipython().run_cell_magic('durable_run', {line!r}, {body!r})")
    wait_for_promise(kernel)
