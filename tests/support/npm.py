"""Restate's own programs, as npm has them. CI installs npm itself where it is missing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

# The versions that the reference was recorded with.
RESTATE_VERSION = "1.7.12"
# Some 30 MB, the server more; only where nothing answers is it waited out.
INSTALL_S_MAX = 180


def installed(program: str, folder: Path) -> Path:
    """`restate` or `restate-server`, in a folder of the tests' own. No install script is run.

    The program itself, and not the launcher, which would be a process between us and it.
    """
    npm = shutil.which("npm")
    assert npm, "this test runs Restate's own program: install npm (Debian: apt install npm)"
    package = f"@restatedev/{program}@{RESTATE_VERSION}"
    words = ["install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", package]
    done = subprocess.run(
        [npm, *words], capture_output=True, text=True, check=False, timeout=INSTALL_S_MAX
    )
    assert done.returncode == 0, done.stderr
    (found,) = (folder / "node_modules" / "@restatedev").glob(f"{program}-*-*/bin/{program}")
    return found
