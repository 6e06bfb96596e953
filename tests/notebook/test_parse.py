import ast

import pytest

from nbdurable.errors import DefinitionError
from nbdurable.notebook.parse import read_cell


def read(source, kind="service", name="Greeter"):
    return read_cell(kind, name, ast.parse(source))


def test_functions_that_take_ctx_first_are_handlers_and_others_are_helpers():
    """Helpers stay ordinary functions, so a cell can be written as a module is."""
    cell = read(
        "import math\n"
        "def helper(name): ...\n"
        "def other(name, ctx): ...\n"
        "async def greet(ctx, name): ...\n"
        "def wave(ctx, /): ...\n"
    )
    assert cell.handlers == ("greet", "wave")


def test_comments_and_blanks_make_no_other_digest_but_code_does():
    """A cell that was only tidied up is the revision it was."""
    plain = read("async def greet(ctx, name):\n    return name")
    tidied = read("# Why.\n\nasync def greet(ctx,   name):\n\n    return (name)  # So.\n")
    changed = read("async def greet(ctx, name):\n    return name.upper()")
    assert plain.digest == tidied.digest
    assert plain.digest != changed.digest
    assert len(plain.digest) == 32


def test_the_digest_tells_kinds_names_and_shared_marks_apart():
    """They change what the cell does without changing a handler's code."""
    exclusive = "async def run(ctx, name): ..."
    digests = {
        read(exclusive).digest,
        read(exclusive, name="Other").digest,
        read(exclusive, kind="object").digest,
        read(exclusive, kind="workflow").digest,
        read(f"@shared\n{exclusive}", kind="object").digest,
    }
    assert len(digests) == 5


def test_the_shared_mark_is_taken_out_of_the_tree():
    """It needs no name in the user's namespace then, and hides none that is there."""
    cell = read("@shared\nasync def total(ctx): ...", kind="object")
    assert cell.shared == {"total"}
    assert "shared" not in ast.unparse(cell.tree)


@pytest.mark.parametrize(
    ("kind", "name", "source", "says"),
    [
        ("service", "G", "x = 1", "no handler in this cell; write: async def greet(ctx, name)"),
        ("service", "G", "def f(name): ...", "no handler in this cell"),
        ("workflow", "P", "async def go(ctx): ...", "write: async def run(ctx, request)"),
        ("workflow", "P", "@shared\nasync def run(ctx): ...", "not shared"),
        ("service", "G", "@shared\nasync def f(ctx): ...", "remove @shared"),
        ("service", "G", "async def f(ctx): ...\nasync def f(ctx): ...", "defined twice"),
        ("workflow", "my-flow", "async def run(ctx): ...", "write: %%durable_workflow MyFlow"),
        ("service", "class", "async def run(ctx): ...", "no Python name"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_write(kind, name, source, says):
    """The reader has the cell before them and wants the line to put there."""
    with pytest.raises(DefinitionError) as refused:
        read(source, kind, name)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_run_cell_is_one_function_that_returns_its_value_and_its_names():
    """Read as a cell: what is not set yet is the notebook's."""
    cell = read("total = total + 1\nlist(map(lambda n: n + total, [1]))", kind="run")
    names = {}
    exec(compile(cell.tree, "cell", "exec"), names)  # noqa: S102 - it is the test's own.
    with pytest.raises(StopIteration) as ended:
        names["run"](None, {"total": 6}).send(None)
    result, variables = ended.value.value
    assert (result, variables["total"], cell.sets) == ([8], 7, {"total"})
