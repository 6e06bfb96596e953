"""A journal belongs to its project: it moves with it, and is missed when it goes."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nbdurable
from nbdurable import JournalGoneError, RunOptions, Service, Workflow

flow = Workflow("Flow")


@flow.main()
async def run(ctx, size: int) -> int:
    """Half a payload that is a row, half one that is a file, then a person."""
    text = await ctx.run_typed("make", lambda: "x" * size)
    await ctx.promise("go on")
    return len(text)


async def test_a_moved_project_keeps_everything(tmp_path: Path) -> None:
    """People copy and rename folders; a run that waits must not be lost by that."""
    before, after = tmp_path / "before", tmp_path / "after"
    async with nbdurable.open(before / ".nbdurable", services=[flow]) as engine:
        for key, size in (("small", 10), ("large", 100_000)):
            sent = await engine.client.workflow_send(run, key, size)
            await reached(engine.client, sent.invocation_id)
    shutil.move(before, after)
    async with nbdurable.open(after / ".nbdurable", services=[flow]) as engine:
        for key, size in (("small", 10), ("large", 100_000)):
            await engine.client.resolve_promise("Flow", key, "go on")
            assert size == await engine.client.workflow_attach(run, key)


async def test_a_journal_replaced_under_its_owner_is_noticed(tmp_path: Path) -> None:
    """A restored backup must not be acknowledged to as if it were the journal we opened."""
    folder, backup = tmp_path / "journal", tmp_path / "backup"
    async with nbdurable.open(folder, services=[flow]) as engine:
        await engine.client.workflow_send(run, "a", 1)
    shutil.copytree(folder, backup)
    async with nbdurable.DurableEngine(folder, [flow]) as engine:
        shutil.rmtree(folder)
        shutil.copytree(backup, folder)
        with pytest.raises(JournalGoneError, match="deleted or replaced while process"):
            await engine.client.workflow_send(run, "b", 1)


async def reached(client, invocation_id: str) -> None:
    """Return when the run waits for its promise."""
    while not (await client.invocation(invocation_id)).open_promises:
        await client.services()  # One more turn of the engine.


REFUSED = """
import asyncio, sys, nbdurable
async def main():
    async with nbdurable.DurableEngine(sys.argv[1]):
        pass
asyncio.run(main())
"""


async def test_a_held_journal_is_one_sentence_under_the_users_own_line(tmp_path: Path) -> None:
    """Who holds it and what to do; no frames of the engine, no lock error of DuckDB's.

    `open()` would join the owner; this is what must own the journal or not start.
    """
    service = Service("S")

    @service.handler()
    async def noop(ctx) -> None:
        await ctx.run_typed("noop", lambda: None, RunOptions())

    async with nbdurable.open(tmp_path / "journal", services=[service]):
        shown = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", REFUSED, tmp_path / "journal"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert shown.returncode == 1
    assert "is held by process" in shown.stderr.splitlines()[-1]
    assert "shut that kernel down" in shown.stderr
    for ours in ("nbdurable/engine/", "nbdurable/store/", "IO Error"):
        assert ours not in shown.stderr
