"""What axe-core finds in what is drawn: nothing that would keep anybody out, in either theme."""

import pytest
from playwright.sync_api import expect
from support.notebooks import notebook_of
from support.npm import install

pytestmark = [pytest.mark.browser, pytest.mark.slow]

AXE = "axe-core@4.10.3"
# Serious and critical: who cannot see, or has no mouse, cannot go on.
FOUND = """() => axe.run(".nbdurable").then((found) => ({
    looked_at: found.passes.map((one) => one.id),
    found: found.violations
        .filter((one) => ["serious", "critical"].includes(one.impact))
        .map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" | ")}`),
}))"""
ORDERS = """%%durable_workflow Orders
from dataclasses import dataclass
from typing import Literal
from nbdurable import durable

@dataclass
class Decision:
    amount: float
    reason: Literal["late", "broken"]

async def run(ctx, count):
    for n in range(count):
        await ctx.run_typed(f"count {n}", lambda n: n, n=n)
    print("all are counted")
    if count:
        await ctx.promise("sent")
    return await durable.approval("refund", Decision, title="How much?", context={"count": count})
"""


@pytest.fixture
def notebook():
    return notebook_of(
        load="%load_ext nbdurable",
        define=ORDERS,
        asks='Orders["a"].run(0)',
        waits='Orders["b"].run(15)',
        board="%durable ls",
    )


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_journal_form_and_board_keep_nobody_out(lab, tmp_path):
    install(AXE, tmp_path / "npm")
    lab.run("load", "define", "asks", "waits", "board")
    # Until nothing moves any more, and the board is drawn.
    board = lab.page.get_by_role("region", name="Durable runs")
    expect(board.get_by_role("status")).to_contain_text("2 waiting for you")
    expect(lab.page.locator(".nbd-chip").filter(has_text="waits for 'sent'").first).to_be_visible()
    expect(lab.page.get_by_role("form", name="refund of Orders/a/run")).to_be_visible()
    expect(lab.page.get_by_role("searchbox", name="Filter journal entries").last).to_be_visible()
    lab.page.add_script_tag(path=tmp_path / "npm/node_modules/axe-core/axe.min.js")
    lab.shot("accessible")
    seen = lab.page.evaluate(FOUND)
    assert seen["found"] == []
    assert {"button-name", "color-contrast", "label", "select-name"} <= set(seen["looked_at"])
