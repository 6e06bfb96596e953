"""What a person does to a run from its live journal: find an entry, pause, resume, cancel, kill."""

import pytest
from playwright.sync_api import expect
from support.notebooks import notebook_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TRIP = """%%durable_workflow Trip
import time
from datetime import timedelta

def book(what):
    time.sleep(0.05)
    return f"{what} is booked"

async def run(ctx, count):
    for n in range(count):
        await ctx.run_typed(f"flight {n}", book, what=f"flight {n}")
    await ctx.sleep(timedelta(seconds=1))
    try:
        await ctx.promise("paid")
    finally:
        print("the trip is over")
"""


@pytest.fixture
def notebook():
    return notebook_of(
        load="%load_ext nbdurable",
        define=TRIP,
        submit='Trip["a"].run(15)',
        other='Trip["b"].run(1)',
        dark='Trip["c"].run(3)',
    )


def button(lab, name, run):
    return lab.page.get_by_role("button", name=f"{name} Trip/{run}/run", exact=True)


def test_a_run_is_paused_and_resumed_by_clicking(lab):
    lab.run("load", "define", "submit")
    chip = lab.page.locator(".nbd-chip")
    expect(chip).to_contain_text("waits for 'paid'")
    button(lab, "Pause", "a").click()
    expect(chip).to_contain_text("paused")
    expect(lab.page.get_by_role("status").filter(has_text="paused")).to_be_visible()
    lab.shot("journal-paused")
    button(lab, "Resume", "a").click()
    expect(chip).to_contain_text("waits for 'paid'")
    expect(button(lab, "Pause", "a")).to_be_enabled()


def test_one_click_does_not_kill(lab):
    lab.run("load", "define", "other")
    expect(lab.page.locator(".nbd-chip")).to_contain_text("waits for 'paid'")
    button(lab, "Kill", "b").click()
    expect(lab.page.locator(".nbd-chip")).to_contain_text("waits for 'paid'")
    button(lab, "Really kill", "b").click()
    lab.wait_for_text("other", "killed")


def test_cancelling_lets_it_clean_up(lab):
    lab.run("load", "define", "other")
    expect(lab.page.locator(".nbd-chip")).to_contain_text("waits for 'paid'")
    # By keyboard alone.
    button(lab, "Cancel", "b").focus()
    lab.page.keyboard.press("Enter")
    lab.wait_for_text("other", "cancelled", "the trip is over")


def test_entries_are_filtered_by_words(lab):
    lab.run("load", "define", "submit")
    rows = lab.page.get_by_role("table", name="Journal entries").get_by_role("row")
    expect(rows.filter(has_text="flight 14 is booked")).to_be_visible()
    filtered = lab.page.get_by_role("searchbox", name="Filter journal entries")
    # A letter typed here is no shortcut of the notebook's.
    filtered.press_sequentially("run flight 1")
    expect(rows.filter(has_text="flight 12")).to_be_visible()
    expect(rows.filter(has_text="flight 2 is")).to_be_hidden()
    expect(rows.filter(has_text="GetPromise")).to_be_hidden()
    lab.shot("journal-filtered")
    filtered.fill("")
    expect(rows.filter(has_text="GetPromise")).to_be_visible()
