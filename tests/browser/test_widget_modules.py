"""The widgets' modules in a bare page, with a model that a test changes: no kernel, no JupyterLab.

What a run that never stops changing does to somebody who is about to click cannot be timed there.
"""

import json

import pytest
from playwright.sync_api import expect
from support.views import entry_of, view_of

from nbdurable.client.drawing import Drawing
from nbdurable.notebook.board import row_of
from nbdurable.notebook.widgets.board import BoardWidget
from nbdurable.notebook.widgets.journal import JournalWidget
from nbdurable.notebook.widgets.patches import Patches

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# As anywidget does it: a model with traits, and an element to draw in.
DRAW = """async ([source, traits]) => {
    const module = await import(URL.createObjectURL(new Blob([source], {type: "text/javascript"})));
    const heard = {};
    const tell = (event, message) => (heard[event] ?? []).forEach((hear) => hear(message));
    window.sent = [];
    window.change = (changed) => {
        Object.assign(traits, changed);
        for (const name in changed) tell(`change:${name}`);
    };
    window.reply = (message) => tell("msg:custom", message);
    module.default.render({el: document.querySelector("main"), model: {
        get: (name) => traits[name], on: (event, hear) => (heard[event] ??= []).push(hear),
        off: () => {}, send: (message) => window.sent.push(message),
    }});
}"""


NO_RUNS = {"rows": [], "found_count": 0, "disk": "1 MB", "said": ""}
NOTHING_OPEN = {"picture": {}, "rows": {}, "tail": {}, "children": {}}


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.set_content("<!doctype html><main></main>")
    yield page
    page.close()


def draw(page, widget, **traits):
    page.add_style_tag(content=widget._css)
    page.evaluate(DRAW, [widget._esm, json.loads(json.dumps(traits))])


class Run:
    """A run in full swing, and what is sent of it."""

    def __init__(self, entry_count, changes=lambda _: {}, **view):
        self.changes = changes
        self.view = view_of(**{"status": "running", **view})
        self.drawing = Drawing(self.view)
        self.patches = Patches()
        self.count = 0
        self.change(entry_count)

    def change(self, entry_count):
        """So many entries more."""
        entries = [
            entry_of(n, **self.changes(n)) for n in range(self.count, self.count + entry_count)
        ]
        self.count += entry_count
        return self.drawing.change(self.view, entries)

    def traits(self):
        head = self.drawing.picture(0, rows=[])
        return {"picture": head, "children": {}, **self.patches.whole(self.drawing)}

    def patch(self, entry_count):
        touched = self.change(entry_count)
        head = self.drawing.picture(0, rows=[])
        return {"picture": head, **self.patches.patch(self.drawing, touched)}


def test_a_button_keeps_the_focus_while_the_run_goes_on(page):
    """Who works by keyboard would never get to press it."""
    run = Run(1)
    draw(page, JournalWidget, **run.traits())
    pause = page.get_by_role("button", name="Pause")
    pause.focus()
    page.evaluate("(traits) => window.change(traits)", run.patch(1))
    expect(page.locator(".nbd-kind")).to_have_count(2)
    expect(pause).to_be_focused()


def test_a_busy_run_can_be_killed(page):
    """The second click is asked for once, not again after each entry."""
    run = Run(1)
    draw(page, JournalWidget, **run.traits())
    page.get_by_role("button", name="Kill").click()
    page.evaluate("(traits) => window.change(traits)", run.patch(1))
    page.get_by_role("button", name="Really kill").click()
    assert page.evaluate("window.sent.map((one) => one.name)") == ["kill"]


def reply(page, message):
    page.evaluate("(message) => window.reply(message)", message)


def taken_up(page):
    """A click on Pause that the kernel has heard, and is not done with."""
    page.clock.install()
    run = Run(1)
    draw(page, JournalWidget, **run.traits())
    pause, said = page.get_by_role("button", name="Pause"), page.get_by_role("status")
    pause.click()
    (sent,) = page.evaluate("window.sent")
    assert sent["shown"] == run.view.id
    reply(page, {"re": sent["re"], "is_done": False})
    return pause, said, sent


def test_what_the_kernel_has_heard_is_asked_of_nobody_else(page):
    """However long it takes, and whatever is said of it in the end: it would be done twice."""
    pause, said, sent = taken_up(page)
    page.clock.run_for(9_000)
    expect(said).to_be_hidden()
    expect(pause).to_be_disabled()
    reply(page, {"re": sent["re"], "is_done": True})
    page.clock.run_for(100)
    expect(pause).to_be_enabled()
    # And what it does not hear is.
    pause.click()
    page.clock.run_for(2_000)
    expect(said).to_contain_text("no answer from the kernel yet")


def test_what_a_kernel_has_taken_up_and_died_of_can_be_clicked_again(page):
    pause, said, _ = taken_up(page)
    page.clock.run_for(11_000)
    expect(said).to_contain_text("not said what came of it")
    pause.click()
    assert len(page.evaluate("window.sent")) == 2


def test_a_journal_that_is_about_to_go_cannot_be_clicked(page):
    """Who has clicked another run of the board sees at once that it is being opened."""
    page.clock.install()
    ada, bob = (Run(1, id=f"inv_1{key}", key=key) for key in ("ada", "bob"))
    board = {**NO_RUNS, "rows": [row_of(ada.view), row_of(bob.view)], "found_count": 2}
    draw(page, BoardWidget, board=board, **ada.traits())
    page.clock.run_for(100)
    detail, fold = page.locator(".nbd-detail"), page.get_by_label("Journal of Payment/bob/run")
    is_inert = "(detail) => detail.inert"
    expect(fold).to_have_text("▸")
    fold.click()
    expect(fold).to_have_text("…")
    assert detail.evaluate(is_inert)
    # The one that is shown still goes on, which is no answer.
    page.evaluate("(traits) => window.change(traits)", ada.patch(1))
    page.clock.run_for(100)
    assert detail.evaluate(is_inert)
    page.evaluate("(traits) => window.change(traits)", NOTHING_OPEN)
    page.evaluate("(traits) => window.change(traits)", bob.traits())
    page.clock.run_for(100)
    expect(fold).to_have_text("▾")
    assert not detail.evaluate(is_inert)
    expect(detail.get_by_text("Payment/bob/run")).to_be_visible()
    assert page.evaluate("window.sent") == [{"type": "show", "run": "inv_1bob"}]


def test_a_journal_stays_usable_where_another_is_not_opened(page):
    """Nobody answers, or it is said why not; what is clicked in it may be done by the server."""
    page.clock.install()
    ada, bob = (Run(1, id=f"inv_1{key}", key=key) for key in ("ada", "bob"))
    board = {**NO_RUNS, "rows": [row_of(ada.view), row_of(bob.view)], "found_count": 2}
    draw(page, BoardWidget, board=board, **ada.traits())
    page.clock.run_for(100)
    detail, fold = page.locator(".nbd-detail"), page.get_by_label("Journal of Payment/bob/run")
    fold.click()
    page.clock.run_for(2_000)
    expect(page.get_by_text("no answer from the kernel yet")).to_be_visible()
    expect(fold).to_have_text("▸")
    detail.get_by_role("button", name="Pause").click()
    fold.click()
    page.evaluate("(traits) => window.change(traits)", {"board": {**board, "said": "it is gone"}})
    page.clock.run_for(100)
    expect(page.get_by_text("it is gone")).to_be_visible()
    assert not detail.evaluate("(detail) => detail.inert")
    assert [one.get("shown") for one in page.evaluate("window.sent")] == [None, "inv_1ada", None]


def names(page):
    return page.locator(".nbd-name").all_text_contents()


def answer_earlier(page, run):
    """As the kernel does it, to the message that was sent last."""
    asked = page.evaluate("window.sent.at(-1)")
    assert asked["type"] == "earlier"
    indices = run.drawing.lines.before(asked["before"], 200)
    rows = [run.drawing.row(index) for index in indices]
    reply = {"re": asked["re"], "rows": rows, "earlier": indices[0] if indices else 0}
    page.evaluate("(reply) => window.reply(reply)", reply)


def named(n):
    return {"name": f"step {n}"}


def test_thousands_of_entries_are_reached_page_by_page(page):
    """What is drawn is bounded, wherever somebody reads, and the newest are one click away."""
    run = Run(3_000, named)
    draw(page, JournalWidget, **run.traits())
    earlier = page.get_by_role("button", name="earlier entries")
    expect(earlier).to_have_text("… 2900 earlier entries")
    assert names(page)[0] == "step 2900"
    for first in (*range(2700, 0, -200), 0):
        earlier.click()
        answer_earlier(page, run)
        expect(page.locator(".nbd-name").first).to_have_text(f"step {first}")
        assert page.locator(".nbd-name").count() <= 1_000
    expect(earlier).to_be_hidden()
    page.evaluate("(traits) => window.change(traits)", run.patch(1))
    page.get_by_role("button", name="back to the newest").click()
    expect(page.locator(".nbd-name").last).to_have_text("step 3000")
    assert page.locator(".nbd-name").count() == 101


def test_who_reads_further_up_is_left_there(page):
    run = Run(300, named)
    draw(page, JournalWidget, **run.traits())
    table = page.get_by_role("table", name="Journal entries")
    expect(page.locator(".nbd-name").last).to_be_in_viewport()
    table.evaluate("(table) => { table.scrollTop = 0; }")
    first = page.get_by_text("step 200", exact=True)
    expect(first).to_be_in_viewport()
    page.evaluate("(traits) => window.change(traits)", run.patch(30))
    expect(page.get_by_text("step 329", exact=True)).to_be_attached()
    expect(first).to_be_in_viewport()


def test_what_is_not_drawn_is_searched_by_the_kernel(page):
    run = Run(500, named)
    draw(page, JournalWidget, **run.traits())
    page.get_by_role("searchbox", name="Filter journal entries").fill("step 7")
    page.wait_for_function("() => window.sent.length === 1")
    asked = page.evaluate("window.sent[0]")
    assert (asked["before"], asked["words"]) == (400, "step 7")
    page.evaluate(
        "(reply) => window.reply(reply)", {"re": asked["re"], "rows": [run.drawing.row(7)]}
    )
    expect(page.get_by_text("step 7", exact=True)).to_be_visible()
    page.get_by_role("searchbox", name="Filter journal entries").fill("")
    expect(page.get_by_text("step 7", exact=True)).to_have_count(0)


def test_a_value_is_fetched_when_it_is_asked_for(page):
    run = Run(1, lambda _: {"value": "x" * 150 + "…"})
    draw(page, JournalWidget, **run.traits())
    more = page.get_by_role("button", name="All that entry 0 holds")
    more.click()
    asked = page.evaluate("window.sent[0]")
    assert (asked["type"], asked["index"]) == ("value", 0)
    page.evaluate("(reply) => window.reply(reply)", {"re": asked["re"], "text": "x" * 1_000})
    expect(page.get_by_text("x" * 1_000)).to_be_visible()
    more.click()
    expect(page.get_by_text("x" * 1_000)).to_have_count(0)


def test_the_rows_of_a_called_run_are_below_its_row(page):
    """Open at any depth, live, and closed again; who is not opened is not watched."""
    run = Run(1, lambda _: {"kind": "Call", "name": "Child/h", "child": "inv_1child"})
    inner = Run(2, lambda n: {"name": f"inner {n}", "child": "inv_1deep" if n else None})
    deep = Run(1, lambda _: {"name": "deepest"})
    draw(page, JournalWidget, **run.traits())
    page.get_by_role("button", name="Entries of Child/h").click()
    children = {"inv_1child": inner.drawing.picture(0)}
    page.evaluate("(children) => window.change({children})", children)
    expect(page.get_by_text("inner 0", exact=True)).to_be_visible()
    page.get_by_role("button", name="Entries of inner 1").click()
    children["inv_1deep"] = deep.drawing.picture(0)
    page.evaluate("(children) => window.change({children})", children)
    expect(page.get_by_text("deepest")).to_be_visible()
    page.get_by_role("button", name="Entries of Child/h").click()
    expect(page.get_by_text("inner 0", exact=True)).to_have_count(0)
    assert page.evaluate("window.sent.map((one) => [one.type, one.run])") == [
        ["open", "inv_1child"],
        ["open", "inv_1deep"],
        ["close", "inv_1deep"],
        ["close", "inv_1child"],
    ]


def test_a_finished_run_is_restarted_from_the_entry_that_is_pointed_at(page):
    done = {"status": "completed", "completed_at_ms": 3, "is_run": False}
    run = Run(3, named, **done)
    draw(page, JournalWidget, **run.traits())
    # The first is the input, which every new run begins with.
    expect(page.get_by_role("button", name="Restart from entry 0")).to_have_count(0)
    again = page.get_by_role("button", name="Restart from entry 2")
    expect(again).to_have_css("opacity", "0")
    page.get_by_text("step 2", exact=True).hover()
    expect(again).to_have_css("opacity", "1")
    again.click()
    sent = page.evaluate("window.sent[0]")
    assert (sent["type"], sent["name"], sent["from_entry"]) == ("deed", "restart", 2)


def test_a_called_run_that_is_forgotten_says_so(page):
    run = Run(1, lambda _: {"kind": "Call", "name": "Child/h", "child": "inv_1child"})
    draw(page, JournalWidget, **run.traits())
    page.get_by_role("button", name="Entries of Child/h").click()
    gone = {"inv_1child": {"problem": "there is no invocation 'inv_1child'"}}
    page.evaluate("(children) => window.change({children})", gone)
    expect(page.get_by_text("there is no invocation")).to_be_visible()


def test_the_colours_of_vs_code_are_used_where_jupyters_are_none(page):
    run = Run(1)
    draw(page, JournalWidget, **run.traits())
    page.add_style_tag(
        content=":root { --vscode-charts-green: rgb(1, 2, 3); --vscode-foreground: rgb(4, 5, 6) }"
    )
    colour = "(found) => getComputedStyle(found).color"
    assert page.locator(".nbd-glyph").evaluate(colour) == "rgb(1, 2, 3)"
    assert page.locator(".nbd-target").evaluate(colour) == "rgb(4, 5, 6)"


@pytest.mark.parametrize(("motion", "moves"), [("reduce", "none"), ("no-preference", "nbd-pulse")])
def test_nothing_moves_for_who_does_not_want_it(page, motion, moves):
    page.emulate_media(reduced_motion=motion)
    run = Run(1, lambda _: {"status": "running", "ended_at_ms": None})
    draw(page, JournalWidget, **run.traits())
    animation = "(found) => getComputedStyle(found).animationName"
    assert page.locator(".nbd-glyph").evaluate(animation) == moves


def test_the_filters_of_the_board_are_above_its_rows(page):
    draw(page, BoardWidget, board=NO_RUNS, **NOTHING_OPEN)
    choice = page.get_by_label("Which runs").bounding_box()
    table = page.get_by_role(
        "table", name="Runs, those that wait for somebody first"
    ).bounding_box()
    assert choice["y"] + choice["height"] <= table["y"]
