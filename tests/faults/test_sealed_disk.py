"""The journal cannot be written to: that is said, with what to do, and nothing is lost by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from support.disks import needs_mounts, on_small_disk

import nbdurable
from nbdurable import Service, StoreError
from nbdurable.store.duck import DuckStore

SEALING = Path(__file__).with_name("sealing.py")


service = Service("S")


@service.handler()
async def echo(ctx, number: int) -> int:
    return number


def told(ended: subprocess.CompletedProcess[str]) -> dict:
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_a_journal_on_a_read_only_disk_is_not_opened(tmp_path: Path):
    needs_mounts()
    disk = tmp_path / "disk"
    said = told(on_small_disk(disk, "16m", SEALING, disk, "sealed"))
    assert said["found"] == list(range(10))
    assert "cannot be written to, found while opening the journal" in said["said"]
    assert "Read-only file system" in said["said"]
    assert "NBDURABLE_HOME" in said["said"]


async def test_a_disk_that_becomes_read_only_ends_the_engine_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As a kernel does with a disk that has met an error; no test can have it do that."""

    def sealed(*_: object) -> None:
        raise duckdb.IOException('Could not write file "hot.duckdb.wal": Read-only file system')

    async with nbdurable.open(tmp_path / "j", services=[service]) as engine:
        assert await engine.client.service_call(echo, 1) == 1
        monkeypatch.setattr(DuckStore, "_commit", sealed)
        with pytest.raises(StoreError, match="cannot be written to, found while appending") as said:
            await engine.client.service_call(echo, 2)
        assert "What was acknowledged is safe. Make the disk" in str(said.value)
        with pytest.raises(StoreError, match="Read-only file system"):
            await engine.client.service_call(echo, 3)
    monkeypatch.undo()
    async with nbdurable.open(tmp_path / "j", services=[service]) as engine:
        views = await engine.client.invocations()
        assert [await engine.client.attach(view.id) for view in views] == [1]


def test_a_journal_is_not_opened_where_there_is_no_room(tmp_path: Path):
    needs_mounts()
    disk = tmp_path / "disk"
    said = told(on_small_disk(disk, "16m", SEALING, disk, "full"))
    assert said["found"] == list(range(10))
    assert "is full, found while opening the journal" in said["said"]


OPENING = """
import asyncio, sys
import nbdurable

async def main():
    async with nbdurable.open(sys.argv[1]):
        pass

try:
    asyncio.run(main())
except nbdurable.NbdurableError as error:
    print(error)
"""
# Root may write anywhere, unless it is told to do without that.
LIKE_OTHERS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def open_like_others(folder: Path) -> str:
    before = LIKE_OTHERS if os.getuid() == 0 else []
    if before and subprocess.run([*before, "true"], check=False, capture_output=True).returncode:
        pytest.skip("root cannot be kept from writing here")
    return subprocess.run(
        [*before, sys.executable, "-c", OPENING, folder],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ).stdout


@pytest.mark.parametrize("what", ["a database", "where it would be"])
def test_what_is_not_ours_to_write_is_said(tmp_path: Path, what: str):
    """Also where no disk can be mounted for a test."""
    folder = tmp_path / "project" / ".nbdurable"
    folder.parent.mkdir()
    if what != "where it would be":
        assert open_like_others(folder) == ""
    sealed = folder.parent if what == "where it would be" else folder / "hot.duckdb"
    mode = sealed.stat().st_mode
    sealed.chmod(mode & ~0o222)
    said = open_like_others(folder)
    sealed.chmod(mode)
    assert "Permission denied" in said
    assert "Make the disk and the files writable for this user" in said
    assert "Traceback" not in said
    assert open_like_others(folder) == ""
