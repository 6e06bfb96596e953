"""What is large is proposed, committed and read in groups: none too large, none too small."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from nbdurable import BytesSerde, Service, VirtualObject
from nbdurable.core.attempt import ref_of
from nbdurable.core.commands import SetStateCommand
from nbdurable.core.futures import Completion
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import AppendCommand, CleanUp, Invoke, Suspend
from nbdurable.core.records import Row
from nbdurable.core.values import Target
from nbdurable.engine import letters as letters_room
from nbdurable.engine import writer
from nbdurable.engine.letters import Letter, batches
from nbdurable.engine.writer import WriterThread, WriteSide
from nbdurable.invoker import parts
from nbdurable.invoker.parts import in_parts
from nbdurable.store.blobs import UNNAMED_KEPT_MS
from nbdurable.store.duck import DuckStore
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine

VALUES, VALUE_BYTES = 300, 20_000
SUSPEND = Suspend(waiting_for=Completion(id=1), notification_count=0)

box = VirtualObject("Box")
echoes = Service("Echoes", journal_retention=timedelta(days=1))


@box.handler()
async def fill(ctx, count: int) -> int:
    for number in range(count):
        ctx.set(f"value {number}", b"%d" % number * VALUE_BYTES, serde=BytesSerde())
    return count


@box.handler()
async def weigh(ctx) -> int:
    names = await ctx.state_keys()
    return sum([len(await ctx.get(name, serde=BytesSerde())) for name in names])


@echoes.handler()
async def echo(ctx, number: int) -> int:
    return number


def call(payload: bytes) -> Letter:
    return Letter(
        Invoke(
            invocation_id=InvocationId("inv_1one"),
            seed=1,
            target=Target(service="S", handler="h"),
            argument=ref_of(payload),
            payload=payload,
        )
    )


def test_a_batch_has_few_proposals_and_few_bytes_and_keeps_their_order(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(letters_room, "BATCH_PROPOSALS_MAX", 3)
    monkeypatch.setattr(letters_room, "BATCH_BYTES_MAX", 10)
    sizes = [1, 1, 1, 1, 9, 2, 25, 0, 4]
    letters = [*map(call, [bytes(size) for size in sizes]), Letter(CleanUp())]
    found = list(batches(letters))
    assert [letter for batch in found for letter in batch] == letters
    shown = [[len(getattr(one.proposal, "payload", b"")) for one in batch] for batch in found]
    assert shown == [[1, 1, 1], [1, 9], [2], [25], [0, 4, 0]]
    assert list(batches([])) == []


def test_what_an_attempt_did_is_proposed_in_parts_and_in_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "STEPS_BYTES_MAX", 10)

    def put(value: bytes) -> AppendCommand:
        command = SetStateCommand(key="n", value=ref_of(value))
        return AppendCommand(command=command, payload=value)

    steps = [*map(put, [b"x" * size for size in (4, 6, 1, 30, 5)]), SUSPEND]
    assert [[len(getattr(s, "payload", b"")) for s in part] for part in in_parts(steps)] == [
        [4, 6],
        [1],
        [30],
        [5, 0],
    ]
    assert [step for part in in_parts(steps) for step in part] == steps


class CountingStore(DuckStore):
    """Mutable: how many rows went into each commit, and how often payloads were read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.commits: list[int] = []
        self.reads: list[int] = []

    def append(self, rows: Sequence[Row]) -> None:
        self.commits.append(sum(len(row.payload or b"") for row in rows))
        super().append(rows)

    def read_payload(self, lsn: int) -> bytes | None:
        self.reads.append(1)
        return super().read_payload(lsn)

    def read_payloads(self, lsns: Sequence[int]) -> dict[int, bytes]:
        self.reads.append(len(lsns))
        return super().read_payloads(lsns)


async def test_a_key_with_many_values_is_written_and_read_in_groups(tmp_path: Path):
    """One by one, each value took a statement: 2,000 of them took a minute and a half."""
    store = CountingStore(tmp_path / "j")
    async with DurableEngine(store.folder, [box], store=store) as engine:
        assert await engine.client.object_call(fill, "a", VALUES) == VALUES
    total = sum(len(str(number)) * VALUE_BYTES for number in range(VALUES))
    assert max(store.commits) <= letters_room.BATCH_BYTES_MAX < total
    again = CountingStore(tmp_path / "j")
    async with DurableEngine(again.folder, [box], store=again) as engine:
        assert await engine.client.object_call(weigh, "a", None) == total
    assert again.reads == [VALUES]


async def test_what_many_were_sent_is_read_in_one_statement_and_not_kept(tmp_path: Path):
    """A list of runs is asked for on the engine's thread, where all steps wait meanwhile."""
    store = CountingStore(tmp_path / "j")
    async with DurableEngine(store.folder, [echoes], store=store) as engine:
        for number in range(5):
            await engine.client.service_call(echo, number)
        store.reads.clear()
        for _ in range(2):
            called = await engine.client.calls_of("Echoes")
            assert [one.argument for one in called] == [b"%d" % number for number in range(5)]
        assert store.reads == [5, 5]


# -- when nothing is asked ------------------------------------------------------------------------


class IdleStore(MemoryStore):
    """Mutable: told when it is absorbed."""

    def __init__(self) -> None:
        super().__init__()
        self.absorbed = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def absorb(self) -> None:
        super().absorb()
        self.loop.call_soon_threadsafe(self.absorbed.set)


async def test_a_writer_that_has_nothing_to_write_tidies_up_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
):
    """Files that nobody names any more go by that also where nobody ever writes again."""
    monkeypatch.setattr(writer, "IDLE_S", 0.01)
    store = IdleStore()
    store.open()
    idle = WriterThread(store, asyncio.get_running_loop())
    for _ in range(3):
        store.absorbed.clear()
        await store.absorbed.wait()
    idle.close()


def test_what_tidying_up_meets_is_told_to_the_next_commit(monkeypatch: pytest.MonkeyPatch):
    """As with any other absorb: nobody waits for it, and nothing may build on it."""
    store, tried = MemoryStore(), []

    def fail() -> None:
        tried.append("absorb")
        raise OSError("no")

    monkeypatch.setattr(store, "absorb", fail)
    side = WriteSide(store)
    side.tidy()
    side.tidy()
    with pytest.raises(OSError, match="no"):
        side.append([])
    assert tried == ["absorb"]


def test_an_idle_journal_loses_the_files_that_nobody_names(tmp_path: Path):
    """Tidied up twice, an hour apart, with nothing written in between."""
    now_ms = 1_795_651_200_000
    store = DuckStore(tmp_path / "j", now_ms=lambda: now_ms)
    store.open()
    left = tmp_path / "j" / "blobs" / ("0" * 32)
    left.write_bytes(b"of a commit that a kill came before")
    store.absorb()
    assert left.exists()
    now_ms = left.stat().st_mtime_ns // 1_000_000 + 3 * UNNAMED_KEPT_MS
    store.absorb()
    store.absorb()
    now_ms += UNNAMED_KEPT_MS
    store.absorb()
    assert not left.exists()
    store.close()
