"""A run that was sent, and waits: nobody has a process for it until it is answered."""

from __future__ import annotations

import threading
from datetime import timedelta

from support.notebooks import mark, marks, write

import nbdurable
from nbdurable import durable

IMPORT = "from datetime import timedelta\nfrom nbdurable import durable\n"


def test_an_answer_gives_a_suspended_run_its_process(folder):
    """Whoever waits for the result waits through it, and hears nothing of two processes."""
    write(
        folder,
        IMPORT + mark("ask") + "\nok = await durable.approval('publish')",
        mark("after") + "\nok",
    )
    with nbdurable.open_sync() as engine:
        run = durable.notebook("report.ipynb", engine=engine).run("k")
        suspended = threading.Event()

        def look(view, _entries) -> None:
            if view.status == "suspended":
                suspended.set()

        stop = engine.opened.client.watch(run.id, look)
        assert suspended.wait(timedelta(seconds=60).total_seconds())
        stop()
        assert marks(folder) == ["ask"]
        engine.client.resolve_promise("Notebook", "k", "publish", value=True)
        assert run.result() == {"cells": 2, "restored": 0, "stopped": False}
    assert marks(folder)[-2:] == ["ask", "after"]
