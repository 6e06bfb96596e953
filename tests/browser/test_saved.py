"""A notebook that was saved while a run waits, opened again when its kernel is gone."""

import pytest
from playwright.sync_api import expect
from support.notebooks import notebook_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAYMENT = """%%durable_workflow Payment
async def run(ctx, order):
    await ctx.run_typed("reserve", lambda: print("reserved once"))
    await ctx.promise("approved")
    return "captured"
"""


@pytest.fixture
def notebook():
    return notebook_of(
        load="%load_ext nbdurable",
        define=PAYMENT,
        submit='Payment["a"].run({})',
    )


def test_a_saved_notebook_shows_what_was_and_is_live_again_when_it_is_run(lab):
    lab.run("load", "define", "submit")
    approve = lab.page.get_by_role("button", name="Approve approved of Payment/a/run")
    expect(approve).to_be_visible()
    lab.save()
    lab.shut_down_kernel()
    lab.reload()
    saved = lab.page.get_by_text("to do: %durable approve Payment/a")
    expect(saved).to_be_visible()
    expect(lab.page.get_by_text("Loading widget")).to_have_count(0)
    expect(lab.page.get_by_text("model not found")).to_be_hidden()
    lab.shot("reopened")
    lab.run("load", "define", "submit")
    expect(approve).to_be_visible()
    expect(saved).to_be_hidden()
    lab.shot("reopened-live")
