"""Payloads too large for a row: files in `blobs/`, named by their content.

DuckDB reads and checkpoints a column 2,048 rows at a time, however large they are. Rows of 256 KiB
make a checkpoint fail once a few hundred of them are neighbours, and it fails again at every
opening. So a large payload becomes a file first, and its row holds a mark with the file's name. A
crash in between leaves a file that no row names, never a row whose file is missing.

Files that are named no more, or never were, are swept after an hour: a query of somebody's, a copy
of the folder that is being made, may still be about to read them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from nbdurable.core.ids import digest_of
from nbdurable.core.records import Lost, Row
from nbdurable.errors import JournalDamagedError
from nbdurable.store.files import BLOBS_FOLDER, damaged
from nbdurable.store.lock import write_private

# 2,048 rows of this size are 64 MiB, a quarter of the memory DuckDB may have; measured to hold up
# to 64 KiB, and to fail at 256 KiB.
ROW_PAYLOAD_BYTES_MAX: Final = 32 * 1024

# A user's bytes that happen to begin like this are kept in a file too, so that a mark is a mark.
MARK: Final = b"\x00nbdurable blob\x00"


# Longer than any query may take.
UNNAMED_KEPT_MS: Final = 60 * 60 * 1000


class Blobs:
    """Mutable: since when which files are known to be named by nobody."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / BLOBS_FOLDER
        self._unnamed_since_ms: dict[str, int] | None = None

    def take_out(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows as they are stored. Their large payloads are durable when this returns."""
        if not any(_is_apart(row.payload) for row in rows):
            return rows
        return [row._replace(payload=self._stored(row.payload)) for row in rows]

    def put_back(self, stored: tuple[object, ...]) -> Row:
        """The row as it was appended."""
        row = Row._make(stored)
        assert not isinstance(row.payload, Lost), "it is stored as the mark of its file"
        if row.payload is None or not row.payload.startswith(MARK):
            return row
        return row._replace(payload=self.content(row.payload))

    def put_back_or_lose(self, stored: tuple[object, ...]) -> Row:
        """The same, but what cannot be read is `Lost`: for whoever shows what there is."""
        try:
            return self.put_back(stored)
        except JournalDamagedError:
            row = Row._make(stored)
            assert isinstance(row.payload, bytes), "it names a file"
            return row._replace(payload=Lost(row.payload.removeprefix(MARK).decode()))

    def content(self, stored: bytes) -> bytes:
        """The bytes of a payload, be they in the row or in a file.

        Raises:
            JournalDamagedError: The file is missing or is not what was written.
        """
        if not stored.startswith(MARK):
            return stored
        path = self._folder / stored.removeprefix(MARK).decode()
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise damaged(path, "it is missing, though a fact names it") from None
        if digest_of(content) != path.name:
            raise damaged(path, "its content is not what its name says")
        return content

    def sweep(self, named: Collection[str], now_ms: int) -> None:
        """Remove the files that have not been named for an hour.

        Only by the writer thread, between two appends: in the midst of one there are files that
        are not yet named. Nobody can have been reading before the first sweep, at opening, so for
        that one only a file's own age counts.

        Args:
            named: By every fact of both databases, and by the state.
        """
        known, unnamed = self._unnamed_since_ms, {}
        for entry in self._entries():
            if entry.name in named:
                continue
            # What cannot be removed is in nobody's way; it is met again by the next sweep.
            with suppress(OSError):
                since_ms = entry.stat().st_mtime_ns // 1_000_000
                if known is not None:
                    since_ms = max(since_ms, known.get(entry.name, now_ms))
                if now_ms - since_ms >= UNNAMED_KEPT_MS:
                    Path(entry.path).unlink()
                else:
                    unnamed[entry.name] = since_ms
        self._unnamed_since_ms = unnamed

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._folder) as entries:
                return list(entries)
        except FileNotFoundError:
            return []

    def _stored(self, payload: bytes | Lost | None) -> bytes | None:
        if isinstance(payload, Lost):
            # The file that is gone: should it come back, what was copied from it is whole again.
            return MARK + payload.digest.encode()
        return self._keep(payload) if payload is not None and _is_apart(payload) else payload

    def _keep(self, payload: bytes) -> bytes:
        path = self._folder / digest_of(payload)
        # A file under its final name is whole; the same bytes are often stored again.
        if not path.exists() or path.stat().st_size != len(payload):
            write_private(path, payload)
        return MARK + path.name.encode()


def _is_apart(payload: bytes | Lost | None) -> bool:
    """Whether it is not stored in its row."""
    if payload is None or isinstance(payload, Lost):
        return payload is not None
    return len(payload) > ROW_PAYLOAD_BYTES_MAX or payload.startswith(MARK)
