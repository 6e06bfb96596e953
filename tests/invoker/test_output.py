"""What handlers print is recorded once, beside its entry, however often they are replayed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.running import durable, replaying, until

import nbdurable
from nbdurable import Context, Service
from nbdurable.core.attempt import Phase
from nbdurable.core.proposals import WriteOutput
from nbdurable.core.values import OutputStream
from nbdurable.invoker.output import (
    CHUNK_CHARS_MAX,
    DISPLAY_BYTES_MAX,
    Output,
    Writer,
    output_var,
    overwritten,
)

service = Service("S")


def say(text: str, stream: OutputStream = "stdout") -> None:
    writer = output_var.get()
    assert writer is not None
    writer.write(stream, f"{text}\n")


@service.handler()
async def talk(ctx: Context) -> None:
    say("before")

    def step() -> None:
        say("in a step")

    async def async_step() -> None:
        say("in another")

    await ctx.run_typed("def", step)
    await ctx.run_typed("async", async_step)
    say("between", "stderr")
    await ctx.sleep(timedelta(milliseconds=1))
    say("after")


@service.handler()
def talk_on_a_thread(ctx: Context) -> None:
    say("on a thread")


@pytest.mark.parametrize("opening", [durable, replaying])
async def test_output_is_recorded_once_beside_its_entry(opening: Callable[..., Any]):
    """A step's output belongs to the step, a handler's to the entry it came after."""
    async with opening(service) as engine:
        sent = await engine.client.service_send(talk, None)
        await engine.client.attach(sent.invocation_id)
        entries = await engine.client.journal(sent.invocation_id)
    assert [(entry.kind, entry.name, entry.output) for entry in entries] == [
        ("Input", "talk", "before\n"),
        ("Run", "def", "in a step\n"),
        ("Run", "async", "in another\nbetween\n"),
        ("Sleep", None, "after\n"),
        ("Output", None, ""),
    ]


async def test_a_def_handler_is_recorded_too():
    async with durable(service) as engine:
        sent = await engine.client.service_send(talk_on_a_thread, None)
        await engine.client.attach(sent.invocation_id)
        (begun, _) = await engine.client.journal(sent.invocation_id)
    assert begun.output == "on a thread\n"


async def test_output_is_seen_while_the_handler_goes_on():
    """A progress bar that shows when all is done shows nothing."""
    slow, finish = Service("Slow"), asyncio.Event()
    loop = asyncio.get_running_loop()

    @slow.handler()
    async def work(ctx: Context) -> None:
        say("at work")
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(finish.wait(), loop))

    async with durable(slow) as engine:
        sent = await engine.client.service_send(work, None)
        await until(engine, sent.invocation_id, lambda _, e: e[0].output == "at work\n")
        finish.set()
        await engine.client.attach(sent.invocation_id)


async def test_sql_finds_what_was_printed(tmp_path: Path):
    """Whole, where a view is cut."""
    async with nbdurable.open(tmp_path / "journal", services=[service]) as engine:
        sent = await engine.client.service_send(talk, None)
        await engine.client.attach(sent.invocation_id)
        found = await engine.client.query(
            "select stream, value_utf8, after_journal_entry_index from output where id = ?"
            " order by lsn",
            [sent.invocation_id],
        )
    assert [row[1] for row in found.rows] == [
        "before\n",
        "in a step\n",
        "in another\n",
        "between\n",
        "after\n",
    ]
    assert [row[0] for row in found.rows] == ["stdout", "stdout", "stdout", "stderr", "stdout"]


# -- one attempt's ------------------------------------------------------------------------------


class Told:
    """Mutable: an output, where its attempt is, and how often it has called for somebody."""

    def __init__(self) -> None:
        self.phase = Phase.PROCESSING
        self.called = 0
        self.output = Output(lambda: self.phase, self._call, is_heard=True)
        self.writer = Writer(self.output)

    def _call(self) -> None:
        self.called += 1

    def taken(self) -> list[tuple[int | None, str, bytes]]:
        return [(o.completion_id, o.stream, o.payload) for o in self.output.take()]


def test_what_is_written_before_anybody_comes_is_one_piece_per_stream():
    told = Told()
    for word in ("a", "b"):
        told.writer.write("stdout", word)
    told.writer.of_step(1).write("stdout", "c")
    told.writer.write("stderr", "d")
    assert told.taken() == [
        (None, "stdout", b"ab"),
        (1, "stdout", b"c"),
        (None, "stderr", b"d"),
    ]
    assert told.called == 1
    assert told.taken() == []


def test_replay_is_silent_and_its_steps_are_not():
    told = Told()
    told.phase = Phase.REPLAYING
    assert told.writer.is_silent
    told.writer.write("stdout", "again")
    told.writer.display({"text/plain": "again"})
    told.writer.of_step(1).write("stdout", "a step really runs")
    assert told.taken() == [(1, "stdout", b"a step really runs")]


def test_what_is_over_is_silent():
    told = Told()
    told.phase = Phase.CLOSED
    told.writer.of_step(1).write("stdout", "late")
    told.writer.write("stdout", "late")
    assert told.taken() == []


def test_long_output_comes_in_pieces_and_endless_output_ends():
    told = Told()
    told.writer.write("stdout", "x" * (CHUNK_CHARS_MAX + 1))
    assert [len(payload) for _, _, payload in told.taken()] == [CHUNK_CHARS_MAX, 1]
    for _ in range(1_000):
        told.writer.write("stdout", "x" * CHUNK_CHARS_MAX)
    assert sum(len(payload) for _, _, payload in told.taken()) < 5_000_000
    told.writer.write("stdout", "more")
    assert told.taken() == []


def test_a_picture_is_a_bundle_and_a_huge_one_its_text():
    told = Told()
    told.writer.display({"text/plain": "<Figure>", "image/png": "iVBOR"})
    told.writer.display({"text/plain": "<Figure>", "image/png": "x" * DISPLAY_BYTES_MAX})
    small, huge = (json.loads(payload) for _, _, payload in told.taken())
    assert set(small) == {"text/plain", "image/png"}
    assert huge == {"text/plain": "<Figure>"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n", "plain\n"),
        ("\r10%\r20%", "\r20%"),
        ("1/3\r2/3\r", "\r2/3\r"),
        ("loading\rdone\nnext", "\rdone\nnext"),
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        ("", ""),
    ],
)
def test_a_bar_that_redraws_itself_is_kept_as_it_was_last(text: str, shown: str):
    assert overwritten(text) == shown


def test_nothing_that_is_printed_breaks_the_journal():
    told = Told()
    told.writer.write("stdout", "half a character: \ud800")
    (written,) = told.output.take()
    assert isinstance(written, WriteOutput)
    assert written.payload == b"half a character: ?"
