"""Where a project's engine is served, for its other processes: what the owner says of itself.

The note may be of a process that is gone; whether somebody owns the journal is for the lock to say,
which goes with its process whatever happens to it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from nbdurable.store.lock import OWNER_FILE, is_held, program_of


class ServedAt(NamedTuple):
    """Who it is, its addresses, and the file that has the token; None when none is wanted.

    Units: started_at_ms – milliseconds since the epoch.
    """

    pid: int
    ingress: str
    admin: str
    token_file: Path | None
    started_at_ms: int
    version: str
    program: str = ""

    @property
    def who(self) -> str:
        """What a person knows it by."""
        return f"process {self.pid}{f' ({self.program})' if self.program else ''}"

    def headers(self) -> dict[str, str]:
        """What a request has to bring."""
        if self.token_file is None:
            return {}
        return {"authorization": f"Bearer {self.token_file.read_text(encoding='ascii').strip()}"}


def served_at(folder: Path) -> ServedAt | None:
    """None when nobody owns the journal now, or its owner does not serve it."""
    if not is_held(folder):
        return None
    try:
        note = json.loads((folder / OWNER_FILE).read_text(encoding="utf-8"))
        if note["ingress"] is None:
            return None
        token_file = note["token_file"]
        return ServedAt(
            int(note["pid"]),
            str(note["ingress"]),
            str(note["admin"]),
            None if token_file is None else Path(token_file),
            int(note["started_at_ms"]),
            str(note["version"]),
            program_of(note["program"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        # It is just taking the journal, or leaving it, or serves nothing.
        return None
