"""Journals as a clean end and as a kill leave them, and what is in one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from store_facts import Log

from nbdurable.store.duck import DuckStore


def closed_journal(folder: Path, *, value_bytes: int = 2_000) -> None:
    """100 facts, all absorbed."""
    random_bytes = random.Random(1)
    store, log = DuckStore(folder), Log()
    store.open()
    store.append([log.set(str(i), random_bytes.randbytes(value_bytes)) for i in range(100)])
    store.close()


def killed_journal(folder: Path) -> None:
    """20 facts absorbed, 5 more in hot's write-ahead log, as a kill leaves them."""
    script = f"""
import os
from pathlib import Path
from store_facts import Log
from nbdurable.store.duck import DuckStore
store, log = DuckStore(Path({str(folder)!r})), Log()
store.open()
store.append([log.set(str(i), b"v" * 50) for i in range(20)])
store.absorb()
for i in range(5):
    store.append([log.set(str(i), b"w" * 50)])
os._exit(0)
"""
    run_apart(script)
    (folder / "owner.json").unlink()


def killed_run(folder: Path) -> None:
    """The same in number, of facts that can be folded."""
    script = f"""
import os
from pathlib import Path
from store_facts import ONE, Log
from nbdurable.store.duck import DuckStore
store, log = DuckStore(Path({str(folder)!r})), Log()
store.open()
store.append([log.created(ONE), *(log.edited(str(i), b"v" * 50) for i in range(19))])
store.absorb()
for i in range(5):
    store.append([log.edited(str(i), b"w" * 50)])
os._exit(0)
"""
    run_apart(script)
    (folder / "owner.json").unlink()


def run_apart(script: str, *arguments: object, check: bool = True) -> str:
    """What a process of its own prints."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        check=check,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ).stdout


def environment() -> dict[str, str]:
    """In which a process of its own finds the package and these modules."""
    return {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}


def opened(folder: Path) -> DuckStore:
    store = DuckStore(folder)
    store.open()
    return store


def lsns(store: DuckStore) -> list[int]:
    return [row.lsn for row in store.read_rows(1, 10_000)]


def journal_id(folder: Path) -> str:
    return str(json.loads((folder / "format.json").read_text())["journal_id"])
