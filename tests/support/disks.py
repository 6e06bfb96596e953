"""A disk of a test's own: small, or sealed while it is in use. In a mount namespace of its own.

The namespace goes with its process, so nothing is left behind however that ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

SCRIPT_S_MAX = 120
_UNSHARE = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"])]
_MOUNT = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'


@cache
def can_mount() -> bool:
    """Not every container may."""
    if shutil.which("unshare") is None:
        return False
    trying = [*_UNSHARE, "sh", "-c", _MOUNT, "sh", "1m", tempfile.gettempdir(), "true"]
    return subprocess.run(trying, check=False, capture_output=True).returncode == 0


def needs_mounts() -> None:
    if not can_mount():
        pytest.skip("a disk of its own cannot be mounted here")


def on_small_disk(
    place: Path, size: str, script: Path, *arguments: object
) -> subprocess.CompletedProcess[str]:
    """Run a script that finds `place` to be a disk of this size, and may mount it anew."""
    place.mkdir(exist_ok=True)
    return run_script(script, *arguments, before=[*_UNSHARE, "sh", "-c", _MOUNT, "sh", size, place])


def run_script(
    script: Path, *arguments: object, before: list[str | Path] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(before or []), sys.executable, script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=SCRIPT_S_MAX,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
