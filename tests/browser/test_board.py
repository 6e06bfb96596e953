"""All runs in one cell, live: what is answered elsewhere is seen here, and answered here."""

import pytest
from playwright.sync_api import expect
from support.notebooks import notebook_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAYMENT = """%%durable_workflow Payment
async def run(ctx, order):
    await ctx.promise("approved")
    return "captured"
"""
SHOP = """%%durable_service Shop
from datetime import timedelta

async def pick(ctx, what):
    await ctx.sleep(timedelta(hours=3))

async def sell(ctx, what):
    return await ctx.generic_call("Shop", "pick", b'"tea"')

async def refuse(ctx, what):
    from nbdurable import TerminalError
    raise TerminalError(f"{what} is sold out")
"""


@pytest.fixture
def notebook():
    return notebook_of(
        load="%load_ext nbdurable",
        define=PAYMENT,
        submit='for key in ("ada", "bob"):\n    Payment[key].run({})',
        shop=SHOP,
        sell='Shop.sell("tea"); Shop.refuse("rum")',
        board="%durable ls",
        approve="%durable approve ada",
    )


@pytest.fixture
def board(lab):
    return lab.page.get_by_role("region", name="Durable runs")


def row(board, target):
    return board.get_by_role("row").filter(has=board.page.get_by_text(target, exact=True)).first


def test_the_board_is_live_and_filtered_where_it_is_shown(lab, board):
    lab.run("load", "define", "submit", "board")
    ada, bob = row(board, "Payment/ada/run"), row(board, "Payment/bob/run")
    expect(ada).to_contain_text("waits for 'approved'")
    expect(ada).to_contain_text("%durable approve Payment/ada")
    expect(board.get_by_role("status")).to_contain_text("2 runs · 2 waiting for you")
    lab.run("approve")
    expect(ada).to_contain_text("succeeded")
    board.get_by_label("Which runs").select_option("unfinished")
    expect(ada).to_have_count(0)
    expect(bob).to_be_visible()
    board.get_by_label("Runs whose name").press_sequentially("nobody")
    expect(bob).to_have_count(0)
    assert "Payment/ada/run" in lab.text("board"), "what is saved needs no kernel"


def test_the_board_says_what_wakes_each_and_who_waits_for_you_comes_first(lab, board):
    lab.run("load", "define", "submit", "shop", "sell", "board")
    sale, wait = row(board, "Shop/sell"), row(board, "Shop/pick")
    expect(sale).to_contain_text("call to Shop/pick")
    expect(wait).to_contain_text("timer at")
    expect(row(board, "Payment/ada/run")).to_contain_text("promise 'approved'")
    targets = board.locator("tbody .nbd-name")
    # Older than the others, but somebody is waited for.
    expect(targets.nth(0)).to_have_text("Payment/ada/run")
    expect(targets.nth(1)).to_have_text("Payment/bob/run")
    board.scroll_into_view_if_needed()
    lab.shot("board")
    board.get_by_label("Of which service").select_option("Shop")
    expect(row(board, "Payment/ada/run")).to_have_count(0)
    expect(sale).to_be_visible()


def test_a_run_is_opened_answered_and_started_again_on_the_board(lab, board):
    lab.run("load", "define", "submit", "shop", "sell", "board")
    board.get_by_role("button", name="Journal of Payment/bob/run").click()
    board.get_by_label("Comment, or reason to reject approved").fill("as agreed")
    board.get_by_role("button", name="Approve approved of Payment/bob/run").click()
    journal = board.get_by_role("table", name="Journal entries")
    expect(journal).to_contain_text("(notebook) at")
    expect(journal).to_contain_text("“as agreed”")
    expect(row(board, "Payment/bob/run")).to_contain_text("succeeded")
    lab.shot("board-opened")
    # What has ended without success is tried again by one click, as a new run.
    board.get_by_role("button", name="Journal of Shop/refuse").click()
    # The other journal stays until the kernel has answered.
    expect(
        board.get_by_role("button", name="Journal of Shop/refuse", expanded=True)
    ).to_be_visible()
    board.get_by_role("button", name="as curl").click()
    expect(board.locator("pre")).to_contain_text('/Shop/refuse/send -H "authorization: Bearer')
    board.get_by_role("button", name="Restart Shop/refuse").click()
    refused = board.get_by_role("row").filter(has_text="Shop/refuse")
    expect(refused.filter(has_text="failed")).to_have_count(2)
    # And from where it failed, with what was recorded before.
    board.get_by_role("button", name="Restart from entry 1").click()
    expect(refused.filter(has_text="failed")).to_have_count(3)
    board.get_by_role("button", name="Journal of Shop/refuse", expanded=True).click()
    expect(journal).to_have_count(0)
