"""The quickstart as a new user has it: a real JupyterLab, a real browser, real clicks."""

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TARGET = "Payment/order-456/run"


def button(lab, verb):
    return lab.page.get_by_role("button", name=f"{verb} approved of {TARGET}")


def test_a_click_on_approve_lets_the_payment_go_on(lab):
    """The kernel is idle, the widget asks, one click answers; the static picture stays."""
    lab.run("load", "greeter", "greet", "counter", "count", "payment", "submit")
    assert "'Hello, World!'" in lab.text("greet")
    assert lab.text("count") == "7"
    approve = button(lab, "Approve")
    expect(approve).to_be_visible()
    expect(lab.page.get_by_role("table", name="Journal entries")).to_contain_text("reserve")
    approve.scroll_into_view_if_needed()
    lab.shot("approve-light-waiting")
    approve.click()
    lab.wait_for_text("submit", "succeeded", '"status":"captured"')
    expect(approve).to_have_count(0)
    mimes = set(lab.outputs("submit")[0]["data"])
    assert mimes == {"text/html", "text/plain"}, "a saved notebook has no kernel to ask"
    lab.shot("approve-light-done")
    lab.run("ls", "show")
    lab.page.get_by_role("table").last.scroll_into_view_if_needed()
    lab.shot("light-ls-and-show")


def test_all_of_it_runs_by_itself(lab, notebook):
    """As somebody does who wants to see whether it works at all: one command of the menu."""
    lab.run_all()
    lab.wait_for_text("show", "Payment/order-456/run")
    code = [cell.id for cell in notebook.cells if cell.cell_type == "code"]
    outputs = {cell: lab.outputs(cell) for cell in code}
    assert [cell for cell in code if any(o["output_type"] == "error" for o in outputs[cell])] == []
    assert "'status': 'released'" in lab.text("reject")
    assert "Payment/order-458/run" in lab.text("ls"), "it waits for whoever reads on"


@pytest.mark.parametrize("theme", ["JupyterLab Dark"])
def test_a_click_on_reject_makes_the_payment_compensate(lab, theme):
    """Rejection is a TerminalError at the handler's await, and undo belongs under it."""
    lab.run("load", "payment", "submit")
    reject = button(lab, "Reject")
    expect(reject).to_be_visible()
    reject.scroll_into_view_if_needed()
    reject.focus()
    lab.shot("reject-dark-waiting")
    # By keyboard, as those do who cannot use a mouse.
    lab.page.keyboard.press("Enter")
    lab.wait_for_text("submit", "succeeded", '"status":"released"', "rejected by a person")
    lab.shot("reject-dark-done")


def test_a_click_reaches_a_cell_that_awaits_its_run(lab):
    """No cell waits for a person without showing what it waits for, and the click arrives."""
    lab.run("load", "payment")
    lab.start("attach")
    approve = button(lab, "Approve")
    expect(approve).to_be_visible()
    approve.click()
    lab.wait_for_text("attach", "'status': 'captured'")
