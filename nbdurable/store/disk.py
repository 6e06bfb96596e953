"""What a journal takes of the disk. Looks at sizes only: its files must never be opened here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, NamedTuple

from nbdurable.errors import DiskFullError
from nbdurable.store.files import BLOBS_FOLDER, DATABASE_FILES

_STEP: Final = 1024
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


class DiskUse(NamedTuple):
    """Bytes by what they are of, and what is left of the disk."""

    database_bytes: int
    blob_bytes: int
    other_bytes: int
    free_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.database_bytes + self.blob_bytes + self.other_bytes


def disk_use(folder: Path) -> DiskUse:
    database = blobs = other = 0
    for path in folder.rglob("*"):
        try:
            size = path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            # It was absorbed, or collected, while we looked.
            continue
        part = path.relative_to(folder).parts[0]
        if part == BLOBS_FOLDER:
            blobs += size
        elif path.name.startswith(DATABASE_FILES):
            database += size
        else:
            other += size
    return DiskUse(database, blobs, other, shutil.disk_usage(folder).free)


def refuse_full(folder: Path, room_bytes: int) -> None:
    """Raises DiskFullError while there is less room than this."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < room_bytes:
        raise DiskFullError(
            f"The disk of the journal {folder} is full: {shown_bytes(free_bytes)} are free, and"
            f" {shown_bytes(room_bytes)} are wanted before it is written to again. What was"
            " acknowledged is safe."
        )


def shown_bytes(count: int) -> str:
    """Two digits that matter: 12.3 MiB."""
    size = float(count)
    for unit in _UNITS:
        if size < _STEP or unit == _UNITS[-1]:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= _STEP
    raise AssertionError("the last unit takes everything")
