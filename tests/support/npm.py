"""What npm has and tests need: Restate's own programs, axe-core. CI installs npm itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

# The versions that the reference was recorded with.
RESTATE_VERSION = "1.7.12"
# Some 30 MB, the server more; only where nothing answers is it waited out.
INSTALL_S_MAX = 180


def install(package: str, folder: Path) -> None:
    """Into this folder; no install script is run."""
    npm = shutil.which("npm")
    assert npm, f"this test needs {package}: install npm (Debian: apt install npm)"
    words = ["install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", package]
    done = subprocess.run(
        [npm, *words], capture_output=True, text=True, check=False, timeout=INSTALL_S_MAX
    )
    assert done.returncode == 0, done.stderr


def installed(program: str, folder: Path) -> Path:
    """`restate` or `restate-server`, in a folder of the tests' own.

    The program itself, and not the launcher, which would be a process between us and it.
    """
    install(f"@restatedev/{program}@{RESTATE_VERSION}", folder)
    (found,) = (folder / "node_modules" / "@restatedev").glob(f"{program}-*-*/bin/{program}")
    return found
