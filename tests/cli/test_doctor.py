"""`doctor`: what is well, what is ill, and a journal that cannot be opened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.command import nbdurable

import nbdurable as nbdurable_api


def findings(*words: str) -> dict[str, dict[str, Any]]:
    return {one["check"]: one for one in json.loads(nbdurable("doctor", "--json", *words).stdout)}


def ill(found: dict[str, dict[str, Any]]) -> set[str]:
    return {check for check, one in found.items() if one["health"] == "ill"}


def test_a_journal_that_is_well(lived: Path) -> None:
    found = findings()
    assert nbdurable("doctor").stdout.startswith("✓")
    assert ill(found) == set()
    assert "no process has it open" in found["owner"]["says"]
    assert found["runs"]["says"] == "7, of which 3 are not over: 3 ready"
    shown = nbdurable("doctor")
    assert shown.exit_code == 0
    assert "iB of databases" in shown.stdout


def test_where_no_journal_is_nothing_is_made(folder: Path) -> None:
    assert "there is none" in findings()["journal"]["says"]
    assert list(folder.iterdir()) == []


def test_what_is_ill_says_what_to_do(lived: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lived / ".nbdurable" / "base.duckdb").chmod(0o644)
    monkeypatch.setenv("NBDURABLE_RETRY_MAX_ATEMPTS", "3")
    nbdurable("pause", "Greeter/nap")
    (lived / ".nbdurable" / "base.duckdb").chmod(0o644)
    found = findings()
    assert ill(found) == {"privacy", "settings", "paused"}
    assert all(found[check]["todo"] for check in ill(found))
    assert nbdurable("doctor").exit_code == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("retry_max_atempts = 3", "there is no such setting"),
        ("idle_exit = 5", "idle_exit in"),
        ("idle_exit = ", "cannot be read"),
    ],
)
def test_a_setting_that_cannot_be_is_a_finding_and_the_rest_is_looked_at(
    lived: Path, line: str, said: str
) -> None:
    (lived / "pyproject.toml").write_text(f"[tool.nbdurable]\n{line}\n")
    found = findings()
    assert ill(found) == {"settings"}
    assert said in found["settings"]["says"]
    assert found["settings"]["todo"]
    assert found["runs"]["says"].startswith("7, of which 3")
    assert nbdurable("ls").exit_code == 2


KILLED = """
import os, signal, nbdurable
from nbdurable import Service
greeter = Service("Greeter")
@greeter.handler()
async def greet(ctx, name: str) -> str:
    return name
with nbdurable.open_sync(services=[greeter]) as engine:
    for n in range(20):
        engine.client.service_call(greet, "Ada")
    engine.client.service_call(greet, "A" * 100_000)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_in(folder: Path) -> None:
    lived_in(folder, KILLED)


def lived_in(folder: Path, script: str) -> None:
    path = os.pathsep.join(filter(None, sys.path))
    lived = [sys.executable, "-c", script]
    subprocess.run(lived, check=False, cwd=folder, env={**os.environ, "PYTHONPATH": path})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_to_look_at_a_journal_changes_nothing(folder: Path) -> None:
    """Whoever opens one absorbs its log and begins an epoch; a harmed one is better left alone."""
    killed_in(folder)
    before = contents(folder)
    found = findings()
    assert ill(found) == set()
    assert found["runs"]["says"] == "21, of which 0 are not over"
    assert contents(folder) == before


LARGE = """
import random, nbdurable
from nbdurable import Service
keeper = Service("Keeper")
chance = random.Random(1)
@keeper.handler()
async def keep(ctx, number: int) -> str:
    return chance.randbytes(7_500).hex()
for _ in range(2):
    with nbdurable.open_sync(services=[keeper]) as engine:
        for n in range(100):
            engine.client.service_call(keep, n)
"""


def test_a_harmed_block_that_no_opening_reads_is_found(folder: Path) -> None:
    lived_in(folder, LARGE)
    base = folder / ".nbdurable" / "base.duckdb"
    content = bytearray(base.read_bytes())
    content[len(content) // 2] ^= 0x10
    base.write_bytes(content)
    before = contents(folder)
    found = findings()
    assert ill(found) == {"opening"}
    assert "base.duckdb: facts " in found["opening"]["says"]
    assert "cannot be read" in found["opening"]["says"]
    assert "--repair --dry-run" in found["opening"]["todo"]
    assert contents(folder) == before


def test_a_damaged_journal_is_set_aside_and_what_would_be_lost_is_said(folder: Path) -> None:
    killed_in(folder)
    log = folder / ".nbdurable" / "hot.duckdb.wal"
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0x10
    log.write_bytes(content)

    refused = nbdurable("ls")
    assert refused.exit_code == 1
    assert "doctor --repair --dry-run" in refused.stderr
    assert "--repair --dry-run" in findings()["opening"]["todo"]
    found = findings("--copy-aside")
    (copy,) = folder.glob(".nbdurable-aside-*")
    assert str(copy) in found["copied"]["says"]
    assert (copy / log.name).read_bytes() == bytes(content)
    assert ill(found) == {"hot.duckdb"}
    assert "facts can be read" in found["hot.duckdb"]["says"]
    assert "doctor --repair" in found["hot.duckdb"]["todo"]


def test_a_repair_says_first_what_it_would_do_and_asks(folder: Path) -> None:
    killed_in(folder)
    log = folder / ".nbdurable" / "hot.duckdb.wal"
    log.write_bytes(log.read_bytes()[:-9])
    before = log.read_bytes()
    tried = nbdurable("doctor", "--repair", "--dry-run")
    assert tried.exit_code == 1
    assert "give up the one fact acknowledged after that" in " ".join(tried.stdout.split())
    unasked = nbdurable("doctor", "--repair")
    assert unasked.exit_code == 2
    assert "say --yes" in unasked.stderr
    assert log.read_bytes() == before
    assert [path.name for path in folder.iterdir()] == [".nbdurable"]

    done = findings("--repair", "--yes")
    (copy,) = folder.glob(".nbdurable-aside-*")
    assert str(copy) in done["repair"]["says"]
    assert (copy / log.name).read_bytes() == before
    assert nbdurable("ls").exit_code == 0, "what was advised does not help"
    assert "nothing to repair" in findings("--repair")["repair"]["says"]


def test_what_somebody_has_open_is_not_repaired(lived: Path) -> None:
    with nbdurable_api.open_sync():
        refused = nbdurable("doctor", "--repair", "--yes")
    assert refused.exit_code == 75
    assert "is already open in this process" in refused.stderr


def test_a_dry_run_of_nothing_is_refused(lived: Path) -> None:
    assert nbdurable("doctor", "--dry-run").exit_code == 2


def test_a_large_payload_that_is_missing_is_named(folder: Path) -> None:
    killed_in(folder)
    assert findings()["payloads"]["says"] == "all 1 large payloads are there"
    (blob,) = (folder / ".nbdurable" / "blobs").iterdir()
    nbdurable("doctor", "--copy-aside")
    blob.unlink()
    found = findings()
    assert ill(found) == {"payloads"}
    assert blob.name in found["payloads"]["says"]
    assert "done" in findings("--repair", "--yes")["repair"]["says"]
    assert ill(findings()) == set()
