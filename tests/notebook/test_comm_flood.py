"""A page that clicks without an end, or says nonsense: the kernel and its runs take no harm."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

CLICKS = 2_000

BEGIN = """
%%durable_workflow Flow
async def run(ctx, _):
    answers = [await ctx.promise("one").value()]
    answers.append(await ctx.promise("two").value())
    return answers
"""
NONSENSE = [None, 7, [], {}, {"type": "answer"}, {"type": "answer", "id": 5, "value": {}}]


def test_clicks_without_an_end_answer_once_and_leave_the_kernel_usable(start_kernel):
    """A promise is answered by the first; the others are told so, where they clicked."""
    kernel = start_kernel()
    kernel.run("%load_ext nbdurable")
    kernel.run(BEGIN)
    kernel.run('handle = Flow["a"].run(1)\nhandle')
    comm_id = kernel.journal_comm()
    for number in range(CLICKS):
        kernel.click(comm_id, {"type": "answer", "id": "one", "value": number})
        kernel.click(comm_id, NONSENSE[number % len(NONSENSE)])
    assert "7" in kernel.run("print(3 + 4)")
    assert "answered 'two'" in kernel.run("%durable approve Flow/a two 1")
    assert kernel.run("await handle") == "[0, 1]"
