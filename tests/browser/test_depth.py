"""How far one can look from a live journal: runs that were called, whole values, old entries."""

import pytest
from playwright.sync_api import expect
from support.notebooks import notebook_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SHOP = """%%durable_service Shop
async def pick(ctx, what):
    return await ctx.run_typed("look for it", lambda: f"{what} is on shelf 7")
"""
ORDER = """%%durable_workflow Order
async def run(ctx, count):
    await ctx.run_typed("letter", lambda: "x" * 5_000 + " ends here")
    await ctx.generic_call("Shop", "pick", b'"tea"')
    for n in range(count):
        await ctx.run_typed(f"parcel {n}", lambda: n)
    await ctx.promise("sent")
"""


@pytest.fixture
def notebook():
    return notebook_of(
        load="%load_ext nbdurable",
        shop=SHOP,
        define=ORDER,
        short='Order["a"].run(1)',
        long='Order["b"].run(300)',
    )


def test_called_runs_and_whole_values_are_opened_below_their_rows(lab):
    lab.run("load", "shop", "define", "short")
    journal = lab.page.get_by_role("table", name="Journal entries", exact=True)
    expect(journal).to_contain_text("GetPromise")
    lab.page.get_by_role("button", name="Entries of Shop/pick").click()
    inner = lab.page.get_by_role("table", name="Journal entries of Shop/pick")
    expect(inner).to_contain_text("look for it")
    expect(inner).to_contain_text("tea is on shelf 7")
    expect(journal).not_to_contain_text("ends here")
    lab.page.get_by_role("button", name="All that entry 1 holds").click()
    expect(journal).to_contain_text("ends here")
    lab.shot("depth")


def test_entries_of_long_ago_are_shown_and_found(lab):
    lab.run("load", "shop", "define", "long")
    rows = lab.page.get_by_role("table", name="Journal entries", exact=True).get_by_role("row")
    expect(rows.filter(has_text="GetPromise")).to_have_count(1)
    expect(rows.filter(has_text="letter")).to_have_count(0)
    lab.page.get_by_role("searchbox", name="Filter journal entries").fill("letter")
    expect(rows.filter(has_text="letter")).to_be_visible()
    lab.page.get_by_role("searchbox", name="Filter journal entries").fill("")
    earlier = lab.page.get_by_role("button", name="earlier entries")
    while earlier.is_visible():
        before = rows.count()
        earlier.click()
        expect(rows).not_to_have_count(before)
    expect(rows.filter(has_text="letter")).to_have_count(1)
    expect(rows.filter(has_text="Input")).to_have_count(1)
