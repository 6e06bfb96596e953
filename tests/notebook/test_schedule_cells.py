"""`durable.schedule()` in a cell: of this notebook's journal, and for what its cells define."""

from __future__ import annotations

COUNTER = """%%durable_object Counter
async def add(ctx, delta):
    ctx.set("n", (await ctx.get("n") or 0) + delta)
"""


def test_what_a_cell_defines_is_scheduled_by_its_name(shell):
    shell.run(COUNTER)
    shell.run("from nbdurable import durable")
    shell.run('hourly = durable.schedule("hourly", Counter["ada"].add, "@hourly", 1)')
    assert shell.run("hourly.show()['target']") == "Counter/ada/add"
    shell.run("hourly.trigger()")
    assert shell.run("[one.name for one in durable.schedules()]") == ["hourly"]
    assert "NbdurableSchedule" not in repr(shell.run("%durable ls"))
    shell.run("%reload_ext nbdurable")
    assert "1 run in ./.nbdurable, all finished" in shell.out
