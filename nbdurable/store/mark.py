"""How far was acknowledged: one line in a file of its own, so that what goes missing is missed.

DuckDB opens a database whose write-ahead log was deleted as if there had never been one, and one
whose log has a harmed length in it as if it ended there. Both lose what was acknowledged without a
word. So the last lsn is written here after each commit and before its acknowledgement, and opening
a journal compares. Not synced: a power cut may leave a lower number, never one that is too high.

A file that is missing or harmed says nothing, and neither does that of another journal: it is a
witness, not a part of the journal.
"""

from __future__ import annotations

import os
import re
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final

MARK_FILE: Final = "acknowledged"

_LINE: Final = re.compile(rb"([0-9a-f]{32}) ([0-9]{20}) ([0-9a-f]{8})\n")


def read_mark(folder: Path, journal_id: str) -> int:
    """The last lsn that is known to have been acknowledged; 0 when nothing is known."""
    try:
        found = _LINE.fullmatch((folder / MARK_FILE).read_bytes())
    except OSError:
        return 0
    if found is None or found[0] != _line(found[1], int(found[2])):
        return 0
    return int(found[2]) if found[1] == journal_id.encode() else 0


def lower_mark(folder: Path, journal_id: str, lsn: int) -> None:
    """Give up what was acknowledged past `lsn`: somebody has decided so."""
    mark = Mark(folder, journal_id)
    mark.put(lsn)
    mark.close()


class Mark:
    """Mutable: the file, open for as long as the journal is. Used by the writer thread only."""

    def __init__(self, folder: Path, journal_id: str) -> None:
        self._journal_id = journal_id.encode()
        self._descriptor = -1
        with suppress(OSError):
            path = folder / MARK_FILE
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def put(self, lsn: int) -> None:
        """Costs 2 us. That it cannot be written is in nobody's way: the commit is durable."""
        with suppress(OSError):
            os.pwrite(self._descriptor, _line(self._journal_id, lsn), 0)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def _line(journal_id: bytes, lsn: int) -> bytes:
    said = b"%s %020d" % (journal_id, lsn)
    return b"%s %08x\n" % (said, zlib.crc32(said))
