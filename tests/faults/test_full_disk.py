"""The disk is full: nothing acknowledged is lost, who waits is answered once there is room."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.disks import needs_mounts, on_small_disk, run_script

from nbdurable import DiskFullError, EngineClosedError, Service
from nbdurable.core.records import Row
from nbdurable.engine import reopening
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine

FILLING = Path(__file__).with_name("filling.py")
SIZE = "12m"


@pytest.mark.slow
@pytest.mark.parametrize("where", ["commit", "absorb", "payload"])
def test_a_full_disk_is_waited_for(tmp_path: Path, where: str):
    needs_mounts()
    check(on_small_disk(tmp_path / "disk", SIZE, FILLING, tmp_path / "disk", where, "disk"), where)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["commit", "absorb"])
def test_a_limit_of_the_size_of_files_is_a_full_disk(tmp_path: Path, where: str):
    """Where no disk can be mounted for a test, this one is met all the same."""
    check(run_script(FILLING, tmp_path, where, "limit"), where)


def check(ended, where: str) -> None:
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["lost"] == []
    assert "is full, found while" in told["said"][0]
    assert "What was acknowledged is safe. Make room" in told["said"][0]
    assert ("absorbing" if where == "absorb" else "appending") in told["said"][0]
    assert told["said"][-1] == "there is room for the journal again, and the engine goes on"


# -- who waits for room ---------------------------------------------------------------------------

service = Service("S")


@service.handler()
async def echo(ctx, number: int) -> int:
    return number


class FullStore(MemoryStore):
    """Mutable: whether it is full, and how often it was looked whether it is."""

    is_full = False
    look_count = 0

    def append(self, rows: Sequence[Row]) -> None:
        if self.is_full:
            raise DiskFullError("it is full.")
        super().append(rows)

    def reopen(self) -> None:
        self.look_count += 1
        if self.is_full:
            raise DiskFullError("it is full.")
        super().reopen()


async def until_said(caplog: pytest.LogCaptureFixture, said: str) -> None:
    while said not in caplog.text:  # noqa: ASYNC110 - a log tells nobody that it grew.
        await asyncio.sleep(0)


async def test_room_is_looked_for_more_often_than_a_store_that_fails_is_reopened(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """A person needs minutes to make some; giving up after three looks would be no help."""
    monkeypatch.setattr(reopening, "ROOM_LOOK_S_MIN", 0.001)
    monkeypatch.setattr(reopening, "ROOM_LOOK_S_MAX", 0.002)
    store = FullStore()
    with caplog.at_level(logging.WARNING, "nbdurable"):
        async with DurableEngine(services=[service], store=store) as engine:
            store.is_full = True
            calling = asyncio.create_task(engine.client.service_call(echo, 1))
            while store.look_count < 4 * reopening.RECOVERIES_MAX:  # noqa: ASYNC110 - as above.
                await asyncio.sleep(0)
            assert not calling.done()
            store.is_full = False
            assert await calling == 1
    assert [line.getMessage() for line in caplog.records] == [
        "it is full. The engine waits, and goes on by itself once there is room.",
        "there is room for the journal again, and the engine goes on",
    ]


async def test_who_only_looks_is_told_why_and_who_wants_a_result_waits(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """A cell that shows what there is would hang as long as nobody knows what to make room for."""
    monkeypatch.setattr(reopening, "ROOM_LOOK_S_MIN", 0.01)
    monkeypatch.setattr(reopening, "ROOM_LOOK_S_MAX", 0.01)
    store = FullStore()
    async with DurableEngine(services=[service], store=store) as engine:
        client = engine.client
        store.is_full = True
        calling = asyncio.create_task(client.service_call(echo, 1))
        # It may be asked before the disk is known to be full, and then in the same batch.
        looking = asyncio.create_task(client.invocations())
        with caplog.at_level(logging.WARNING, "nbdurable"):
            await until_said(caplog, "The engine waits")
        for _ in range(3):
            with pytest.raises(DiskFullError, match="it is full"):
                await client.invocations()
        with pytest.raises(DiskFullError, match="it is full"):
            engine.engine.look(lambda: 1).result()
        store.is_full = False
        assert await calling == 1
        assert [view.status for view in await client.invocations()] == ["completed"]
        assert looking.done()
        assert isinstance(looking.exception(), DiskFullError) or looking.result() == []


async def test_closing_does_not_wait_for_room(caplog: pytest.LogCaptureFixture):
    store = FullStore()
    with caplog.at_level(logging.WARNING, "nbdurable"):
        async with DurableEngine(services=[service], store=store) as engine:
            store.is_full = True
            calling = asyncio.create_task(engine.client.service_call(echo, 1))
            await until_said(caplog, "The engine waits")
        with pytest.raises(EngineClosedError):
            await calling
