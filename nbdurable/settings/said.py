"""Whether anything is said at all, and what that comes to. Cheap where nothing is."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nbdurable.sdk.options import EngineOptions

if TYPE_CHECKING:
    from nbdurable.settings.model import Notify, Settings

JOURNAL_FOLDER: Final = ".nbdurable"
PREFIX: Final = "NBDURABLE_"
HOME: Final = f"{PREFIX}HOME"
PYPROJECT: Final = "pyproject.toml"
TABLE: Final = ("tool", "nbdurable")
# Each is a Python, a kernel, and what its cells load; most machines have that much for four.
NOTEBOOK_PROCESSES: Final = 4
# Deeper than any project; a bound, because the search must have one.
DEPTH_MAX: Final = 64


def home() -> Path:
    """Where the journal is, unless a call says otherwise."""
    said = os.environ.get(HOME)
    if said:
        return Path(said)
    settings = settings_here()
    return Path(JOURNAL_FOLDER) if settings is None else settings.home


def options_here(call: EngineOptions | None) -> EngineOptions:
    """What the call says, and what is said here about the rest.

    Raises:
        SettingsError: A variable or the file says what cannot be.
    """
    call = call or EngineOptions()
    settings = settings_here()
    return call if settings is None else settings.engine_options(call)


def notebook_processes_here() -> int:
    """How many notebook runs that were sent may have a process at once."""
    settings = settings_here()
    return NOTEBOOK_PROCESSES if settings is None else settings.notebook_processes


def notify_here() -> Notify | None:
    """Who is told how runs stand."""
    settings = settings_here()
    return None if settings is None else settings.notify


def settings_here() -> Settings | None:
    """None when nobody says anything, which is found out without reading how it would be said.

    Raises:
        SettingsError: A variable or the file says what cannot be.
    """
    if not _is_anything_said():
        return None
    from nbdurable.settings.model import read_settings

    return read_settings()


def pyproject() -> Path | None:
    """The nearest `pyproject.toml`: of this folder, or of one that it is in."""
    here = Path.cwd()
    for folder in (here, *here.parents)[:DEPTH_MAX]:
        file = folder / PYPROJECT
        if file.is_file():
            return None if is_planted(file, os.getuid()) else file
    return None


def is_planted(file: Path, uid: int) -> bool:
    """Whether somebody else has put it where everybody may: in /tmp, for whoever works below.

    It could say that no token is wanted, or where the journal is.
    """
    everybody_may = file.parent.stat().st_mode & stat.S_IWOTH
    return bool(everybody_may) and file.stat().st_uid not in (uid, 0)


def _is_anything_said() -> bool:
    # Where the journal is says nothing about how it is run.
    if any(name.upper().startswith(PREFIX) and name.upper() != HOME for name in os.environ):
        return True
    file = pyproject()
    # Not parsed here: a file that is broken for somebody else is not our concern.
    return file is not None and ".".join(TABLE).encode() in file.read_bytes()
