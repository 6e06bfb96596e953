import shutil
import sys
import threading
from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter

GREETER = """%%durable_service Greeter
GREETING = "Hello"

def compose(name):
    return f"{GREETING}, {name}!"

async def greet(ctx, name):
    return await ctx.run_typed("compose", compose, name=name)
"""

COUNTER = """%%durable_object Counter
async def add(ctx, amount):
    total = (await ctx.get("total") or 0) + amount
    ctx.set("total", total)
    return total

@shared
async def total(ctx):
    return await ctx.get("total") or 0
"""

PAYMENT = """%%durable_workflow Payment
from nbdurable import TerminalError

async def run(ctx, order):
    try:
        await ctx.promise("approved")
    except TerminalError as error:
        return f"released: [{error.status_code}] {error}"
    return "captured"

async def approve(ctx, by):
    await ctx.promise("approved").resolve(by)
"""


def test_a_service_cell_binds_its_name_and_a_call_is_awaited(shell):
    """The README's first line."""
    shell.run(GREETER)
    assert shell.out == "Greeter: revision 1, handler greet\n"
    assert shell.run('await Greeter.greet("World")') == "Hello, World!"


def test_handlers_of_a_cell_may_be_def(shell):
    """Whoever writes for pandas and not for asyncio writes `def`."""
    shell.run(
        "%%durable_service Report\n"
        "def compute(ctx, n):\n"
        "    return ctx.run_typed('double', lambda: 2 * n).result()"
    )
    assert shell.run("await Report.compute(21)") == 42


def test_handlers_see_what_later_cells_change_but_leave_no_names_behind(shell):
    """A notebook's globals are live; the `run` of two workflows must not overwrite each other."""
    shell.run("greet = 'mine'")
    shell.run(GREETER)
    shell.run("GREETING = 'Hi'")
    assert shell.run('await Greeter.greet("you")') == "Hi, you!"
    assert shell.run("greet, compose('x')") == ("mine", "Hi, x!")
    shell.run("%%durable_workflow One\nasync def run(ctx, x):\n    return 1")
    shell.run("%%durable_workflow Two\nasync def run(ctx, x):\n    return 2")
    assert shell.run("await One['k'].run(0), await Two['k'].run(0)") == (1, 2)
    assert shell.run("'run' in globals()") is False


def test_an_object_keeps_state_per_key_and_shared_handlers_read_it(shell):
    shell.run(COUNTER)
    assert shell.run('await Counter["a"].add(5), await Counter["a"].add(2)') == (5, 7)
    assert shell.run('await Counter["a"].total(), await Counter["b"].total()') == (7, 0)
    # The empty key is a key.
    assert shell.run('await Counter[""].add(1)') == 1


def test_a_bound_handler_is_what_ctx_calls_take(shell):
    """Handlers have no names of their own in a notebook, so their services lend them theirs."""
    shell.run(COUNTER)
    shell.run(
        "%%durable_service Caller\n"
        "async def call(ctx, key):\n"
        "    return await ctx.object_call(Counter.add, key, 3)"
    )
    assert shell.run('await Caller.call("k")') == 3


def test_a_call_inside_a_handler_is_a_durable_call(shell):
    """Written as outside of one; journaled, so that no replay makes it again."""
    shell.run(COUNTER)
    shell.run(
        "%%durable_service Caller\n"
        "async def call(ctx, key):\n"
        "    Counter[key].add.send(1)\n"
        "    first = await Counter[key].add(3)\n"
        "    return [first, await Counter[key].total()]\n"
        "def block(ctx, key):\n"
        "    return Counter[key].add(5).result()\n"
    )
    assert shell.run('await Caller.call("k")') == [4, 4]
    assert shell.run('await Caller.block("k")') == 9
    shell.run("%durable show " + shell.run('h = Caller.call("k"); await h; h.id'))
    assert "OneWayCall" in shell.out
    assert "Counter/k/add" in shell.out


def test_a_call_inside_a_step_is_refused_with_what_to_write(shell):
    """A step runs again after a crash, and so would the call."""
    shell.run(COUNTER)
    shell.run(
        "%%durable_service Caller\n"
        "async def call(ctx, key):\n"
        "    return await ctx.run_typed('inside', lambda: Counter[key].add(3))"
    )
    shell.run('h = Caller.call("k")')
    shell.run("from datetime import timedelta\nh.result(timedelta(seconds=5))")
    assert "ctx is used inside the step 'inside'" in shell.out


def test_handlers_complete_and_a_wrong_name_lists_the_right_ones(shell):
    shell.run(COUNTER)
    assert shell.run("dir(Counter['k'])") == ["add", "total"]
    assert repr(shell.run("Counter")) == "<virtual object Counter: add, total>"
    assert shell.refused("Counter['k'].ad(1)").endswith(
        "Counter has no handler 'ad'; did you mean 'add'?"
    )


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("Counter.add(1)", 'Counter is keyed; write: Counter["my-key"].add(…)'),
        ("Counter[5]", 'keys are texts; write: Counter["5"]'),
        ("Counter['k'].add()", 'add takes one input; write: Counter["k"].add(…)'),
        ("Counter['k'].total(1)", 'total takes no input; write: Counter["k"].total()'),
        ("Counter['k'].add.send(1, delay=5)", "write: delay=timedelta(seconds=5)"),
        ("Counter['k'].add({'a': {1}})", """argument of 'add'["a"] is of type set"""),
        ("%durable frobnicate", "%durable has no verb 'frobnicate'; it has: ls, show"),
        ("%durable shwo", "%durable has no verb 'shwo'; did you mean 'show'?"),
        ("%%durable_service S --retries -1\nasync def f(ctx): ...", "so 0 or more"),
        ("%%durable_service S --timeout 5\nasync def f(ctx): ...", "write e.g. --timeout 10m"),
        ("%durable show nothing", "no run is called 'nothing'; %durable ls shows them"),
        ("%durable show", "write: %durable show ID"),
        ("%durable show 'a", "close the quotation mark"),
        ("%%durable_service G\nx = 1", "no handler in this cell"),
        ("%%durable_service G\nasync def f(ctx, a, b): ...", "put them into a dict"),
        ("%%durable_workflow G\nasync def f(ctx): ...", "write: async def run(ctx, request)"),
        ("%%durable_service\nasync def f(ctx): ...", "is followed by a name; write"),
    ],
)
def test_wrong_use_is_one_line(shell, source, says):
    """No traceback where one sentence will do."""
    shell.run(COUNTER)
    assert says in shell.refused(source)


def test_a_syntax_error_has_the_line_of_the_cell(shell):
    """The magic is line 1, so an error on the fourth line is in line 4."""
    shell.run("%%durable_service G\n\nx = 1\nasync def greet(ctx, name)\n    return name")
    assert "Cell In[2], line 4" in shell.out
    assert "SyntaxError: expected ':'" in shell.out
    assert "nbdurable" not in shell.out


def test_an_error_in_the_cells_own_code_shows_the_users_frames_only(shell):
    shell.run("%%durable_service G\ndef f(x):\n    return 1 / x\n\nf(0)\nasync def g(ctx): ...")
    assert isinstance(shell.error, ZeroDivisionError)
    assert "Cell In[2], line 5" in shell.out
    assert "Cell In[2], line 3, in f(x)" in shell.out
    assert "nbdurable/" not in shell.out
    assert "IPython/" not in shell.out


def test_a_terminal_error_shows_the_handlers_frame_and_none_of_ours(shell):
    """What the reader can change is in their cell."""
    shell.run(
        "%%durable_service Card\n"
        "from nbdurable import TerminalError\n"
        "\n"
        "async def charge(ctx, card):\n"
        "    raise TerminalError('card declined', 402)"
    )
    for wait in ("await Card.charge('x')", "Card.charge('x').result()"):
        shell.run(wait)
        assert "TerminalError" in type(shell.error).__name__
        assert "card declined" in shell.out
        assert "Cell In[2], line 5, in charge" in shell.out
        assert "nbdurable/" not in shell.out


def test_an_unchanged_cell_is_its_revision_and_a_changed_one_the_next(shell):
    shell.run(GREETER)
    shell.run(GREETER + "\n# A comment.\n")
    assert shell.out == "Greeter: unchanged (revision 1)\n"
    shell.run(GREETER.replace("Hello", "Hi"))
    assert shell.out == "Greeter: revision 2\n"


def test_a_corrected_cell_repairs_its_failed_run_and_leaves_healthy_ones(shell):
    """Design 7, Revisions: the finished step is not run again, the healthy run keeps its code."""
    cell = (
        "%%durable_workflow Flow\n"
        "def first():\n"
        "    calls.append('first')\n"
        "    return 1\n"
        "\n"
        "async def run(ctx, order):\n"
        "    await ctx.run_typed('first', first)\n"
        "    if order == 'healthy':\n"
        "        await ctx.promise('go')\n"
        "    return order.uper()"
    )
    shell.run("calls = []")
    shell.run(cell)
    shell.run("healthy = Flow['h'].run('healthy'); failing = Flow['f'].run('failing')")
    wait_until(shell, "failing.status == 'backing-off' and 'go' in str(healthy.journal)")
    shell.run(cell.replace("uper", "upper"))
    assert shell.out == (
        "Flow: revision 2; 1 failed run goes on with it, 1 healthy run stays on revision 1\n"
    )
    assert shell.run("await failing") == "FAILING"
    assert shell.run("calls") == ["first", "first"]


def test_pin_keeps_failed_runs_on_their_revision(shell):
    cell = "%%durable_service S\nasync def f(ctx):\n    return 1 / zero"
    shell.run("zero = 0")
    shell.run(cell)
    shell.run("h = S.f()")
    wait_until(shell, "h.status == 'backing-off'")
    shell.run(cell.replace("S\n", "S --pin\n").replace("1 /", "2 /"))
    assert shell.out == "S: revision 2; pinned: 1 run stays on revision 1\n"


def test_a_workflow_key_that_has_a_run_attaches_to_it_and_says_so(shell):
    """A notebook's cells are run again; the payment must not be made again."""
    shell.run(PAYMENT)
    shell.run('Payment["order-456"].run({"amount": 100})')
    shell.run("%durable approve order-456 approved")
    assert shell.out.strip().endswith("approved 'approved' of Payment/order-456")
    assert shell.run('await Payment["order-456"].run({"amount": 7})') == "captured"
    assert shell.out.count("attached to the run of order-456 that began") == 1
    assert "a workflow runs once per key" in shell.out


def test_reject_is_a_terminal_error_with_the_message_given(shell):
    shell.run(PAYMENT)
    shell.run('h = Payment["o"].run({})')
    wait_until(shell, "'GetPromise' in str(h.journal)")
    shell.run('%durable reject o "too much"')
    assert shell.run("await h") == "released: [403] too much"
    shell.run("%durable approve o approved")
    assert "was already completed; it is answered once, and that answer stands" in shell.out
    assert shell.refused("%durable approve o").endswith("Payment/o waits for nobody: succeeded")


def test_a_workflows_key_means_its_run(shell):
    """Its other handlers have the same key, and came later."""
    shell.run(PAYMENT)
    shell.run('h = Payment["o"].run({})')
    assert shell.run('await Payment["o"].approve("me"), await h') == (None, "captured")
    assert shell.run("%durable result o") == "captured"


def test_cancel_and_kill_end_a_run(shell):
    shell.run(PAYMENT)
    shell.run('h = Payment["a"].run({}); k = Payment["b"].run({})')
    wait_until(shell, "'GetPromise' in str(h.journal)")
    shell.run("%durable cancel a")
    assert shell.run("await h") == "released: [409] cancelled"
    shell.run("%durable kill Payment/b")
    shell.run("await k")
    assert type(shell.error).__name__ == "TerminalError"
    assert shell.refused("%durable cancel b").endswith("Payment/b/run has finished: killed")


def test_a_delayed_send_is_scheduled(shell):
    shell.run(GREETER)
    shell.run("from datetime import timedelta")
    handle = shell.run("Greeter.greet.send('x', delay=timedelta(hours=1))")
    assert handle.status == "scheduled"
    shell.run("%durable cancel " + handle.id)


def test_a_handle_without_a_front_end_shows_its_journal_as_text_and_html(shell):
    shell.run(GREETER)
    shell.run("h = Greeter.greet('World'); await h")
    shell.run("h")
    assert "Greeter/greet  ✓ succeeded" in shell.out
    bundle = shell.ip.user_ns["h"]._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert "compose" in bundle["text/html"]


def test_a_paused_run_is_not_waited_for(shell):
    """Nothing but a person can wake it, and the person sits before this cell."""
    shell.run("%%durable_service S\nasync def f(ctx):\n    await ctx.run_typed('s', lambda: {1})")
    shell.run("await S.f()")
    assert type(shell.error).__name__ == "InvocationNotReadyError"
    assert "S/f is paused: step 's'" in shell.out
    assert "nbdurable/" not in shell.out


def test_nothing_is_made_on_disk_before_something_needs_it(shell, tmp_path):
    shell.run("1 + 1")
    assert not (tmp_path / ".nbdurable").exists()
    shell.run(GREETER)
    assert (tmp_path / ".nbdurable").is_dir()


def test_loading_twice_and_unloading_do_no_harm(shell):
    shell.run(GREETER)
    shell.run("%load_ext nbdurable")
    shell.run("%reload_ext nbdurable")
    assert shell.run("await Greeter.greet('x')") is None, "its engine is another one now"
    shell.run(GREETER)
    assert shell.run("await Greeter.greet('World')") == "Hello, World!"
    shell.run("%unload_ext nbdurable")
    assert "UsageError: Line magic function `%durable` not found" in shell.refused("%durable ls")
    assert not [t for t in threading.enumerate() if t.name.startswith("nbdurable")]


def test_a_damaged_journal_is_one_sentence(bare_shell, tmp_path):
    """Printed once when the extension is loaded, said again by whatever needs the journal."""
    folder = tmp_path / ".nbdurable"
    folder.mkdir()
    (folder / "format.json").write_text("not json")
    bare_shell.run("%load_ext nbdurable")
    assert bare_shell.error is None
    assert str(folder) in bare_shell.out
    assert "Nothing was modified" in bare_shell.out
    assert "Traceback" not in bare_shell.out
    assert "Nothing was modified" in bare_shell.refused("%durable ls")
    assert "Nothing was modified" in bare_shell.refused(GREETER)


def test_a_deleted_journal_is_said_and_not_silently_begun_anew(shell, tmp_path):
    """The folder may only have been moved; a new one would be in its way."""
    shell.run(GREETER)
    shutil.rmtree(tmp_path / ".nbdurable")
    assert "was deleted or replaced" in shell.refused("Greeter.greet('x')")
    assert "%reload_ext nbdurable" in shell.refused("%durable ls")
    assert not (tmp_path / ".nbdurable").exists()
    shell.run("%reload_ext nbdurable")
    shell.run(GREETER)
    assert shell.run("await Greeter.greet('World')") == "Hello, World!"


def test_loading_imports_neither_papermill_nor_anywidget(shell):
    """Start-up is a feature: what is not used is not imported. Fresh process, real import."""
    import subprocess

    code = (
        "import sys; from IPython.core.interactiveshell import InteractiveShell\n"
        "import nbdurable.notebook.extension\n"
        "print([m for m in ('papermill', 'nbformat', 'anywidget', 'ipywidgets', 'duckdb')"
        " if m in sys.modules])"
    )
    env_path = str(Path(__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": env_path, "PATH": "/usr/bin:/bin", "HOME": env_path},
    )
    assert ran.stdout == "[]\n"


def test_verbs_and_runs_complete_after_the_magic(shell):
    shell.run(PAYMENT)
    shell.run('Payment["order-456"].run({})')
    assert "approve" in completions(shell, "%durable app")
    assert "Payment/order-456" in completions(shell, "%durable show Pay")


def completions(shell, line):
    with provisionalcompleter():
        return [found.text for found in shell.ip.Completer.completions(line, len(line))]


def wait_until(shell, condition):
    """Handlers run on another thread; give them ten seconds."""
    shell.run(
        "import time\n"
        "deadline = time.monotonic() + 10\n"
        f"while not ({condition}) and time.monotonic() < deadline:\n"
        "    time.sleep(0.01)"
    )
    assert shell.run(condition), f"not so after 10 s: {condition}"


def test_approve_alone_means_the_only_run_that_asks(shell):
    """And a promise that nobody waits for, while another is waited for, is a slip of the hand."""
    shell.run(PAYMENT)
    shell.run('h = Payment["o"].run({})')
    wait_until(shell, "'GetPromise' in str(h.journal)")
    assert "waits for 'approved', not for 'aproved'" in shell.refused("%durable approve o aproved")
    shell.run("%durable approve")
    assert "approved 'approved' of Payment/o" in shell.out
    assert "no run waits for anybody" in shell.refused("%durable approve")


COUNT = """%%durable_service Count
async def count(ctx, n):
    return await ctx.run_typed("step", lambda: n + 1)
"""


def test_a_finished_run_starts_anew_and_a_workflows_is_forgotten_first(shell):
    """A mistake in the input need not burn a key."""
    shell.run(COUNT)
    shell.run("h = Count.count(1)")
    assert shell.run("await h") == 2
    shell.run("again = %durable restart {h.id}")
    assert shell.run("await again") == 2
    assert shell.refused("%durable restart {h.id} x").startswith("UsageError: write: %durable")
    shell.run(PAYMENT)
    shell.run('Payment["o"].run({"amount": 1})')
    assert "can be forgotten: %durable kill Payment/o" in shell.refused("%durable purge o")
    shell.run("%durable kill o")
    assert "%durable purge Payment/o" in shell.refused("%durable restart o")
    assert repr(shell.run("%durable purge o")) == "forgot Payment/o/run; its key can run again"
    assert shell.run('Payment["o"].run({"amount": 2}).status') != "completed"


ONE, UNO = (
    f"""%%durable_workflow Way
async def run(ctx, request):
    await ctx.run_typed("{name}", lambda: 1)
    await ctx.promise("go")
    return "{name}"
"""
    for name in ("one", "uno")
)


def test_a_mismatch_is_shown_as_one_with_its_ways_out(shell):
    """It once looked as if all it needed were an answer."""
    shell.run(ONE)
    shell.run('h = Way["a"].run(None)')
    wait_until(shell, "'GetPromise' in str(h.journal)")
    shell.run("%unload_ext nbdurable")
    shell.run("%load_ext nbdurable")
    shell.run(UNO)
    shell.run("h = %durable show a")
    wait_until(shell, "h.status == 'paused'")
    shown = shell.run("str(h.journal)")
    assert "undo the change of Way, or %durable accept Way/a, or %durable kill Way/a" in shown
    assert "%durable approve" not in shown
    assert repr(shell.run("%durable accept a")) == "Way/a/run goes on with what is recorded"
    shell.run("%durable approve a go")
    assert shell.run('await Way["a"].run(None)') == "uno"


def test_pause_keeps_a_run_and_resume_lets_it_go_on(shell):
    shell.run(PAYMENT)
    shell.run('h = Payment["o"].run({"amount": 1})')
    wait_until(shell, "'GetPromise' in str(h.journal)")
    assert "%durable resume Payment/o" in repr(shell.run("%durable pause o"))
    wait_until(shell, "h.status == 'paused'")
    shell.run("%durable resume o")
    shell.run("%durable approve o")
    assert shell.run("await h") == "captured"


def test_an_answer_may_be_a_value(shell):
    shell.run(ONE)
    shell.run('h = Way["a"].run(None)')
    wait_until(shell, "'GetPromise' in str(h.journal)")
    assert "is no JSON" in shell.refused("%durable approve a go {")
    shown = shell.run("%durable approve a go '{\"n\": [1, 2]}'")
    assert repr(shown) == "answered 'go' of Way/a"


def test_options_of_a_cell_hold_for_its_handlers(shell):
    """As the constructor's; a changed one is a new revision."""
    cell = "%%durable_workflow Flow {}\nasync def run(ctx, n): return n"
    shell.run(cell.format("--retries 2 --timeout 10m --retention 7d --private"))
    client = session_of(shell).client
    (service,) = client.wait(client.services())
    (handler,) = service.handlers
    assert handler.retry.max_attempts == 3
    assert handler.abort_timeout_ms == 600_000
    assert handler.workflow_retention_ms == handler.journal_retention_ms == 7 * 86_400_000
    assert handler.ingress_private
    shell.run(cell.format(""))
    assert shell.out == "Flow: revision 2\n"


def test_how_long_state_is_kept_is_an_option_of_objects(shell):
    """Nothing else has state that does not end by itself."""
    cell = "%%durable_{} --state-retention 7d\nasync def run(ctx, n): return n"
    shell.run(cell.format("object Box"))
    client = session_of(shell).client
    (service,) = client.wait(client.services())
    assert service.state_retention_ms == 7 * 86_400_000
    refused = shell.refused(cell.format("workflow Flow"))
    assert "--state-retention is for %%durable_object" in refused


def test_a_run_that_is_nearly_named_is_offered(shell):
    shell.run(PAYMENT)
    shell.run('Payment["order-456"].run({})')
    refused = shell.refused("%durable show Payment/order-465")
    assert refused.endswith("did you mean 'Payment/order-456'?")


def session_of(shell):
    return shell.ip.magics_manager.registry["DurableMagics"].session
