"""What happens to people in a day: they interrupt, restart, reload, and correct what they wrote."""

import pytest
from playwright.sync_api import expect
from support.notebooks import notebook_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAYMENT = """%%durable_workflow Payment
async def run(ctx, order):
    await ctx.run_typed("reserve", lambda: print("reserved once"))
    await ctx.promise("approved")
    return await ctx.run_typed("capture", lambda: "captured")
"""
BROKEN = """%%durable_workflow Report
async def run(ctx, order):
    total = await ctx.run_typed("count", lambda: 41)
    await ctx.promise("approved")
    return total + undefined_name
"""


@pytest.fixture
def notebook():
    return notebook_of(
        load="%load_ext nbdurable",
        define=PAYMENT,
        submit='Payment["a"].run({})',
        wait='await Payment["a"].run({})',
        define_report=BROKEN,
        report='Report["r"].run({})',
        approve="%durable approve Report/r",
        after="print('the kernel is', 'free')",
        show="%durable show a",
    )


def approve(lab, run="Payment/a/run"):
    return lab.page.get_by_role("button", name=f"Approve approved of {run}").first


def test_interrupting_a_wait_lets_go_and_the_run_goes_on(lab):
    """The cell is free, says how to come back, and a click still answers."""
    lab.run("load", "define", "submit")
    lab.start("wait")
    expect(approve(lab)).to_be_visible()
    # It says so when it begins to wait, and before that nothing can be detached.
    lab.wait_for_text("wait", "attached to the run of a")
    lab.interrupt()
    lab.wait_for_text("wait", "detached; run")
    lab.shot("interrupted")
    lab.run("after")
    assert "the kernel is free" in lab.text("after")
    approve(lab).click()
    lab.wait_for_text("submit", '"captured"')


def test_a_click_while_another_cell_waits_for_the_run(lab):
    lab.run("load", "define", "submit")
    lab.start("wait")
    lab.wait_for_text("wait", "attached to the run of a")
    approve(lab).click()
    lab.wait_for_text("wait", "'captured'")
    lab.wait_for_text("submit", "succeeded")


def test_a_run_goes_on_after_its_kernel_was_restarted(lab):
    """Its cells are run again, and no finished step is."""
    lab.run("load", "define", "submit")
    expect(approve(lab)).to_be_visible()
    lab.restart_kernel()
    lab.run("load")
    assert "Payment/a waits for 'approved'" in lab.text("load")
    assert "its code is not loaded" in lab.text("load")
    lab.shot("restarted")
    lab.run("define", "submit")
    assert "1 run goes on" in lab.text("define")
    approve(lab).click()
    lab.wait_for_text("submit", '"captured"')
    lab.run("show")
    assert lab.text("show").count("reserved once") == 1
    lab.shot("went-on-after-restart")


def test_a_page_that_is_loaded_anew_still_asks(lab):
    """The kernel has not noticed, and the widget is back, live.

    JupyterLab forgets with the page which output has which display id: what is saved below the
    widget stays as it was, until the cell is run again.
    """
    lab.run("load", "define", "submit")
    expect(approve(lab)).to_be_visible()
    lab.reload()
    expect(approve(lab)).to_be_visible()
    lab.shot("reloaded")
    approve(lab).click()
    journal = lab.page.get_by_role("table", name="Journal entries")
    expect(journal).to_contain_text('"captured"')
    expect(approve(lab)).to_have_count(0)
    lab.shot("reloaded-and-answered")
    lab.run("submit")
    assert '"captured"' in lab.text("submit")


def test_a_corrected_cell_finishes_the_run_that_failed(lab):
    """The same run, from its last step, once its cell is right; healthy ones stay as they were."""
    lab.run("load", "define", "submit", "define_report", "report")
    lab.wait_for_text("report", "waits for 'approved'")
    lab.run("approve")
    lab.wait_for_text("report", "undefined_name")
    lab.shot("failing")
    lab.edit("define_report", BROKEN.replace("undefined_name", "1"))
    lab.run("define_report")
    assert "1 failed run goes on with it" in lab.text("define_report")
    lab.wait_for_text("report", "succeeded", "42")
    lab.shot("corrected")
    lab.edit("define", PAYMENT.replace('"captured"', '"captured otherwise"'))
    lab.run("define")
    assert "1 healthy run stays on revision 1" in lab.text("define")
    approve(lab).click()
    lab.wait_for_text("submit", '"captured"')
