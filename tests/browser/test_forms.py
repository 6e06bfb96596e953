"""Questions that are more than yes or no: a form for the answer's type, below the live journal."""

import pytest
from playwright.sync_api import expect
from support.notebooks import notebook_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

REFUND = """%%durable_workflow Refund
from dataclasses import dataclass
from typing import Literal
from nbdurable import durable

@dataclass
class Decision:
    amount: float
    reason: Literal["late", "broken"]
    note: str | None = None

async def run(ctx, order):
    print("order", order["id"], "came back")
    decision = await durable.approval(
        "refund", Decision, title="How much shall we refund?", context=order
    )
    return f"{decision.amount:.2f} because it was {decision.reason}"
"""


@pytest.fixture
def notebook():
    return notebook_of(
        load="%load_ext nbdurable",
        define=REFUND,
        submit='Refund["a"].run({"id": 7, "total": 80})',
        again='Refund["b"].run({"id": 8, "total": 20})',
    )


def field(lab, label):
    return lab.page.get_by_label(label, exact=True)


def test_a_form_is_filled_in_and_the_handler_gets_its_type(lab):
    lab.run("load", "define", "submit")
    form = lab.page.get_by_role("form", name="refund of Refund/a/run")
    expect(form).to_contain_text("How much shall we refund?")
    expect(form).to_contain_text('"total": 80')
    expect(form).to_contain_text("note (optional)")
    expect(lab.page.get_by_role("table", name="Journal entries")).to_contain_text(
        "order 7 came back"
    )
    form.scroll_into_view_if_needed()
    lab.shot("question-form")
    send = lab.page.get_by_role("button", name="Answer refund of Refund/a/run")
    # What is left out is said in the form, and nothing is sent.
    send.click()
    expect(form).to_contain_text("amount is a number")
    field(lab, "amount").fill("12.5")
    send.click()
    # The first of several is nobody's choice.
    expect(form).to_contain_text("reason: choose one")
    field(lab, "reason").select_option("late")
    # By keyboard, as those do who fill in many.
    field(lab, "amount").press("Enter")
    lab.wait_for_text("submit", "12.50 because it was late")
    lab.shot("question-answered")


def test_a_rejection_gives_its_reason(lab):
    lab.run("load", "define", "again")
    reason = lab.page.get_by_label("Comment, or reason to reject refund of Refund/b/run")
    # Typed letters are text, and no shortcuts of the notebook's.
    reason.press_sequentially("add this below")
    reject = lab.page.get_by_role("button", name="Reject refund of Refund/b/run")
    reject.click()
    lab.wait_for_text("again", "add this below", "failed")
