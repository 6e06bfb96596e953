"""The widgets' modules in a bare page, with a model that a test changes: no kernel, no JupyterLab.

What a run that never stops changing does to somebody who is about to click cannot be timed there.
"""

import json

import pytest
from playwright.sync_api import expect
from support.views import entry_of, view_of

from nbdurable.client.picture import picture_of
from nbdurable.notebook.widgets.board import BoardWidget
from nbdurable.notebook.widgets.journal import JournalWidget

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# As anywidget does it: a model with traits, and an element to draw in.
DRAW = """async ([source, name, value]) => {
    const module = await import(URL.createObjectURL(new Blob([source], {type: "text/javascript"})));
    const traits = {[name]: value};
    let changed = () => {};
    window.sent = [];
    window.change = (value) => { traits[name] = value; changed(); };
    module.default.render({el: document.querySelector("main"), model: {
        get: (name) => traits[name], on: (_, hear) => { changed = hear; }, off: () => {},
        send: (message) => window.sent.push(message),
    }});
}"""


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.set_content("<!doctype html><main></main>")
    yield page
    page.close()


def draw(page, widget, trait, value):
    page.add_style_tag(content=widget._css)
    page.evaluate(DRAW, [widget._esm, trait, json.loads(json.dumps(value))])


def busy(entry_count):
    """A run in full swing."""
    return picture_of(view_of(status="running"), [entry_of(n) for n in range(entry_count)], 0)


def test_a_button_keeps_the_focus_while_the_run_goes_on(page):
    """Who works by keyboard would never get to press it."""
    draw(page, JournalWidget, "picture", busy(1))
    pause = page.get_by_role("button", name="Pause")
    pause.focus()
    page.evaluate("(picture) => window.change(picture)", busy(2))
    expect(page.locator(".nbd-kind")).to_have_count(2)
    expect(pause).to_be_focused()


def test_a_busy_run_can_be_killed(page):
    """The second click is asked for once, not again after each entry."""
    draw(page, JournalWidget, "picture", busy(1))
    page.get_by_role("button", name="Kill").click()
    page.evaluate("(picture) => window.change(picture)", busy(2))
    page.get_by_role("button", name="Really kill").click(timeout=2_000)
    assert page.evaluate("window.sent.map((one) => one.name)") == ["kill"]


def test_the_filters_of_the_board_are_above_its_rows(page):
    draw(page, BoardWidget, "board", {"rows": [], "found_count": 0, "disk": "1 MB"})
    choice = page.get_by_label("Which runs").bounding_box()
    table = page.get_by_role("table", name="Runs, newest first").bounding_box()
    assert choice["y"] + choice["height"] <= table["y"]
