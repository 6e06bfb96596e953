"""Two notebooks of one project: each runs its own handlers, both see all runs, on one journal."""

import pytest
from playwright.sync_api import expect
from support.notebooks import notebook_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def payment(name):
    return f"""%%durable_workflow {name}
async def run(ctx, order):
    await ctx.run_typed("reserve", lambda: order["amount"])
    await ctx.promise("approved")
    return f"captured {{order['amount']}}"
"""


def cells(name):
    return notebook_of(
        load="%load_ext nbdurable",
        define=payment(name),
        submit=f'{name}["a"].run({{"amount": 5}})',
        show="%durable show First/a",
        ls="%durable ls",
        die="import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    )


@pytest.fixture
def notebook():
    return cells("First")


def button(lab, run):
    return lab.page.get_by_role("button", name=f"Approve approved of {run}").first


def test_the_second_notebook_joins_the_first_and_goes_on_without_it(lab):
    """Its widgets are live over the link; and when the owner dies it has the journal itself."""
    lab.run("load", "define", "submit")
    expect(button(lab, "First/a/run")).to_be_visible()
    other = lab.beside(cells("Second"), "other")
    other.run("load", "define", "submit", "show")
    expect(button(other, "Second/a/run")).to_be_visible()
    # What one notebook runs, the other shows live, and answers.
    seen = button(other, "First/a/run")
    seen.scroll_into_view_if_needed()
    other.shot("joined")
    seen.click()
    lab.wait_for_text("submit", '"captured 5"')
    other.wait_for_text("show", '"captured 5"')
    lab.start("die")
    other.run("ls")
    assert "Second/a/run" in other.text("ls")
    answer = button(other, "Second/a/run")
    answer.scroll_into_view_if_needed()
    answer.click()
    other.wait_for_text("submit", '"captured 5"')
