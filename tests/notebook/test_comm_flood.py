"""A page that clicks without an end, or says nonsense: the kernel and its runs take no harm."""

from __future__ import annotations

import time

CLICKS = 2_000
# A kernel that is busy with clicks still answers a cell; idle it takes a few milliseconds.
CELL_S_MAX = 20.0

BEGIN = """
%%durable_workflow Flow
async def run(ctx, _):
    answers = [await ctx.promise("one").value()]
    answers.append(await ctx.promise("two").value())
    return answers
"""
FIND = """
import ipywidgets
from nbdurable.notebook.widgets.journal import JournalWidget
known = ipywidgets.widgets.widget._instances.values()
print(*[widget.comm.comm_id for widget in known if isinstance(widget, JournalWidget)])
"""
NONSENSE = [None, 7, [], {}, {"type": "answer"}, {"type": "answer", "id": 5, "value": {}}]


def test_clicks_without_an_end_answer_once_and_leave_the_kernel_usable(start_kernel):
    """A promise is answered by the first; the others are told so, where they clicked."""
    kernel = start_kernel()
    kernel.run("%load_ext nbdurable")
    kernel.run(BEGIN)
    kernel.run('handle = Flow["a"].run(1)\nhandle')
    comm_id = kernel.run(FIND).strip()
    assert len(comm_id) == 32

    def say(content: object) -> None:
        data = {"method": "custom", "content": content}
        message = kernel.client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
        kernel.client.shell_channel.send(message)

    for number in range(CLICKS):
        say({"type": "answer", "id": "one", "value": number})
        say(NONSENSE[number % len(NONSENSE)])
    began = time.monotonic()
    assert "7" in kernel.run("print(3 + 4)")
    cell_s = time.monotonic() - began
    print(f"a cell behind {2 * CLICKS} messages took {cell_s:.1f} s")
    assert cell_s < CELL_S_MAX
    assert "answered 'two'" in kernel.run("%durable approve Flow/a two 1")
    assert kernel.run("await handle") == "[0, 1]"
