"""What handlers put out in the cell that submitted them: bars that move, figures, once each."""

import pytest
from playwright.sync_api import expect
from support.notebooks import notebook_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SURVEY = """%%durable_workflow Survey
import time

import matplotlib.pyplot as plt
from tqdm import tqdm

def count(n):
    for _ in tqdm(range(n), desc="counting"):
        time.sleep(0.02)
    return n

def plot(n):
    plt.plot(range(n))
    plt.title("once")
    plt.show()

async def run(ctx, n):
    counted = await ctx.run_typed("count", count, n=n)
    await ctx.run_typed("plot", plot, n=counted)
    await ctx.promise("seen")
    return counted
"""


@pytest.fixture
def notebook():
    return notebook_of(
        load="%load_ext nbdurable\n%matplotlib inline",
        define=SURVEY,
        submit='Survey["a"].run(50)',
        show="%durable show a",
    )


def figures(lab):
    return [output for output in lab.outputs("submit") if "image/png" in output.get("data", {})]


def test_a_bar_moves_and_a_figure_is_drawn_once(lab):
    """While it runs, when its kernel is another, and in what is saved."""
    lab.run("load", "define", "submit")
    approve = lab.page.get_by_role("button", name="Approve seen of Survey/a/run")
    expect(approve).to_be_visible()
    journal = lab.page.get_by_role("table", name="Journal entries")
    # As a terminal shows it: the last state of the bar, and not each that it had.
    expect(journal).to_contain_text("counting: 100%")
    assert journal.inner_text().count("counting:") == 1
    # In the cell too: its first state is not left standing above the journal.
    lab.wait_for_text("submit", "counting: 100%")
    assert lab.text("submit").count("counting:   0%") == 0
    lab.wait_until(lambda: len(figures(lab)) == 1)
    journal.scroll_into_view_if_needed()
    lab.shot("output-bar-and-figure")
    # The run goes on in another kernel, which replays both steps.
    lab.restart_kernel()
    lab.run("load", "define", "submit")
    expect(approve).to_be_visible()
    approve.click()
    lab.wait_for_text("submit", "succeeded")
    assert figures(lab) == [], "replay draws nothing again"
    # What is saved comes in place of the widget, and then what was below that goes.
    lab.wait_until(lambda: lab.text("submit").count("counting: 100%") == 1)
    lab.run("show")
    assert "Figure size" in lab.text("show"), "the journal has it"
