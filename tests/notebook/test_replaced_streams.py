"""Where somebody puts other streams in the place of ours, handlers' output is captured again."""

import io
import sys

import pytest

TALK = """%%durable_workflow Talk
import sys
async def run(ctx, request):
    print("said")
    def step():
        print("in a step", file=sys.stderr)
    await ctx.run_typed("step", step)
"""


@pytest.fixture
def streams():
    """As they were, afterwards."""
    kept = sys.stdout, sys.stderr
    yield
    sys.stdout, sys.stderr = kept


def test_output_is_journaled_after_the_streams_were_replaced(shell, streams):
    """A logger, a test runner or an IDE does that, after the extension was loaded or before."""
    # Every cell of this shell has streams of its own, which is how it hears them.
    shell.run(TALK)
    shell.run('await Talk["a"].run(None)')
    assert journaled(shell, "a") == ["| said", "| in a step"]
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    shell.run('await Talk["b"].run(None)')
    assert journaled(shell, "b") == ["| said", "| in a step"]


def test_it_is_shown_by_the_streams_that_are_there_and_they_are_given_back(shell, streams):
    shell.run(TALK)
    sys.stdout = mine = io.StringIO()
    shell.ip.run_cell('await Talk["c"].run(None)')
    assert mine.getvalue().count("said") == 1
    assert type(sys.stdout).__name__ == "CapturingStream"
    shell.ip.run_cell("%unload_ext nbdurable")
    assert sys.stdout is mine


def journaled(shell, key):
    shown = repr(shell.run(f"%durable show {key}").journal)
    return [line.strip() for line in shown.splitlines() if line.strip().startswith("|")]
