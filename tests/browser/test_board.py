"""All runs in one cell, live: what is answered elsewhere is seen here."""

import pytest
from playwright.sync_api import expect
from support.notebooks import notebook_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAYMENT = """%%durable_workflow Payment
async def run(ctx, order):
    await ctx.promise("approved")
    return "captured"
"""


@pytest.fixture
def notebook():
    return notebook_of(
        load="%load_ext nbdurable",
        define=PAYMENT,
        submit='for key in ("ada", "bob"):\n    Payment[key].run({})',
        board="%durable ls",
        approve="%durable approve ada",
    )


def test_the_board_is_live_and_filtered_where_it_is_shown(lab):
    lab.run("load", "define", "submit", "board")
    board = lab.page.get_by_role("region", name="Durable runs")
    ada = board.get_by_role("row").filter(has_text="Payment/ada/run")
    bob = board.get_by_role("row").filter(has_text="Payment/bob/run")
    expect(ada).to_contain_text("waits for 'approved'")
    expect(ada).to_contain_text("%durable approve Payment/ada")
    expect(board.get_by_role("status")).to_contain_text("2 runs")
    board.scroll_into_view_if_needed()
    lab.shot("board")
    lab.run("approve")
    expect(ada).to_contain_text("succeeded")
    board.get_by_label("Which runs").select_option("unfinished")
    expect(ada).to_have_count(0)
    expect(bob).to_be_visible()
    board.get_by_label("Runs whose name").press_sequentially("nobody")
    expect(bob).to_have_count(0)
    assert "Payment/ada/run" in lab.text("board"), "what is saved needs no kernel"
