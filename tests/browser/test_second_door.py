"""A click that the kernel does not hear: the Jupyter server does what was asked."""

import pytest
from playwright.sync_api import expect
from support.notebooks import notebook_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAY = """%%durable_workflow Pay
async def run(ctx, amount):
    return f"{amount} is {await ctx.promise('approved')}"
"""


# Computes until it is told to end, so that nothing here depends on how fast the machine is.
BLOCKS = """import time
from pathlib import Path
while not Path("enough").exists():
    time.sleep(0.05)
"""


@pytest.fixture
def notebook():
    return notebook_of(
        load="%load_ext nbdurable",
        define=PAY,
        submit='Pay["a"].run(100)',
        blocks=BLOCKS,
        result='await Pay["a"].run(100)',
    )


def approve(lab):
    lab.page.get_by_role("button", name="Approve approved of Pay/a/run").click()


def test_a_click_is_heard_while_the_kernel_computes(lab):
    lab.run("load", "define", "submit")
    lab.start("blocks")
    lab.wait_until_begun("blocks")
    approve(lab)
    # The kernel still computes when its own engine says that the run is over.
    lab.wait_for_text("submit", "100 is True")
    assert not (lab.folder / "enough").exists()
    (lab.folder / "enough").touch()
    # Nor is it disturbed by the click that it hears now.
    lab.run("result")
    lab.wait_for_text("result", "100 is True")
    assert "rror" not in lab.text("blocks") + lab.text("result")


def test_a_click_is_kept_when_there_is_no_kernel(lab):
    lab.run("load", "define", "submit")
    lab.shut_down_kernel()
    approve(lab)
    expect(lab.page.locator(".nbd-sent")).to_contain_text("approved 'approved' of Pay/a")
    lab.shot("second-door")
    lab.start_kernel()
    lab.run("load", "define")
    lab.run("result")
    lab.wait_for_text("result", "100 is True")
