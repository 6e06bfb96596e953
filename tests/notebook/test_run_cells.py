"""`%%durable_run`: a cell that awaits is one run, and survives its kernel."""

import pytest
from test_magics import wait_until

ENRICH = """%%durable_run enrich
import math
def grow(n):
    calls.append(n)
    return n * factor
sizes = [1, 2]
grown = []
for size in sizes:
    grown.append(await ctx.run_typed("grow", grow, n=size))
total = total + sum(grown)
(total, math.floor(2.5))"""


@pytest.fixture
def calls(shell):
    """What its steps were really called with: a list that lives in the namespace."""
    shell.run("calls, factor, total = [], 10, 100")
    return lambda: shell.run("calls")


def test_a_cell_runs_as_a_cell_does_and_leaves_its_names(shell, calls):
    """It reads the notebook's names, its last expression is its value, what it sets is set."""
    assert shell.run(ENRICH) == (130, 2)
    assert "enrich: ran in" in shell.out
    assert shell.run("sizes, grown, total, math.pi > 3") == ([1, 2], [10, 20], 130, True)
    assert calls() == [1, 2]


def test_a_function_of_the_cell_sees_what_later_cells_change(shell, calls):
    shell.run(ENRICH)
    shell.run("factor = 7")
    assert shell.run("grow(3)") == 21


def test_a_cell_that_has_run_is_restored_in_the_next_kernel(shell, calls):
    """Its variables and its functions are there; no step is repeated, and no name of today is."""
    shell.run(ENRICH)
    in_a_fresh_kernel(shell, "del sizes, grown, math, grow\ntotal = 5")
    assert shell.run(ENRICH) == (130, 2)
    assert "enrich: restored grown, size, sizes, total of" in shell.out
    assert "--fresh runs it again" in shell.out
    assert shell.run("sizes, grown, total, math.pi > 3") == ([1, 2], [10, 20], 130, True)
    assert calls() == [1, 2]
    assert shell.run("grow(3)") == 30


@pytest.mark.parametrize(
    "changed",
    [
        ENRICH.replace("[1, 2]", "[1, 3]"),
        ENRICH.replace("enrich", "enrich --fresh"),
        ENRICH.replace("enrich", "enrich --key tuesday"),
        ENRICH.replace("enrich", "other"),
    ],
)
def test_an_edited_cell_another_key_and_fresh_run_it_again(shell, calls, changed):
    shell.run(ENRICH)
    shell.run(changed)
    assert "ran in" in shell.out
    assert len(calls()) == 4
    shell.run(changed.replace(" --fresh", ""))
    assert "restored" in shell.out
    assert len(calls()) == 4


def test_what_an_earlier_text_left_is_not_restored_with_the_edited_one(shell, calls):
    shell.run(ENRICH)
    shell.run("%%durable_run enrich\nnews = 1")
    in_a_fresh_kernel(shell, "del news")
    shell.run("%%durable_run enrich\nnews = 1")
    assert "restored news of" in shell.out


def test_a_cell_that_fails_shows_its_line_and_runs_again(shell, calls):
    """A run that has failed for good is not what anybody wants restored."""
    failing = (
        "%%durable_run pay\n"
        "from nbdurable import TerminalError\n"
        "calls.append(1)\n"
        "if not can_pay:\n"
        "    raise TerminalError('card declined', 402)\n"
        "'paid'"
    )
    shell.run("can_pay = False")
    shell.run(failing)
    assert "card declined" in shell.out
    assert "Cell In[4], line 5, in run" in shell.out
    assert "nbdurable/" not in shell.out
    shell.run("can_pay = True")
    assert shell.run(failing) == "paid"
    assert len(calls()) == 2


def test_a_corrected_cell_goes_on_after_its_last_step(shell, calls):
    """While its run is not over, an edited cell is that run's new code."""
    cell = (
        "%%durable_run fix\n"
        "first = await ctx.run_typed('first', lambda: calls.append(1) or 1)\n"
        "result = first + missing\n"
        "result"
    )
    shell.run(f"h = get_ipython().run_cell_magic('durable_run', *{split(cell)!r})")
    wait_until(shell, "h.status == 'backing-off'")
    assert shell.run(cell.replace("missing", "1")) == 2
    assert "fix: revision 2; 1 failed run goes on with it" in shell.out
    assert calls() == [1]


def test_fresh_does_not_end_a_run_that_goes_on(shell, calls):
    waiting = "%%durable_run ask\nawait ctx.promise('approved')\n'yes'"
    shell.run(f"h = get_ipython().run_cell_magic('durable_run', *{split(waiting)!r})")
    wait_until(shell, "'GetPromise' in str(h.journal)")
    refused = shell.refused(waiting.replace("ask", "ask --fresh"))
    assert "ask/notebook has not ended: waits for 'approved'" in refused
    assert "%durable kill ask/notebook" in refused
    shell.run("%durable approve ask/notebook")
    assert shell.run(waiting) == "yes"


def test_what_cannot_be_pickled_is_there_now_and_said(shell, calls):
    cell = "%%durable_run guard\nimport threading\nlock = threading.Lock()\nn = None\n{lock: 1}"
    shell.run(cell)
    assert "lock is not kept: cannot be pickled" in shell.out
    assert "its result is not kept" in shell.out
    assert shell.run("lock.locked()") is False
    in_a_fresh_kernel(shell, "del lock, n")
    assert str(shell.run(cell)).startswith("{<unlocked _thread.lock")
    assert "restored n of" in shell.out
    assert "lock is not kept: cannot be pickled" in shell.out
    assert shell.run("n is None, 'lock' in globals()") == (True, False)


def test_a_variable_that_is_too_large_does_not_fail_the_run(shell, calls):
    shell.run("%%durable_run large\nbig = bytes(33_000_000)\nbigger = bytes(40_000_000)")
    assert "bigger is not kept: is over 33,554,432 bytes" in shell.out
    in_a_fresh_kernel(shell, "del big, bigger")
    shell.run("%%durable_run large\nbig = bytes(33_000_000)\nbigger = bytes(40_000_000)")
    assert "restored big of" in shell.out
    assert shell.run("len(big)") == 33_000_000


def test_objects_of_a_class_that_the_cell_defines_are_of_one_class(shell, calls):
    cell = "%%durable_run model\nclass Model: pass\none, two = Model(), Model()"
    shell.run(cell)
    in_a_fresh_kernel(shell, "del Model, one, two")
    shell.run(cell)
    assert shell.run("type(one) is type(two) is Model")


def test_others_see_its_result_as_json_or_as_it_is_printed(shell, calls):
    shell.run("%%durable_run pair\n(1, 2)")
    assert shell.run("%durable result pair/notebook") == [1, 2]
    shell.run("%%durable_run odd\n{1}")
    assert shell.run("%durable result odd/notebook") == "{1}"
    assert "a pickle of" in shell.run("%durable state odd/notebook")["result"]


def test_an_import_that_the_cell_overwrites_is_a_variable(shell, calls):
    """What it holds in the end is what counts; other imports are made anew."""
    cell = "%%durable_run over\nimport json, math\njson = json.dumps([1])"
    cell += "\nfrom os import path as where"
    shell.run(cell)
    assert shell.run("json, math.floor(1.5), where.basename('a/b')") == ("[1]", 1, "b")
    in_a_fresh_kernel(shell, "del json, math, where")
    shell.run(cell)
    assert shell.run("json, math.floor(1.5), where.basename('a/b')") == ("[1]", 1, "b")


def test_names_are_pythons_own_scope(shell, calls):
    """What a comprehension, a lambda or a function within sets is not the cell's."""
    shell.run("x, n = 'x of the notebook', 1")
    shell.run(
        "%%durable_run scope\n"
        "squares = [x * x for x in range(3)]\n"
        "n += 1\n"
        "def inner():\n"
        "    hidden = n\n"
        "    return hidden\n"
        "match {'a': [1, 2], 'b': 3}:\n"
        "    case {'a': [first, *rest], **others}:\n"
        "        pass\n"
        "global declared\n"
        "declared = inner()\n"
        "if (found := 5) and False:\n"
        "    never = 1\n"
    )
    assert shell.run("x, n, squares, first, rest, others, declared, found") == (
        "x of the notebook",
        2,
        [0, 1, 4],
        1,
        [2],
        {"b": 3},
        2,
        5,
    )
    assert shell.run("{'hidden', 'never', 'ctx'} & set(globals())") == set()


def test_a_semicolon_hides_the_value(shell, calls):
    assert shell.run("%%durable_run quiet\n5;") is None
    assert shell.run("%%durable_run loud\n5") == 5


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%%durable_run enrich\n# Nothing.", "the cell is empty"),
        ("%%durable_run\n1", "is followed by a name"),
        ("%%durable_run my-run!\n1", "cannot be the name of a service"),
        ("%%durable_run Taken\n1", "there is a service Taken already; give this another name"),
        ("%%durable_run a --kee 1\n1", "did you mean '--key'?"),
        ("%%durable_run a --timeout 5\n1", "write e.g. --timeout 10m"),
    ],
)
def test_what_is_mistyped_gets_one_line(shell, cell, said):
    shell.run("%%durable_service Taken\nasync def f(ctx): return 1")
    assert said in shell.refused(cell)


@pytest.mark.parametrize(
    ("body", "said", "line"),
    [
        ("x = 1\nreturn x", "'return' outside function", 3),
        ("x = 1\nyield x", "'yield' outside function", 3),
        ("\nx = (", "'(' was never closed", 3),
        ("x = 1\nfrom math import *", "import * only allowed at module level", 3),
    ],
)
def test_a_syntax_error_has_the_line_of_the_cell(shell, body, said, line):
    shell.run(f"%%durable_run a\n{body}")
    assert said in shell.out
    assert f"line {line}" in shell.out
    assert "nbdurable/" not in shell.out


def test_a_run_does_not_become_a_service(shell, calls):
    shell.run(ENRICH)
    refused = shell.refused("%%durable_service enrich\nasync def f(ctx): return 1")
    assert refused.endswith("there is a run enrich already; give this another name")


def test_restore_loads_its_code_and_names_what_it_misses(shell, calls):
    waiting = "%%durable_run ask\nanswer = await ctx.promise('approved')\nsecret, answer"
    shell.run("secret = 1")
    shell.run(f"h = get_ipython().run_cell_magic('durable_run', *{split(waiting)!r})")
    wait_until(shell, "'GetPromise' in str(h.journal)")
    in_a_fresh_kernel(shell, "del secret")
    shell.run("told = %durable restore")
    assert shell.run("str(told)") == (
        "ask: unchanged (revision 1); 1 run goes on; it misses secret: run the cells that define"
        " them"
    )
    shell.run("secret = 2")
    shell.run("%durable approve ask/notebook approved 7")
    assert shell.run(waiting) == (2, 7)


def test_two_run_cells_at_once_and_calls_of_what_other_cells_define(shell, calls):
    """Awaiting a handler inside the cell is a durable call."""
    shell.run("%%durable_object Count\nasync def add(ctx, n): return n + 1")
    assert shell.run("%%durable_run both\nawait Count['a'].add(1), await Count['b'].add(2)") == (
        2,
        3,
    )
    shell.run("%durable show both/notebook")
    assert "Count/a/add" in shell.out


def split(cell):
    """What IPython hands to the magic: its line and its body."""
    line, _, body = cell.partition("\n")
    return line.removeprefix("%%durable_run "), body


def in_a_fresh_kernel(shell, forget):
    shell.run("%unload_ext nbdurable")
    shell.run(forget)
    assert shell.error is None, shell.out
    shell.run("%load_ext nbdurable")
